from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from sentence_transformers import SentenceTransformer

from thread_embed_assets.errors import InputError
from thread_embed_assets.release import export
from thread_embed_assets.release.export import Exported, export_model
from thread_embed_assets.release.onnx_embedder import MODEL_INT8, OnnxEmbedder
from thread_embed_assets.release.package import exported_encodes_the_same, publish
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.release.packages import FACTS, TEXTS, trained_model

FILES = {
    "LICENSE", "README.md", "chat_text.py", "config.json", "config_sentence_transformers.json", "model.onnx",
    "model_int8.onnx", "onnx_embedder.py", "thread_embed.json", "tokenizer.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Layout:
    """A root with a model package; nobody writes in it, but the fixture below."""
    layout = Layout(tmp_path_factory.mktemp("root"))
    publish(trained_model(tiny_model, layout.models / "checkpoints"), layout, FACTS)
    return layout


@pytest.fixture(scope="module")
def exported(layout: Layout) -> Exported:
    return export_model(layout.promoted_model, layout.onnx_package)


@pytest.fixture(scope="module")
def in_torch(layout: Layout) -> SentenceTransformer:
    return SentenceTransformer(str(layout.promoted_model), device="cpu")


def test_the_package_is_whole_and_any_number_of_texts_and_tokens_fits(exported: Exported) -> None:
    assert {path.name for path in exported.folder.iterdir()} == FILES
    graph = onnx.load(exported.folder / "model.onnx").graph
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}
    assert list(shapes) == ["input_ids", "attention_mask"] and all(isinstance(n, str) for n in shapes["input_ids"])
    config = json.loads((exported.folder / "config.json").read_text())
    assert config["dimension"] == 32 and config["max_tokens"] == 64 and config["text_format"] == "speakers"
    card = (exported.folder / "README.md").read_text()
    assert (
        f"differ from torch's by {exported.difference:.1g} at most" in card
        and "OnnxEmbedder(folder, truncate_dim=16)" in card
    )
    assert f"least cosine of its vectors with torch's is {exported.cosine_int8:.3f}" in card


_ENCODE = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from chat_text import chat_text
from onnx_embedder import OnnxEmbedder

texts = [*json.loads(sys.argv[2]), chat_text([{"author": "ann", "text": "fimi gola"}])]
vectors = OnnxEmbedder(Path(sys.argv[1])).encode(texts)
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"vectors": vectors.tolist(), "loaded": sorted(loaded), "last": texts[-1]}))
"""


def test_the_folder_alone_encodes_as_torch_does(exported: Exported, in_torch: SentenceTransformer, tmp_path: Path) -> None:
    """In a process that has neither torch nor this package."""
    command = [sys.executable, "-I", "-c", _ENCODE, str(exported.folder), json.dumps(TEXTS)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert not {"torch", "transformers", "onnx", "sentence_transformers", "thread_embed_assets"} & set(found["loaded"])
    assert found["last"] == "speaker_1: fimi gola"
    wanted = in_torch.encode([*TEXTS, found["last"]])
    np.testing.assert_allclose(found["vectors"], wanted, atol=1e-4)
    assert exported.difference <= 1e-4


@pytest.mark.parametrize("dim", [32, 16, 1])
def test_order_batches_and_shorter_vectors(exported: Exported, in_torch: SentenceTransformer, dim: int) -> None:
    embedder = OnnxEmbedder(exported.folder, truncate_dim=dim)
    texts = [" ".join(TEXTS[0:1] * n) for n in (5, 1, 40, 3, 200, 2)] + TEXTS
    wanted = in_torch.encode(texts, truncate_dim=dim, normalize_embeddings=True)
    for size in (1, 3, 64):
        np.testing.assert_allclose(embedder.encode(texts, batch_size=size), wanted, atol=1e-4)
    assert embedder.encode([]).shape == (0, dim)


def test_a_prompt_is_put_before_the_text(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "prompts": {"query": "baka ", "document": ""}}))
    embedder = OnnxEmbedder(folder)
    np.testing.assert_array_equal(embedder.encode(["dela"], "query"), embedder.encode(["baka dela"]))
    np.testing.assert_array_equal(embedder.encode(["dela"], "document"), embedder.encode(["dela"]))


def test_eight_bits_are_close_and_smaller(exported: Exported) -> None:
    exact, rounded = (OnnxEmbedder(exported.folder, model=name).encode(TEXTS) for name in ("model.onnx", MODEL_INT8))
    cosines = (exact * rounded).sum(axis=1)
    assert 0.95 < cosines.min() < 1 and exported.cosine_int8 is not None and 0.95 < exported.cosine_int8 < 1


def test_an_export_that_embeds_otherwise_is_refused_and_found(
    exported: Exported, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: token weights that the graph lost, or that were changed in it."""
    exact = (exported.folder / "model.onnx").read_bytes()
    wrong = _other_weights(exact)
    package = tmp_path / "kept"
    package.mkdir()
    (package / "old").touch()
    monkeypatch.setattr(export, "write_onnx", lambda _, path: path.write_bytes(wrong))
    with pytest.raises(InputError, match="differ from torch's by"):
        export_model(layout.promoted_model, package)
    assert [path.name for path in package.iterdir()] == ["old"]

    copy = Layout(shutil.copytree(layout.root, tmp_path / "root"))
    assert exported_encodes_the_same(copy).passed
    (copy.onnx_package / "model.onnx").write_bytes(wrong)
    verdict = exported_encodes_the_same(copy)
    assert not verdict.passed and verdict.numbers["difference"] > 1e-3
    (copy.onnx_package / "model.onnx").write_bytes(exact)
    details = copy.onnx_package / "thread_embed.json"
    details.write_text(details.read_text().replace("0123456789abcdef", "f" * 16))
    assert "exported from another model" in exported_encodes_the_same(copy).description
    shutil.rmtree(copy.onnx_package)
    assert not exported_encodes_the_same(copy).passed


