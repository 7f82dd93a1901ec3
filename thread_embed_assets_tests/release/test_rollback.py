"""``thread-embed models`` and ``thread-embed rollback`` as people call them."""

from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets_tests.release.test_history import fill, promote, promoted


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    return Layout(tmp_path)


def test_the_models_are_listed_with_the_promoted_one_marked(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "no model has been promoted yet\n"
    promote(layout, "aa")
    promote(layout, "bb")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["  0001-team-aa  team/stage3/aa", "* 0002-team-bb  team/stage3/bb"]
    assert lines[2].startswith("last decision, 2") and lines[2].endswith(": promoted: made") and len(lines) == 3


def test_rolling_back_is_one_command_and_tells_of_an_export_of_another_model(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(layout, "aa")
    promote(layout, "bb")
    fill(layout.onnx_package, "bb")
    assert main(["rollback"]) == 0
    said = capsys.readouterr().out
    assert "is 0001-team-aa again (team/stage3/aa)" in said and promoted(layout) == "aa"
    assert f"{layout.onnx_package} is of another model: run the job export" in said
    assert main(["rollback", "--to", "0002-team-bb"]) == 0
    assert promoted(layout) == "bb" and "another model" not in capsys.readouterr().out
    assert main(["rollback", "--to", "0007"]) == 1
    assert "there is no such model in the history" in capsys.readouterr().err
