from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.duel import Duel, duel
from thread_embed_assets.benchmark.metrics import METRICS
from thread_embed_assets.benchmark.result_tables import SCHEMAS
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import write_tables

NEW, OLD = "team/stage3/aaaa", "team/stage3/bbbb"
TASKS = ("thread", "summary")
QUERIES = 40

Scores = Mapping[str, Sequence[float]]


def write_results(
    path: Path, source: str, models: Mapping[str, tuple[str, str]], scores: Mapping[str, Scores], skip: int = 0
) -> Path:
    """Dev results: name to role and identity, and to per-query scores of each task in the chosen reading; ``skip`` queries
    are left out of those of the first model. Beside them stand what must not be read: another reading, test, a slice.
    """
    with write_tables(path, SCHEMAS) as writer:
        for place, (name, (role, identity)) in enumerate(models.items()):
            writer.add("models", (source, name, role, identity))
            for task, values in scores[name].items():
                for reading, chosen, lift in (("plain", True, 0.0), ("plain, fitted", False, 0.9)):
                    head = (source, task, "dev", name, role, reading, "masked", "corpus")
                    bounds = [0.5] * 3 * len(METRICS)
                    sizes = (None, chosen, "gold", len(values), 50, 8, "cluster")
                    writer.add("summary", (*head, *sizes, *bounds, "RUN", ""))
                    for number, value in list(enumerate(values))[skip if place == 0 else 0 :]:
                        query = (f"q{number:03d}", f"general/{number // 5}")
                        writer.add("per_query", (*head, *query, *[value + lift * (place == 0)] * len(METRICS)))
                for split, index in (("test", "corpus"), ("dev", "near")):
                    head = (source, task, split, name, role, "plain", "masked", index)
                    writer.add("per_query", (*head, "q000", "general/0", *[9.0 * place] * len(METRICS)))
    return path


def drawn(lift: float, seed: int = 1) -> dict[str, list[float]]:
    draw = np.random.default_rng(seed)
    return {task: list(draw.uniform(0.2, 0.6, QUERIES) + lift) for task in TASKS}


def fought(tmp_path: Path, mine: Scores, theirs: Scores, source: str = "made") -> Duel:
    models = {"ThreadEmbed-team": ("tuned", NEW), "champion": ("champion", OLD)}
    path = write_results(tmp_path / f"{source}.duckdb", source, models, {"ThreadEmbed-team": mine, "champion": theirs})
    return duel({source: path}, NEW, OLD)


def test_a_challenger_that_is_better_by_query_is_above_zero_in_the_chosen_reading_on_dev(tmp_path: Path) -> None:
    found = fought(tmp_path, drawn(0.05), drawn(0.0))
    assert found.difference.mean == pytest.approx(0.05) and found.difference.low > 0 and found.difference.by == "cluster"
    assert found.tasks == {"thread": pytest.approx(0.05), "summary": pytest.approx(0.05)} and list(found.tasks) == list(
        TASKS
    )
    assert found.queries == 2 * QUERIES and found.sources == ("made",)


def test_one_that_is_no_better_has_an_interval_around_zero(tmp_path: Path) -> None:
    difference = fought(tmp_path, drawn(0.0, seed=2), drawn(0.0)).difference
    assert difference.low < 0 < difference.high


def test_a_task_that_falls_is_named_with_a_mean_that_rises(tmp_path: Path) -> None:
    mine = drawn(0.1)
    mine["summary"] = drawn(-0.05)["summary"]
    found = fought(tmp_path, mine, drawn(0.0))
    assert found.difference.low > 0
    assert found.falls(0.02) == {"summary": pytest.approx(-0.05)} and found.falls(0.06) == {}


def test_sources_count_the_same_whatever_their_queries(tmp_path: Path) -> None:
    models = {"ThreadEmbed-team": ("tuned", NEW), "champion": ("champion", OLD)}
    results = {
        name: write_results(
            tmp_path / f"{name}.duckdb", name, models, {"ThreadEmbed-team": {"thread": mine}, "champion": {"thread": theirs}}
        )
        for name, mine, theirs in (("many", [0.7] * 40, [0.5] * 40), ("few", [0.4] * 10, [0.5] * 10))
    }
    found = duel(results, NEW, OLD)
    assert found.tasks == {"thread": pytest.approx(0.05)} and found.sources == ("many", "few") and found.queries == 50


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            {"ThreadEmbed-team": ("tuned", OLD)},
            f"results are of {OLD}, not of {NEW}. Materialise benchmark_results of 'made'",
        ),
        (
            {"ThreadEmbed-team": ("tuned", "team/stage3/cccc"), "champion": ("champion", OLD)},
            "are of team/stage3/cccc, not of",
        ),
        ({"ThreadEmbed-team": ("tuned", NEW)}, f"the champion {OLD} was not scored beside {NEW}"),
        ({"ThreadEmbed-all": ("tuned", "all/stage3/dddd"), "champion": ("champion", OLD)}, "no source has dev queries"),
    ],
)
def test_missing_and_older_results_are_named(models: dict[str, tuple[str, str]], message: str, tmp_path: Path) -> None:
    scores = dict.fromkeys(models, drawn(0.0))
    path = write_results(tmp_path / "made.duckdb", "made", models, scores)
    with pytest.raises(InputError, match=message):
        duel({"made": path}, NEW, OLD)


def test_other_queries_are_no_duel(tmp_path: Path) -> None:
    models = {"ThreadEmbed-team": ("tuned", NEW), "champion": ("champion", OLD)}
    scores = {"ThreadEmbed-team": drawn(0.1), "champion": drawn(0.0)}
    path = write_results(tmp_path / "made.duckdb", "made", models, scores, skip=3)
    with pytest.raises(InputError, match="asked other dev queries of 'thread'"):
        duel({"made": path}, NEW, OLD)


def test_no_results_at_all_are_no_duel() -> None:
    with pytest.raises(InputError, match="no source has dev queries"):
        duel({}, NEW, OLD)


def test_a_released_model_is_told_from_another_released_one(tmp_path: Path) -> None:
    other, released = "released/other/cc", "released/box/aa"
    models = {"other": ("tuned", other), "champion": ("champion", OLD)}
    path = write_results(tmp_path / "a.duckdb", "made", models, dict.fromkeys(models, drawn(0.0)))
    with pytest.raises(InputError, match="no source has dev queries"):
        duel({"made": path}, released, OLD)
