"""``thread-embed search`` and ``serve`` as people call them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.search import command
from thread_embed_assets.search.progress import shown_progress
from thread_embed_assets.search.searcher import Searcher
from thread_embed_assets.search.web import SearchServer
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets_tests.search.team import team_searcher


@pytest.fixture
def _team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_workspace(name: str, *_: object) -> Searcher:
        assert name == "team"
        return team_searcher(tmp_path)

    monkeypatch.setattr(command, "open_workspace", open_workspace)


@pytest.mark.usefixtures("_team")
def test_threads_are_printed_with_the_lines_that_match(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["search", "printer jams on every page", "--workspace", "team", "--top", "1", "--lines", "3"]
    assert main([*asked, "--since", "2025-03-01", "--until", "2025-03-03", "--person", "quillona"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("office  2025-03-03 11:06  7 messages")
    assert "   > Quillona Vestrup: the printer on the second floor jams on every page" in out
    assert sum(": " in line for line in out) == 3 and any("lines …" in line for line in out)


@pytest.mark.usefixtures("_team")
def test_mistakes_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    for more, words in (
        (["", "--workspace", "team"], "the query is blank"),
        (["printer", "--workspace", "team", "--channel", "ofice"], "such as office"),
        (["printer", "--workspace", "team", "--since", "soon"], "Write it as 2026-03-01"),
        (["printer", "--workspace", "team", "--person", "Zed"], "nobody is called that"),
    ):
        assert main(["search", *more]) == 1
        assert words in capsys.readouterr().err
    assert main(["search", "printer", "--workspace", "team", "--until", "2020-01-01"]) == 0
    assert capsys.readouterr().out == "no threads: the filters leave 0\n"


def test_a_room_has_to_be_named_and_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["search", "printer"], ["serve"], ["search", "printer", "--workspace", "a", "--source", "b"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "--workspace" in capsys.readouterr().err


def test_an_unknown_workspace_is_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    model = tmp_path / "model"
    model.mkdir()
    (model / "modules.json").write_text("[]")
    assert main(["search", "printer", "--workspace", "nobody", "--model", str(model)]) == 1
    assert "there is no workspace of that name. Declare its export in own_chat.yaml" in capsys.readouterr().err


@pytest.mark.usefixtures("_team")
def test_serving_says_where_and_ends_with_control_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(server: SearchServer) -> None:
        assert server.port > 0

    monkeypatch.setattr(SearchServer, "run", interrupted)
    assert main(["serve", "--workspace", "team", "--port", "0"]) == 0
    assert "workspace team: http://127.0.0.1:" in capsys.readouterr().out


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with shown_progress("team") as progress:
        progress(1, 4)
        progress(4, 4)
    assert "team: 4 of 4 threads indexed" in caplog.text and "1 of 4" not in caplog.text
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setitem(os.environ, "TQDM_DISABLE", "1")
    with shown_progress("team") as progress:
        progress(2, 4)
    assert "team" in capsys.readouterr().err