def test_eight_bits_that_lost_the_model_are_refused_and_found(
    exported: Exported, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "quantise", lambda exact, target: target.write_bytes(_turned(exact.read_bytes())))
    with pytest.raises(InputError, match=r"model_int8.onnx with torch's is -1\.000, below 0\.95"):
        export_model(layout.promoted_model, tmp_path / "package")
    assert not (tmp_path / "package").exists()
    copy = Layout(shutil.copytree(layout.root, tmp_path / "root"))
    (copy.onnx_package / "model_int8.onnx").write_bytes(_turned((exported.folder / "model.onnx").read_bytes()))
    verdict = exported_encodes_the_same(copy)
    assert not verdict.passed and verdict.numbers["cosine_int8"] < 0.95 and verdict.numbers["difference"] <= 1e-4
    (copy.onnx_package / "model_int8.onnx").unlink()
    verdict = exported_encodes_the_same(copy)
    assert verdict.passed and "cosine_int8" not in verdict.numbers, "eight bits are not asked for"


def _turned(exact: bytes) -> bytes:
    """The model whose vectors point the other way."""
    model = onnx.load_from_string(exact)
    [last] = [node for node in model.graph.node if export.OUTPUT in node.output]
    last.output[:] = ["before"]
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], [export.OUTPUT]))
    return bytes(model.SerializeToString())


def _other_weights(exact: bytes) -> bytes:
    """The model with the weight of every token set to 1."""
    model = onnx.load_from_string(exact)
    [weights] = [i for i in model.graph.initializer if i.name.endswith("emb_layer.weight")]
    ones = np.ones_like(onnx.numpy_helper.to_array(weights))
    weights.CopyFrom(onnx.numpy_helper.from_array(ones, weights.name))
    return bytes(model.SerializeToString())


def test_a_folder_that_is_no_package_and_too_long_vectors_are_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no exported model"):
        OnnxEmbedder(tmp_path)
    with pytest.raises(ValueError, match="truncate_dim is 64, and the model has 32"):
        OnnxEmbedder(exported.folder, truncate_dim=64)
    with pytest.raises(InputError, match="does not load"):
        export_model(tmp_path, tmp_path / "package")
