from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import FEATURES
from thread_embed_assets.reranker.features import NEW_THREAD_TEXT
from thread_embed_assets.reranker.model import FusedReranker, Reranker, load_reranker, new_reranker, pair_reader
from thread_embed_assets.reranker.onnx_reranker import padded
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets_tests.reranker.tiny_rerankers import drawn_inputs, tiny_config, tiny_cross_encoder
from thread_embed_assets_tests.training.tiny import build_tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def cross_encoder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(base, tmp_path_factory.mktemp("cross_encoder"))


def _reranker(base: Path, **fields: object) -> Reranker:
    torch.manual_seed(1)
    return new_reranker(tiny_config(base, **fields)).eval()


def _logits(model: Reranker, inputs: tuple[np.ndarray, ...]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(*(torch.from_numpy(values) for values in inputs))


def _step(model: Reranker) -> None:
    """Two, for of low-rank matrices one starts at zero and holds back the other's gradient."""
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=1.0)
    for _ in range(2):
        logits = model.train()(*(torch.from_numpy(values) for values in drawn_inputs(8)))
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 0] * 4)).backward()
        optimizer.step()


def test_padding_changes_nothing(base: Path) -> None:
    for pooling, joint_layers in (("cls", None), ("mean", 0), ("pair", None), ("pair", 1)):
        model = _reranker(base, pooling=pooling, joint_layers=joint_layers)
        ids, mask, features = drawn_inputs(3)
        filled = [np.pad(values, ((0, 0), (0, 6))) for values in (ids, mask)]
        torch.testing.assert_close(_logits(model, (*filled, features)), _logits(model, (ids, mask, features)))


def test_tokens_after_the_first_separator_are_the_threads(base: Path) -> None:
    model = _reranker(base, joint_layers=None)
    seen: dict[str, Any] = {}
    model.transformer.register_forward_pre_hook(lambda module, args, given: seen.update(given), with_kwargs=True)
    ids, mask, features = drawn_inputs(2)
    ids, mask = (np.pad(values, ((0, 0), (0, 2))) for values in (ids, mask))
    _logits(model, (ids, mask, features))
    assert seen["token_type_ids"].tolist() == [[0] * 4 + [1] * 6 + [0] * 2] * 2


def test_low_rank_matrices_head_and_projection_are_trained_and_nothing_else(base: Path) -> None:
    model = _reranker(base, adapter="lora")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    _step(model)
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    matrices = {name for name in before if "lora_" in name}
    fused = {name for name in before if name.startswith(("head.", "projection.", "pair.", "offset."))}
    assert len(matrices) == 2 * 2 * 2 and all(".query." in n or ".value." in n for n in matrices)
    assert len(fused) == 11
    assert changed == matrices | fused


def test_without_an_adapter_the_whole_transformer_is_trained(base: Path) -> None:
    model = _reranker(base, adapter="none")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    _step(model)
    same = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert all(".pooler." in name for name in same)


def test_a_merged_adapter_says_the_same_and_is_gone(base: Path) -> None:
    model = _reranker(base, adapter="lora")
    plain = set(_reranker(base, adapter="none").state_dict())
    fresh = _logits(model, drawn_inputs(4))
    _step(model)
    tuned = _logits(model, drawn_inputs(4))
    assert (tuned - fresh).abs().max() > 0.01
    model.merge_adapter()
    assert set(model.state_dict()) == plain
    torch.testing.assert_close(_logits(model, drawn_inputs(4)), tuned, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"adapter": "lora"}, {"pooling": "mean", "layers": 1}, {"kind": "late"}])
