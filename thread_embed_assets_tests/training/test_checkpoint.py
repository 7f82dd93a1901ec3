from __future__ import annotations

import json
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, latest_checkpoint, open_checkpoint, verify


def _manifest(layout: Layout, name: str, selected_at: str) -> Path:
    folder = layout.checkpoints("all", "stage1") / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": name, "selected_at": selected_at}))
    return folder


def test_the_latest_is_the_one_materialised_last_and_unfinished_ones_do_not_count(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert latest_checkpoint(layout, "all", "stage1") is None
    (layout.checkpoints("all", "stage1") / "unfinished").mkdir(parents=True)
    assert latest_checkpoint(layout, "all", "stage1") is None
    _manifest(layout, "b", "2025-03-01T10:00:00+00:00")
    _manifest(layout, "a", "2025-03-01T11:00:00+00:00")
    _manifest(layout, "c", "2025-02-01T12:00:00+00:00")
    latest = latest_checkpoint(layout, "all", "stage1")
    assert latest is not None and latest.fingerprint == "a"
    assert latest_checkpoint(layout, "all", "stage2") is None


def test_a_damaged_or_foreign_manifest_is_an_error(tmp_path: Path) -> None:
    folder = _manifest(Layout(tmp_path), "a", "2025-03-01T11:00:00+00:00")
    (folder / "manifest.json").write_text('{"fingerprint": "a", "sel')
    with pytest.raises(InputError, match=r"manifest.json.*not JSON.*Delete the folder"):
        open_checkpoint(folder)
    (folder / "manifest.json").write_text('{"fingerprint": "b"}')
    with pytest.raises(InputError, match="another configuration"):
        open_checkpoint(folder)


def _checkpoint(model: Path, dimension: int = 32) -> Checkpoint:
    return Checkpoint(model.parent, "x", {"dimension": dimension})


def test_a_good_model_has_no_problems_and_a_wrong_size_is_told(tiny_model: Path) -> None:
    assert verify(_checkpoint(tiny_model)) == []
    assert "the manifest says 64" in verify(_checkpoint(tiny_model, 64))[0]


def test_a_model_that_is_not_there_does_not_load(tmp_path: Path) -> None:
    assert "does not load" in verify(_checkpoint(tmp_path / "model"))[0]


@pytest.mark.parametrize(("value", "problem"), [(float("nan"), "NaN or infinite"), (0.0, "the same embedding")])
def test_broken_weights_are_found(value: float, problem: str, tiny_model: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for name, weight in model.named_parameters():
        if "embeddings" in name and "LayerNorm" not in name:
            weight.data.fill_(value)
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    assert problem in " ".join(verify(_checkpoint(tmp_path / "model")))
