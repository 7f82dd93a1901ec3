from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from thread_embed_assets.reranker.model import FusedReranker, new_reranker
from thread_embed_assets.reranker.thread_states import JointScorer, ThreadReader
from thread_embed_assets.reranker.vectors import Parts, read_apart
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config
from thread_embed_assets_tests.training.tiny import build_tiny_model

SEPARATOR = 3
MESSAGE = [2, 10, 11, 12, SEPARATOR]
THREADS = [[20, 21, 22, SEPARATOR], [30, SEPARATOR], [40, 41, 42, 43, 44, 45, SEPARATOR]]
FEATURES = torch.linspace(-1, 2, 20).reshape(4, 5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def _model(base: Path, joint_layers: int, pooling: str = "pair") -> FusedReranker:
    torch.manual_seed(1)
    model = new_reranker(tiny_config(base, joint_layers=joint_layers, pooling=pooling, adapter="none")).eval()
    assert isinstance(model, FusedReranker)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 10)
    return model


def _padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, (ids > 0).long()


@torch.inference_mode()
def test_a_thread_alone_is_read_as_beside_a_message(base: Path) -> None:
    model = _model(base, joint_layers=0)
    ids, mask = _padded([MESSAGE + thread for thread in THREADS])
    beside = read_apart(model.transformer, ids, Parts.of(ids, mask, SEPARATOR), 0)
    states = ThreadReader(model)(*_padded(THREADS))
    for place, thread in enumerate(THREADS):
        wanted = beside[place, len(MESSAGE) : len(MESSAGE) + len(thread)]
        torch.testing.assert_close(states[place, : len(thread)], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("joint_layers", "pooling"), [(0, "pair"), (1, "pair"), (2, "cls"), (1, "mean")])
@torch.inference_mode()
def test_with_threads_that_are_read_the_logits_are_the_model_s(base: Path, joint_layers: int, pooling: str) -> None:
    model = _model(base, joint_layers, pooling)
    threads = [*THREADS, [*model.new_thread.tolist(), SEPARATOR]]
    thread_ids, thread_mask = _padded(threads)
    states = ThreadReader(model)(thread_ids, thread_mask)
    wanted = model(*_padded([MESSAGE + thread for thread in threads]), FEATURES)
    found = JointScorer(model)(torch.tensor([MESSAGE]), states, thread_ids, thread_mask, FEATURES)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