def test_what_is_saved_is_loaded(base: Path, cross_encoder: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    model = _reranker(cross_encoder if "kind" in fields else base, **fields)
    model.set_normalisation(np.full(5, 0.5, dtype=np.float32), np.array([2, 1, 0, 1, 1], dtype=np.float32))
    _step(model)
    wanted = _logits(model, drawn_inputs(4))
    model.save(tmp_path)
    torch.testing.assert_close(_logits(load_reranker(tmp_path), drawn_inputs(4)), wanted, atol=1e-5, rtol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["features"] == list(FEATURES) == list(described["feature_definitions"])
    assert described["feature_mean"] == [0.5] * 5
    assert described["feature_std"] == [2, 1, 1, 1, 1]  # one that never varies is not divided by
    assert described["reading"] == {"first": 2, "separator": 3, "max_tokens": 32, "message_tokens": 12}


def test_a_base_model_whose_layers_cannot_read_apart_is_refused(base: Path, tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8, vocab_size=99)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"distilbert.*joint_layers"):
        _reranker(tmp_path)
    assert _reranker(tmp_path, joint_layers=None, pooling="mean")


def test_in_bf16_the_logits_are_close_and_not_rounded(base: Path) -> None:
    model = _reranker(base)
    exact = _logits(model, drawn_inputs(50))
    rough = _logits(model.place_on(DeviceChoice("cpu", "bf16", "test")), drawn_inputs(50))
    assert 0 < (rough - exact).abs().max() < 0.02
    assert rough.dtype == torch.float32 and (rough.bfloat16() != rough).float().mean() > 0.9


def test_features_are_normalised_and_can_be_left_out(base: Path) -> None:
    ids, mask, features = drawn_inputs(4)
    model = _reranker(base)
    plain = _logits(model, (ids, mask, features))
    model.set_normalisation(np.full(5, 3, dtype=np.float32), np.full(5, 2, dtype=np.float32))
    torch.testing.assert_close(_logits(model, (ids, mask, features * 2 + 3)), plain)
    blind = _reranker(base, use_features=False)
    torch.testing.assert_close(_logits(blind, (ids, mask, features * 9)), _logits(blind, (ids, mask, features)))
    assert (_logits(model, (ids, mask, features * 9)) - plain).abs().max() > 0.01


def test_the_evidence_is_added_as_it_is_weighed(base: Path) -> None:
    inputs = drawn_inputs(4)
    model = _reranker(base)
    assert isinstance(model, FusedReranker)
    plain, weights = _logits(model, inputs), np.random.default_rng(0).normal(size=15).astype(np.float32)
    with torch.no_grad():
        evidence = model.evidence(*(torch.from_numpy(values) for values in inputs)).numpy()
    model.begin_with(weights, -1.5)
    wanted = torch.from_numpy(evidence @ weights - 1.5)
    torch.testing.assert_close(_logits(model, inputs) - plain, wanted, atol=1e-5, rtol=1e-4)


def test_a_new_thread_has_evidence_of_its_own_and_no_cosines(base: Path, tmp_path: Path) -> None:
    model = _reranker(base, max_tokens=32)
    assert isinstance(model, FusedReranker)
    model.save(tmp_path)
    model.set_normalisation(np.full(5, 0.5, dtype=np.float32), np.full(5, 2, dtype=np.float32))
    read = pair_reader(tmp_path).pairs(["baka dela"] * 3, [NEW_THREAD_TEXT, f"{NEW_THREAD_TEXT} fimi", "baka"])
    features = np.linspace(-1, 2, 15, dtype=np.float32).reshape(3, 5)
    with torch.no_grad():
        evidence = model.evidence(*(torch.from_numpy(values) for values in (*padded(read), features))).numpy()
    normalised = (features - 0.5) / 2
    np.testing.assert_allclose(evidence[:, :5], normalised, atol=1e-6)
    assert evidence[:, 5].tolist() == [1, 0, 0]
    np.testing.assert_allclose(evidence[:, 6:11], normalised * np.array([[1], [0], [0]]), atol=1e-6)
    assert (evidence[0, 11:] == 0).all() and (np.abs(evidence[1:, 11:]) > 1e-3).all()


def test_late_fusion_starts_as_the_cross_encoder_and_learns(base: Path, cross_encoder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = _reranker(cross_encoder, kind="late", adapter="none")
    ids, mask, features = drawn_inputs(4)
    own = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    types = torch.tensor([[0] * 4 + [1] * 6] * 4)
    with torch.no_grad():
        wanted = own(torch.from_numpy(ids), torch.from_numpy(mask), types).logits.squeeze(1)
    torch.testing.assert_close(_logits(model, (ids, mask, features)), wanted)
    _step(model)
    moved = _logits(model, (ids, mask, features + 1)) - _logits(model, (ids, mask, features))
    assert moved.abs().max() > 1e-3


def test_a_base_model_that_reads_too_little_is_refused(base: Path) -> None:
    with pytest.raises(InputError, match="64 tokens at most"):
        new_reranker(tiny_config(base, max_tokens=65))


def test_a_damaged_folder_says_so(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no whole reranker"):
        load_reranker(tmp_path)
    _reranker(base, adapter="none").save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="no whole reranker"):
        load_reranker(tmp_path)
    _reranker(base, adapter="none", head_size=9).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model": config["model"] | {"head_size": 7}}))
    with pytest.raises(InputError, match="do not fit"):
        load_reranker(tmp_path)
