from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from thread_embed_assets.benchmark.report import Leaderboard
from thread_embed_assets.benchmark.report_plots import write_plots
from thread_embed_assets_tests.benchmark.made_results import BETA, GAMMA, PNG, entry, undraw


def test_there_are_plots_for_tasks_parts_and_dimensions_and_no_others(leaderboard: Leaderboard) -> None:
    names = ["thread", "thread_breakdown", "matryoshka"]
    both = ["thread", "thread_breakdown", "summary", "summary_breakdown", "matryoshka"]
    wanted = [f"{s}_{n}.png" for s, of_source in (("alpha", both), ("beta", names), ("gamma", names)) for n in of_source]
    assert [path.name for path in leaderboard.plots] == wanted
    for path in leaderboard.plots:
        assert path.read_bytes().startswith(PNG)
        assert f"(plots/{path.name})" in leaderboard.markdown
    assert "(plots/" not in leaderboard.markdown_with_pictures()
    assert leaderboard.markdown_with_pictures().count("(data:image/png;base64,") == len(wanted)


def test_plots_of_a_source_that_is_gone_are_gone(
    leaderboard: Leaderboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undraw(monkeypatch)
    folder = tmp_path / "plots"
    for sources in ([GAMMA, BETA], [BETA]):
        write_plots([entry(leaderboard, source) for source in sources], folder)
        assert {path.name.split("_")[0] for path in folder.iterdir()} == {source.name for source in sources}


def test_plots_are_pictures_and_the_same_bytes_when_drawn_again(leaderboard: Leaderboard, tmp_path: Path) -> None:
    beta = entry(leaderboard, BETA)
    beta["breakdowns"] = [row for row in beta["breakdowns"] if row["dimension"] == "time_gap"]  # a panel, not four
    first, second = (write_plots([beta], tmp_path / name) for name in ("first", "second"))
    assert [path.name for path in first] == ["beta_thread.png", "beta_thread_breakdown.png", "beta_matryoshka.png"]
    for one, other in zip(first, second, strict=True):
        with Image.open(one) as picture:
            picture.verify()
        assert one.read_bytes() == other.read_bytes()
