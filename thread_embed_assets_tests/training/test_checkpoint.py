from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import (
    Checkpoint,
    Origin,
    final_checkpoint,
    identity_of,
    latest_checkpoint,
    open_checkpoint,
    origin_of,
    selection_time,
    verify,
)


def _manifest(layout: Layout, name: str, selected_at: str, stage: str = "stage1") -> Path:
    folder = layout.checkpoints("all", stage) / name
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


@pytest.mark.parametrize("earlier", ["2025-03-01T10:00:00+00:00", "2999-12-31T10:00:00.000007+00:00"])
def test_what_is_selected_now_is_the_latest_even_if_the_clock_has_gone_back(earlier: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    _manifest(layout, "a", earlier)
    (_manifest(layout, "damaged", "") / "manifest.json").write_text("{", encoding="utf-8")
    now = selection_time(layout.checkpoints("all", "stage1"))
    shutil.rmtree(layout.checkpoints("all", "stage1") / "damaged")
    _manifest(layout, "b", now)
    latest = latest_checkpoint(layout, "all", "stage1")
    assert latest is not None and latest.fingerprint == "b"


def test_the_final_one_is_the_newest_of_the_latest_stage_that_has_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert final_checkpoint(layout, "all") is None
    for name, stage, selected_at in (("a", "stage1", "11"), ("b", "stage3", "09"), ("c", "stage3", "10")):
        _manifest(layout, name, f"2025-03-01T{selected_at}:00:00+00:00", stage)
        (layout.checkpoints("all", "stage2") / "unfinished").mkdir(parents=True, exist_ok=True)
        final = final_checkpoint(layout, "all")
        assert final is not None and final.fingerprint == name
    assert final_checkpoint(layout, "without_irc") is None


def test_a_model_tells_the_base_it_comes_from(tmp_path: Path) -> None:
    assert origin_of("some/model") == Origin("some/model", "some/model")
    details = {"mix": "all", "stage": "stage2", "fingerprint": "f2", "original_base": "some/model"}
    (tmp_path / "thread_embed.json").write_text(json.dumps(details))
    assert origin_of(str(tmp_path)) == Origin("all/stage2/f2", "some/model", "f2")
    assert identity_of(tmp_path) == "all/stage2/f2"
    (tmp_path / "thread_embed.json").write_text(json.dumps({**details, "released": "ours-open"}))
    assert identity_of(tmp_path) == "released/ours-open/f2"
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "plain"}))
    assert origin_of(str(tmp_path)) == Origin(str(tmp_path), str(tmp_path)), "a folder that no stage wrote"


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


@pytest.mark.parametrize(
    ("details", "identity"),
    [
        ({"mix": "all", "stage": "stage3", "fingerprint": "aaaa"}, "all/stage3/aaaa"),
        ({"mix": "all", "stage": "stage3", "fingerprint": "aaaa", "released": "box"}, "released/box/aaaa"),
        ({"text_format": "plain"}, ""),
        (None, ""),
    ],
)
def test_a_folder_says_which_model_it_holds(details: dict[str, str] | None, identity: str, tmp_path: Path) -> None:
    if details is not None:
        (tmp_path / "thread_embed.json").write_text(json.dumps(details))
    assert identity_of(tmp_path) == identity
