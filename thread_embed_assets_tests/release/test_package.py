from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.package import loads_plainly_and_encodes_the_same, publish
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.release.packages import FACTS, SOURCE, STAGE, TEXTS, trained_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A root whose one checkpoint has been published; nobody writes in it."""
    root = tmp_path_factory.mktemp("root")
    publish(trained_model(tiny_model, Layout(root).models / "checkpoints"), Layout(root), FACTS)
    return root


@pytest.fixture
def layout(trained: Path, tmp_path: Path) -> Layout:
    """A copy of it, to spoil at will."""
    shutil.copytree(trained, tmp_path / "root")
    return Layout(tmp_path / "root")


def _checkpoint(layout: Layout) -> Path:
    return layout.checkpoints("all", "stage1") / STAGE["fingerprint"] / "model"


def test_the_package_is_in_the_hubs_format_and_encodes_as_it_was_trained(layout: Layout) -> None:
    from sentence_transformers import SentenceTransformer

    folder = layout.promoted_model
    assert folder == layout.root / "models" / "thread-embed"
    published, trained = (SentenceTransformer(str(f), device="cpu") for f in (folder, _checkpoint(layout)))
    np.testing.assert_allclose(published.encode(TEXTS), trained.encode(TEXTS), atol=1e-5)
    assert published.similarity_fn_name == "cosine" and published.prompts == {"query": "", "document": ""}
    short = SentenceTransformer(str(folder), device="cpu", truncate_dim=16).encode(TEXTS)
    np.testing.assert_allclose(short, trained.encode(TEXTS)[:, :16], atol=1e-5)
    modules = json.loads((folder / "modules.json").read_text())
    assert [m["path"] for m in modules] == ["", "1_WordWeights", "1_Pooling", "3_Normalize"]
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert settings["text_format"] == "speakers" and settings["matryoshka_dims"] == [32, 16]
    for name in ("tokenizer.json", "model.safetensors", "1_Pooling/config.json", "README.md", "chat_text.py", "LICENSE"):
        assert (folder / name).is_file(), name


def test_the_licence_that_goes_along_is_the_projects_and_does_not_where_texts_are_withheld(layout: Layout) -> None:
    project = Path(__file__).parents[2] / "LICENSE"
    assert (layout.promoted_model / "LICENSE").read_bytes() == project.read_bytes()
    publish(_checkpoint(layout), layout, replace(FACTS, sources={"own": {**SOURCE, "redistribute": False}}))
    assert not (layout.promoted_model / "LICENSE").exists()


_PLAINLY = """
import json, sys

sys.path.append(sys.argv[1])
from chat_text import chat_text
from sentence_transformers import SentenceTransformer

text = chat_text([{"author": "ann", "text": "fimi gola"}])
vectors = SentenceTransformer(sys.argv[1], device="cpu").encode([text])
print(json.dumps([text, vectors.tolist(), "thread_embed_assets" in sys.modules]))
"""


def test_it_loads_and_writes_chat_where_this_code_is_not(layout: Layout, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    command = [sys.executable, "-I", "-c", _PLAINLY, str(layout.promoted_model)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    text, vectors, ours = json.loads(done.stdout)
    assert text == "speaker_1: fimi gola" and ours is False
    wanted = SentenceTransformer(str(_checkpoint(layout)), device="cpu").encode([text])
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_the_check_passes_what_was_published_and_names_planted_faults(layout: Layout) -> None:
    from safetensors.numpy import load_file, save_file

    verdict = loads_plainly_and_encodes_the_same(layout)
    assert verdict.passed and verdict.numbers["difference"] <= 1e-5, verdict.description
    folder, kept = layout.promoted_model, layout.root / "kept"
    shutil.copytree(folder, kept)

    def verdict_of(spoil: str, old: str, new: str) -> str:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        path = folder / spoil
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        found = loads_plainly_and_encodes_the_same(layout)
        assert not found.passed
        return found.description

    own = verdict_of("modules.json", '"sentence_transformers.', '"my_modules.')
    assert "needs code that is not the library's: my_modules." in own
    assert "different text formats" in verdict_of("config_sentence_transformers.json", '"speakers"', '"plain"')
    assert "differ from those" in verdict_of("1_WordWeights/config.json", '"##e": ', '"##e": 1')
    assert "does not load" in verdict_of("config.json", "{", "")
    weights = load_file(kept / "model.safetensors")
    save_file({n: w * np.float32(1.01) for n, w in weights.items()}, kept / "model.safetensors", {"format": "pt"})
    assert "differ from" in verdict_of("README.md", "# thread-embed", "# other")
    shutil.rmtree(_checkpoint(layout).parent)
    assert "checkpoint that the promoted model was taken from" in loads_plainly_and_encodes_the_same(layout).description


def test_a_failure_leaves_the_old_model(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    old, checkpoint = of_folder(layout.promoted_model), _checkpoint(layout)
    broken = layout.root / "broken"
    shutil.copytree(checkpoint, broken)
    for weights in broken.rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="does not load"):
        publish(broken, layout, FACTS)
    with pytest.raises(InputError, match="not the folder of a SentenceTransformer"):
        publish(layout.root / "nowhere", layout, FACTS)
    with monkeypatch.context() as patch:
        patch.setattr("thread_embed_assets.release.package.distance", lambda *_: 2e-5)
        with pytest.raises(InputError, match="embeds otherwise, by up to 2e-05"):
            publish(checkpoint, layout, FACTS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(InputError, match="disk is full"):
        publish(checkpoint, layout, FACTS)
    assert of_folder(layout.promoted_model) == old
    assert sorted(p.name for p in layout.models.iterdir()) == ["checkpoints", "history", "thread-embed"]
    assert len(list(layout.model_history.iterdir())) == 3, "no half copies are left: a package, it taken over, the record"


def test_weights_that_are_not_finite_are_not_published(layout: Layout) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint = _checkpoint(layout)
    for weights in checkpoint.rglob("*.safetensors"):
        save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="not finite"):
        publish(checkpoint, layout, FACTS)


def test_publishing_replaces_the_old_model_as_a_whole(layout: Layout) -> None:
    (layout.promoted_model / "left_over.txt").write_text("from the model before")
    folder = publish(_checkpoint(layout), layout, replace(FACTS, stages=[{**STAGE, "stage": "stage2"}]))
    assert not (folder / "left_over.txt").exists()
    assert "| stage2 | all |" in (folder / "README.md").read_text()
