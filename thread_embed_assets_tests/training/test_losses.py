"""Ours against the library's losses over the same texts, and what a guide leaves out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
)

from thread_embed_assets.training.config import Loss, StageConfig
from thread_embed_assets.training.losses import LOSSES, build_loss
from thread_embed_assets_tests.training.tiny import WORDS

Build = Callable[[SentenceTransformer, SentenceTransformer], torch.nn.Module]


def _infonce(model: SentenceTransformer, guide: SentenceTransformer) -> torch.nn.Module:
    del guide
    directions = ("query_to_doc", "doc_to_query")
    return CachedMultipleNegativesRankingLoss(
        model, scale=20.0, mini_batch_size=64, directions=directions, partition_mode="per_direction"
    )


def _gist(model: SentenceTransformer, guide: SentenceTransformer) -> torch.nn.Module:
    return CachedGISTEmbedLoss(model, guide, temperature=0.05, mini_batch_size=64, margin_strategy="relative", margin=0.05)


LIBRARY: dict[Loss, Build] = {"infonce": _infonce, "gist": _gist}


def _batch(rows: int = 11, columns: int = 4) -> list[list[str]]:
    """Texts of two to fourteen words, so that sorting by length moves nearly all of them."""
    draw = random.Random(1)
    return [[" ".join(draw.choices(WORDS, k=draw.randint(2, 14))) for _ in range(rows)] for _ in range(columns)]


def _load(path: Path) -> SentenceTransformer:
    return SentenceTransformer(str(path), device="cpu").eval()  # no dropout: its draws follow the order of texts


def _step(model: SentenceTransformer, loss: torch.nn.Module, batch: list[list[str]]) -> tuple[float, torch.Tensor]:
    value = loss([model.preprocess(column) for column in batch], None)
    (value / 2).backward()
    return value.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("gradient_cache", [False, True])
@pytest.mark.parametrize("name", get_args(Loss))
def test_value_and_gradient_are_the_librarys_in_any_mini_batches(name: Loss, gradient_cache: bool, tiny_model: Path) -> None:
    config = StageConfig(
        base_model=str(tiny_model), loss=name, mini_batch_size=4, gradient_cache=gradient_cache, matryoshka_dims=(32, 16)
    )
    ours = _load(tiny_model)
    value, gradient = _step(ours, build_loss(ours, config), _batch())
    theirs = _load(tiny_model)
    inner = LIBRARY[name](theirs, _load(tiny_model))
    expected_value, expected = _step(theirs, MatryoshkaLoss(theirs, inner, [32, 16]), _batch())
    assert value == pytest.approx(expected_value, rel=1e-4)
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_without_a_gradient_cache_no_text_is_embedded_twice(tiny_model: Path) -> None:
    seen = {}
    for cached in (False, True):
        model = _load(tiny_model)
        rows: list[int] = []
        model[0].register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(len(inputs[0]["input_ids"])))
        loss = build_loss(model, StageConfig(base_model=str(tiny_model), mini_batch_size=4, gradient_cache=cached))
        _step(model, loss, _batch(columns=2))
        seen[cached] = sum(rows)
    assert seen == {False: 22, True: 44}


def test_mini_batches_hold_texts_of_like_lengths(tiny_model: Path) -> None:
    model = _load(tiny_model)
    cells: list[int] = []
    model[0].register_forward_pre_hook(lambda _, inputs: cells.append(inputs[0]["input_ids"].numel()))
    loss = build_loss(model, StageConfig(base_model=str(tiny_model), mini_batch_size=4))
    batch = _batch(rows=32, columns=2)
    features = [model.preprocess(column) for column in batch]
    tokens = sum(int(column["attention_mask"].sum()) for column in features)
    padded = sum(column["input_ids"].numel() for column in features)
    loss(features, None)
    assert tokens <= sum(cells) < tokens + (padded - tokens) / 3


def test_a_guide_leaves_out_what_it_takes_for_a_positive(tiny_model: Path) -> None:
    """To a random model all texts are alike, so that a wide margin leaves out every negative and a narrow one only some."""
    losses = {}
    for margin in (0.0, 0.05, 0.99):
        model = _load(tiny_model)
        config = StageConfig(base_model=str(tiny_model), loss="gist", gist_margin=margin)
        losses[margin] = _step(model, build_loss(model, config), _batch())[0]
    assert losses[0.0] > losses[0.05] > losses[0.99] == pytest.approx(0, abs=1e-6)


def test_the_guide_is_not_trained(tiny_model: Path) -> None:
    model = _load(tiny_model)
    loss: Any = build_loss(model, StageConfig(base_model=str(tiny_model), loss="gist"))
    _step(model, loss, _batch())
    guide = loss.loss.guide
    assert guide is not model and not any(weight.requires_grad or weight.grad is not None for weight in guide.parameters())


def test_every_declared_loss_has_a_builder() -> None:
    assert set(get_args(Loss)) == set(LOSSES)
