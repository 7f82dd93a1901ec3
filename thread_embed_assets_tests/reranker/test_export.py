from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker import export
from thread_embed_assets.reranker.candidates import FEATURES, Candidate
from thread_embed_assets.reranker.export import Exported, export_reranker
from thread_embed_assets.reranker.model import load_reranker, new_reranker, pair_reader
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL_INT8, OnnxReranker, padded
from thread_embed_assets.reranker.train import HISTORY, RerankerCheckpoint
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config, tiny_cross_encoder
from thread_embed_assets_tests.training.tiny import WORDS, build_tiny_model

MESSAGE = "baka dela [SEP] fimi"
FILES = {
    "config.json", "joint.onnx", "joint_int8.onnx", "model.onnx", "model.safetensors", "model_int8.onnx", "onnx_reranker.py",
    "threads.onnx", "tokenizer.json", HISTORY,
}  # fmt: skip


def _checkpoint(folder: Path, base: Path, **fields: object) -> RerankerCheckpoint:
    """As training leaves one, with weights far from zero everywhere."""
    torch.manual_seed(4)
    model = new_reranker(tiny_config(base, **fields))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 10)
    model.set_normalisation(np.full(5, 0.7, dtype=np.float32), np.full(5, 0.4, dtype=np.float32))
    (folder / "model").mkdir(parents=True)
    model.save(folder / "model")
    (folder / HISTORY).write_text('{"steps": [], "epochs": []}')
    return RerankerCheckpoint(folder, {})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RerankerCheckpoint:
    return _checkpoint(tmp_path_factory.mktemp("run") / "lora", base)


