from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from thread_embed_assets.sources import exports
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.exports import Seen, from_json, look, own_exports, to_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.defs.export import export_source

PATHS = {"desk": "exports/desk", "log": "exports/log.txt"}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "exports" / "desk" / "general").mkdir(parents=True)
    (tmp_path / "exports" / "desk" / "general" / "1.json").write_text("[1]")
    (tmp_path / "exports" / "log.txt").write_text("hello")
    return Layout(tmp_path)


def test_only_a_teams_own_exports_are_looked_at(tmp_path: Path) -> None:
    own = export_source("desk", tmp_path / "export")
    assert own_exports({**load_catalog(), "desk": own})["desk"] == str(tmp_path / "export")
    assert "topical_chat" not in own_exports(load_catalog())


def test_what_was_never_seen_is_changed_and_then_no_longer(layout: Layout) -> None:
    first = look(PATHS, layout, {})
    assert first.changed == ("desk", "log") and first.missing == {}
    again = look(PATHS, layout, from_json(to_json(first.seen)))
    assert again.changed == () and again.seen == first.seen


def test_a_touched_export_is_read_and_is_not_changed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(PATHS, layout, {})
    os.utime(layout.root / PATHS["log"], ns=(1, 1))
    second = look(PATHS, layout, first.seen)
    assert second.changed == () and second.seen["log"].content == first.seen["log"].content
    assert second.seen["log"].listing != first.seen["log"].listing
    for name in ("of_file", "of_folder"):
        monkeypatch.setattr(exports, name, lambda _: pytest.fail("what looks as it did is not read"))
    assert look(PATHS, layout, second.seen) == second


def test_other_content_is_a_change_in_a_file_and_in_a_folder(layout: Layout) -> None:
    first = look(PATHS, layout, {})
    (layout.root / PATHS["log"]).write_text("hello again")
    second = look(PATHS, layout, first.seen)
    assert second.changed == ("log",)
    (layout.root / "exports" / "desk" / "general" / "2.json").write_text("[2]")
    third = look(PATHS, layout, second.seen)
    assert third.changed == ("desk",)
    (layout.root / "exports" / "desk" / "general" / "2.json").unlink()
    assert look(PATHS, layout, third.seen).changed == ("desk",), "what it was before is a change, too"


def test_an_export_that_is_gone_is_told_and_what_was_known_of_it_kept(layout: Layout) -> None:
    first = look(PATHS, layout, {})
    shutil.move(layout.root / PATHS["log"], layout.root / "aside")
    gone = look(PATHS, layout, first.seen)
    assert gone.changed == () and "No such file" in gone.missing["log"] and gone.seen == first.seen
    shutil.move(layout.root / "aside", layout.root / PATHS["log"])
    assert look(PATHS, layout, gone.seen).changed == ()


def test_an_export_that_is_no_longer_declared_is_forgotten(layout: Layout) -> None:
    known = look(PATHS, layout, {"before": Seen("a", "b")})
    assert set(known.seen) == set(PATHS)
