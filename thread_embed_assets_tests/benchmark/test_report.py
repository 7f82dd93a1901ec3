from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.report import (
    TERMINAL_COLUMNS,
    Leaderboard,
    read_leaderboard,
    terminal_table,
    write_leaderboard,
)
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.made_results import ALPHA, BETA, FEW, GAMMA, PLATFORMS, Made, results, write_all


def test_the_json_is_the_content_and_is_read_again(leaderboard: Leaderboard) -> None:
    content = json.loads(leaderboard.json_path.read_text())
    assert content == leaderboard.content
    assert [found["source"] for found in content["sources"]] == ["alpha", "beta", "gamma"]
    again = read_leaderboard(Layout(leaderboard.json_path.parents[2]))
    assert again.content == content and set(again.plots) == set(leaderboard.plots)


def test_the_html_holds_the_headline_numbers_and_every_picture(leaderboard: Leaderboard) -> None:
    text = leaderboard.html_path.read_text()
    for found in leaderboard.content["sources"]:
        for row in found["rows"]:
            for task, scores in row["scores"].items():
                score = scores["MRR@10"]
                assert f"[{score['low']:.3f}, {score['high']:.3f}]" in text, (found["source"], row["contender"], task)
    assert text.count("<img ") == len(leaderboard.plots)
    assert text.index("<table>") < text.index("<h2")


def test_the_terminal_table_is_aligned_complete_and_narrow(undrawn: Layout) -> None:
    long = Made(
        "an-organisation/a-model-with-a-very-long-name-" + "x" * 40, "reference", 0.3, "it is " + "far " * 60 + "away"
    )
    tasks = ("thread", "thread_strict", "response", "reply", "summary")
    board = write_all(undrawn, [replace(ALPHA, tasks=tasks, contenders=[*FEW, long], near=False, resamples=20)])
    text = terminal_table(board)
    lines = text.splitlines()
    assert max(map(len, lines)) <= TERMINAL_COLUMNS
    for made in FEW:
        assert f"\n{made.name} " in text
    assert len({line.index("[") for line in lines[2:] if "[" in line}) == 1
    assert "big: NOT RUN, it is not on this machine." in lines
    assert " ".join(text.split()).count("far far") == 30


def test_written_elsewhere_and_in_another_order_it_is_the_same_bytes(leaderboard: Leaderboard, undrawn: Layout) -> None:
    again = write_leaderboard([results(leaderboard, source) for source in (BETA, ALPHA, GAMMA)], undrawn, PLATFORMS)
    for one, other in zip(_files(leaderboard), _files(again), strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes()


def _files(board: Leaderboard) -> list[Path]:
    return [board.json_path, board.markdown_path, board.html_path, *board.plots]


def test_missing_results_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nobody\.duckdb"):
        write_leaderboard([tmp_path / "nobody.duckdb"], Layout(tmp_path))


def test_a_leaderboard_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no leaderboard yet"):
        read_leaderboard(Layout(tmp_path))