@pytest.fixture(scope="module")
def exported(checkpoint: RerankerCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_reranker(checkpoint, tmp_path_factory.mktemp("package") / "thread-reranker")


def _candidates(count: int) -> list[Candidate]:
    draw = np.random.default_rng(5)
    texts = [" ".join(draw.choice(WORDS, 1 + 4 * place)) for place in range(count)]
    return [Candidate(str(n), text, draw.uniform(0, 3, len(FEATURES)).astype(np.float32)) for n, text in enumerate(texts)]


def _in_torch(folder: Path, message: str, candidates: list[Candidate]) -> np.ndarray:
    rows = pair_reader(folder).pairs([message] * len(candidates), [c.text for c in candidates])
    inputs = (*padded(rows), np.stack([c.features for c in candidates]))
    with torch.no_grad():
        return load_reranker(folder)(*(torch.from_numpy(values) for values in inputs)).numpy()


def test_the_package_is_whole(exported: Exported) -> None:
    assert {path.name for path in exported.folder.iterdir()} == FILES
    graph = onnx.load(exported.folder / "model.onnx").graph
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    assert list(shapes) == ["input_ids", "attention_mask", "structured_features"]
    pairs, tokens = shapes["input_ids"]
    assert isinstance(pairs, str) and isinstance(tokens, str)
    assert shapes["attention_mask"] == [pairs, tokens] and shapes["structured_features"] == [pairs, 5]
    config = json.loads((exported.folder / "config.json").read_text())
    assert set(config["feature_definitions"]) == set(FEATURES) and config["half_life_hours"] > 0


_SCORE = """
import json, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
spec = spec_from_file_location("onnx_reranker", folder / "onnx_reranker.py")
module = sys.modules["onnx_reranker"] = module_from_spec(spec)
spec.loader.exec_module(module)
candidates = [SimpleNamespace(text=text, features=features) for text, features in given["candidates"]]
logits = module.OnnxReranker(folder).logits(given["message"], candidates)
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"logits": logits.tolist(), "loaded": sorted(loaded)}))
"""


def test_the_package_alone_scores_as_torch_does(checkpoint: RerankerCheckpoint, exported: Exported, tmp_path: Path) -> None:
    """In a process that has neither torch nor this package: the scorer is loaded from the exported folder."""
    candidates = _candidates(20)
    given = {"message": MESSAGE, "candidates": [(c.text, c.features.tolist()) for c in candidates]}
    done = subprocess.run(
        [sys.executable, "-c", _SCORE, str(exported.folder), json.dumps(given)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert not {"torch", "transformers", "peft", "onnx", "pyarrow", "thread_embed_assets"} & set(found["loaded"])
    assert {"onnxruntime", "tokenizers", "numpy"} <= set(found["loaded"])
    wanted = _in_torch(checkpoint.model, MESSAGE, candidates)
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-4)


@pytest.mark.parametrize(
    "fields", [{"adapter": "lora", "joint_layers": None}, {"pooling": "mean", "layers": 1}, {"kind": "late"}]
)
def test_other_kinds_score_the_same(base: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    start = tiny_cross_encoder(base, tmp_path / "cross_encoder") if "kind" in fields else base
    checkpoint = _checkpoint(tmp_path / "run", start, **fields)
    found = export_reranker(checkpoint, tmp_path / "package", quantised=False)
    assert found.difference <= 1e-4 and found.difference_int8 is None
    scored = OnnxReranker(found.folder).logits(MESSAGE, _candidates(9))
    np.testing.assert_allclose(scored, _in_torch(checkpoint.model, MESSAGE, _candidates(9)), atol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"joint_layers": 1}, {"pooling": "cls", "joint_layers": 2}, {"pooling": "mean"}])
def test_in_two_parts_it_scores_the_same(base: Path, tmp_path: Path, fields: dict[str, object]) -> None:
    checkpoint = _checkpoint(tmp_path / "run", base, **fields)
    package = export_reranker(checkpoint, tmp_path / "package", quantised=False).folder
    wanted = _in_torch(checkpoint.model, MESSAGE, _candidates(11))
    reranker = OnnxReranker(package, model=JOINT)
    for _ in range(2):
        np.testing.assert_allclose(reranker.logits(MESSAGE, _candidates(11)), wanted, atol=1e-4)


def test_a_thread_is_read_once_until_it_goes_on(exported: Exported) -> None:
    reranker, plain = (OnnxReranker(exported.folder, model=name) for name in (JOINT, "model.onnx"))
    assert reranker._joint is not None
    read = _Counted(reranker._joint._memory._session)
    reranker._joint._memory._session = read
    candidates = _candidates(11)
    for message in (MESSAGE, "dela fimi", MESSAGE):
        np.testing.assert_allclose(reranker.logits(message, candidates), plain.logits(message, candidates), atol=1e-4)
    assert read.threads == 11
    candidates[4] = Candidate("4", candidates[4].text + " dela", candidates[4].features)
    np.testing.assert_allclose(reranker.logits(MESSAGE, candidates), plain.logits(MESSAGE, candidates), atol=1e-4)
    assert read.threads == 12


def test_the_threads_asked_for_last_are_remembered(exported: Exported) -> None:
    reranker = OnnxReranker(exported.folder, model=JOINT, remembered=3)
    assert reranker._joint is not None
    read = _Counted(reranker._joint._memory._session)
    reranker._joint._memory._session = read
    a, b, c, d, e = _candidates(5)
    reranker.logits(MESSAGE, [a, b, c])
    reranker.logits(MESSAGE, [a, d])  # b is the one that was asked for the longest ago
    reranker.logits(MESSAGE, [c, a, d])
    assert read.threads == 4 and len(reranker._joint._memory._kept) == 3
    reranker.logits(MESSAGE, [b])
    assert read.threads == 5
    assert len(reranker.logits(MESSAGE, [a, b, c, d, e])) == 5, "more than it remembers"


class _Counted:
    """A session that counts the threads it has read."""

    def __init__(self, session: Any) -> None:
        self._session, self.threads = session, 0

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.threads += len(feed["thread_ids"])
        return self._session.run(names, feed)


def test_any_number_of_candidates_is_scored_in_their_order(exported: Exported) -> None:
    reranker = OnnxReranker(exported.folder)
    candidates = _candidates(11)
    together = reranker.logits(MESSAGE, candidates)
    assert reranker.logits(MESSAGE, []).shape == (0,)
    for place in (0, 4, 10):
        np.testing.assert_allclose(reranker.logits(MESSAGE, [candidates[place]]), together[place], atol=1e-5)
    np.testing.assert_allclose(reranker.logits(MESSAGE, candidates[::-1]), together[::-1], atol=1e-5)


def test_eight_bits_are_close(exported: Exported) -> None:
    exact = OnnxReranker(exported.folder).logits(MESSAGE, _candidates(9))
    for name in (MODEL_INT8, JOINT_INT8):
        rounded = OnnxReranker(exported.folder, model=name).logits(MESSAGE, _candidates(9))
        assert 0 < np.abs(exact - rounded).max() < 0.3
    assert exported.difference_int8 is not None and 0 < exported.difference_int8 < 0.3


def test_features_that_do_not_fit_are_refused(exported: Exported) -> None:
    reranker = OnnxReranker(exported.folder)
    for features in (np.zeros(4, dtype=np.float32), np.full(5, np.nan, dtype=np.float32)):
        with pytest.raises(ValueError, match="5 finite features: entity_overlap"):
            reranker.logits(MESSAGE, [Candidate("a", "baka", features)])


def test_a_folder_that_is_no_package_says_so(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no exported reranker"):
        OnnxReranker(tmp_path)
    for path in filter(Path.is_file, exported.folder.iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="how texts are read"):
        OnnxReranker(tmp_path)


def test_an_export_that_scores_otherwise_is_refused(
    checkpoint: RerankerCheckpoint, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "kept").touch()
    exact = (exported.folder / "model.onnx").read_bytes()
    monkeypatch.setattr(export, "write_onnx", lambda model, path: path.write_bytes(_wrong(exact)))
    with pytest.raises(InputError, match="differ from torch's by"):
        export_reranker(checkpoint, package)
    assert [path.name for path in package.iterdir()] == ["kept"]


def _wrong(exact: bytes) -> bytes:
    """The model with one bias of its head moved."""
    model = onnx.load_from_string(exact)
    [bias] = [i for i in model.graph.initializer if i.name == "head.3.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    return model.SerializeToString()
