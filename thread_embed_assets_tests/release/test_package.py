from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.package import publish
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout

MANIFEST: dict[str, Any] = {
    "fingerprint": "0123456789abcdef",
    "mix": "all",
    "stage": "stage1",
    "config": {"base_model": "sentence-transformers/all-MiniLM-L6-v2"},
    "inputs": [{"source": "made", "strategy": "thread", "rows": 90, "rows_used": 42}],
}


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_model: Path) -> Path:
    folder = tmp_path / "checkpoint" / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "thread_embed.json").write_text(json.dumps({"text_format": "speakers"}))
    return folder


def test_the_published_folder_loads_and_says_what_it_is(tmp_path: Path, checkpoint: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = publish(checkpoint, Layout(tmp_path), MANIFEST)
    assert folder == tmp_path / "models" / "thread-embed"
    texts = ["baka dela", "fimi gola"]
    published = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_array_equal(published, SentenceTransformer(str(checkpoint), device="cpu").encode(texts))
    card = (folder / "README.md").read_text()
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2" in card
    assert "| made | thread | 42 |" in card
    assert "format `speakers`" in card
    assert "0123456789abcdef" in card
    assert json.loads((folder / "thread_embed.json").read_text())["text_format"] == "speakers"


def test_a_failure_leaves_the_old_model(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    old = of_folder(publish(checkpoint, layout, MANIFEST))
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    for weights in broken.rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="does not load"):
        publish(broken, layout, MANIFEST)
    with pytest.raises(InputError, match="not the folder of a SentenceTransformer"):
        publish(tmp_path / "nowhere", layout, MANIFEST)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(InputError, match="disk is full"):
        publish(checkpoint, layout, MANIFEST)
    assert of_folder(layout.promoted_model) == old
    assert [p.name for p in layout.models.iterdir()] == ["thread-embed"], "no half copies are left behind"


def test_weights_that_are_not_finite_are_not_published(tmp_path: Path, checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    for weights in checkpoint.rglob("*.safetensors"):
        save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="not finite"):
        publish(checkpoint, Layout(tmp_path), MANIFEST)
    assert not Layout(tmp_path).promoted_model.exists()


def test_publishing_replaces_the_old_model_as_a_whole(tmp_path: Path, checkpoint: Path) -> None:
    layout = Layout(tmp_path)
    folder = publish(checkpoint, layout, MANIFEST)
    (folder / "left_over.txt").write_text("from the model before")
    publish(checkpoint, layout, {**MANIFEST, "stage": "stage2"})
    assert not (folder / "left_over.txt").exists()
    assert "stage2" in (folder / "README.md").read_text()
