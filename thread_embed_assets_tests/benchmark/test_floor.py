from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.benchmark.floor import general_floor
from thread_embed_assets.benchmark.regression import NOT_RUN, RUN, TaskScore, compare, write_regression
from thread_embed_assets.errors import InputError

MODEL = "team/stage3/aaaa"


def write_general_tasks(folder: Path, drops: list[float | None], identity: str = MODEL) -> None:
    """Results in which each listed task drops by so much; None where it was not run."""

    def scores(model: bool) -> list[TaskScore]:
        return [
            TaskScore(
                f"task {n}", f"Task{n}", "map", "org/data", "r1",
                None if drop is None else 0.5 - drop * model, NOT_RUN if drop is None else RUN,
            )
            for n, drop in enumerate(drops)
        ]  # fmt: skip

    found = compare(scores(True), scores(False), ("new", "base"))
    write_regression(type(found)(**{**found.__dict__, "identity": identity}), folder)


@pytest.mark.parametrize(
    ("drops", "holds", "words"),
    [
        ([0.005, 0.01], True, "2 of 2 listed tasks drop by +0.75 points on average, 1 is allowed"),
        ([-0.02, -0.01], True, "drop by -1.50 points"),
        ([0.012, 0.013], False, "drop by +1.25 points on average, 1 is allowed"),
        ([-0.03, 0.02], False, "below 1.5 points: task 1"),
        ([0.005, None], None, "NOT RUN as a whole: 1 of 2"),
        ([0.014, None], False, "1 of 2 listed tasks drop by +1.40"),
        ([None, None], None, "NOT RUN: the data of the general tasks are not on this machine"),
    ],
)
def test_the_mean_drop_and_the_worst_task_decide(
    drops: list[float | None], holds: bool | None, words: str, tmp_path: Path
) -> None:
    write_general_tasks(tmp_path, drops)
    floor = general_floor(tmp_path, MODEL)
    assert floor.holds is holds and words in floor.words


def test_results_of_another_model_and_none_at_all_tell_nothing(tmp_path: Path) -> None:
    assert general_floor(tmp_path, MODEL).holds is None
    write_general_tasks(tmp_path, [0.0], identity="team/stage3/older")
    floor = general_floor(tmp_path, MODEL)
    assert floor.holds is None and "last run with team/stage3/older" in floor.words


def test_damaged_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "general_tasks.json").write_text('{"comparisons": 3')
    with pytest.raises(InputError, match=r"general_tasks.json: these are no results .* Materialise regression_results"):
        general_floor(tmp_path, MODEL)
