"""Token weights: what they do to a text's vector, and that a saved model loads without us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.token_weights import fit_token_weights, power_for, weigh_tokens

TEXTS = ["the build is red", "the build is green", "the disk is full"]


def idf(model: SentenceTransformer, text: str) -> np.ndarray:
    ids = model.tokenizer(text)["input_ids"]
    held = [set(model.tokenizer(other)["input_ids"]) for other in TEXTS]
    frequencies = np.array([sum(token in other for other in held) for token in ids])
    return np.asarray(np.maximum(np.log((len(TEXTS) + 1) / (frequencies + 0.5)), 0.05))


def test_a_text_is_the_mean_of_its_tokens_weighed_by_idf(tiny_model: Path, tmp_path: Path) -> None:
    plain = SentenceTransformer(str(tiny_model), device="cpu")
    text = "the disk is red"
    tokens = plain.encode(text, output_value="token_embeddings")
    weights = idf(plain, text) ** 0.5
    assert len(set(weights.round(6))) > 1
    expected = (np.asarray(tokens) * weights[:, None]).sum(axis=0)
    weigh_tokens(plain, TEXTS, 0.5)
    found = plain.encode(text)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-6)
    plain.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(loaded.encode(text), found, atol=1e-6)
    weigh_tokens(loaded, TEXTS, 1.0)
    np.testing.assert_allclose(loaded.encode(text), found, atol=1e-6, err_msg="it weighs its tokens already")


def test_the_weights_stay_while_the_transformer_trains(tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    weigh_tokens(model, TEXTS, 1.0)
    features = model.tokenize(TEXTS)
    model.train()
    model(features)["sentence_embedding"].sum().backward()
    grown = {name for name, weight in model.named_parameters() if weight.grad is not None and torch.any(weight.grad != 0)}
    assert grown
    assert not any("emb_layer" in name for name in grown)


def test_a_model_that_pools_otherwise_and_no_texts_are_refused(tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    with pytest.raises(InputError, match="no texts"):
        weigh_tokens(model, [], 1.0)
    assert power_for(model) > 0
    model[1].pooling_mode = "cls"
    assert power_for(model) == 0, "a profile trains it as it is"
    with pytest.raises(InputError, match="token_weight_power"):
        weigh_tokens(model, TEXTS, 1.0)


def test_fitted_weights_are_the_idf_of_other_texts(tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    weigh_tokens(model, [*TEXTS, "disk disk", "red"], 0.75)
    before = model.encode("the disk is red")
    fit_token_weights(model, TEXTS)
    fitted = model.encode("the disk is red")
    assert np.abs(fitted - before).max() > 1e-3
    other = SentenceTransformer(str(tiny_model), device="cpu")
    weigh_tokens(other, TEXTS, 0.75)
    np.testing.assert_allclose(fitted, other.encode("the disk is red"), atol=1e-4)
    weighed = SentenceTransformer(str(tiny_model), device="cpu")
    fit_token_weights(weighed, TEXTS)
    np.testing.assert_array_equal(weighed.encode("the disk is red"), other.encode("the disk is red"), "it did not before")
