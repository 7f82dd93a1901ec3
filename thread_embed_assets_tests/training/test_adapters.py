from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from thread_embed_assets.training.adapters import choose_trained_weights, merge_adapter, restore_weights, trained_weights
from thread_embed_assets.training.config import StageConfig

TEXTS = ["the build is red again", "who took the projector", "lunch at noon?"]


def _load(path: Path) -> SentenceTransformer:
    return SentenceTransformer(str(path), device="cpu").eval()


def _embeddings(model: SentenceTransformer) -> torch.Tensor:
    return model.encode(TEXTS, convert_to_tensor=True)


def test_word_embeddings_are_left_out_when_frozen(tiny_model: Path) -> None:
    model = _load(tiny_model)
    everything = set(trained_weights(model))
    choose_trained_weights(model, StageConfig(freeze_word_embeddings=True))
    [left_out] = everything - set(trained_weights(model))
    assert left_out.endswith("word_embeddings.weight")


def test_lora_trains_only_small_matrices_and_starts_as_the_model(tiny_model: Path) -> None:
    model = _load(tiny_model)
    before = _embeddings(model)
    choose_trained_weights(model, StageConfig(adapter="lora", lora_rank=2))
    weights = trained_weights(model)
    assert weights and all("lora_" in name and 2 in weight.shape for name, weight in weights.items())
    torch.testing.assert_close(_embeddings(model), before)


def test_a_merged_model_is_a_plain_one_that_says_the_same(tiny_model: Path, tmp_path: Path) -> None:
    model = _load(tiny_model)
    names = set(model.state_dict())
    torch.manual_seed(1)
    choose_trained_weights(model, StageConfig(adapter="lora", lora_rank=2))
    restore_weights(model, {name: torch.randn_like(weight) / 4 for name, weight in trained_weights(model).items()})
    tuned = _embeddings(model)
    assert (tuned - _embeddings(_load(tiny_model))).abs().max() > 0.01
    merge_adapter(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(_embeddings(model), tuned, atol=1e-5, rtol=1e-4)
    model.save_pretrained(str(tmp_path / "merged"), create_model_card=False)
    assert not list((tmp_path / "merged").rglob("adapter*"))
    torch.testing.assert_close(_embeddings(_load(tmp_path / "merged")), tuned, atol=1e-5, rtol=1e-4)


def test_weights_of_another_model_are_refused(tiny_model: Path) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        restore_weights(_load(tiny_model), {"nowhere": torch.zeros(1)})
