from __future__ import annotations

import numpy as np
import pytest

from thread_embed_assets.reranker.calibration import Decisions, Thresholds
from thread_embed_assets.reranker.evaluate import SCHEMAS, Evaluated, Population, confusion, evaluate, new_thread_scores
from thread_embed_assets.reranker.groups import Floats
from thread_embed_assets_tests.reranker.scored import drawn


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A system that knows something, one that knows nothing, and one that knows the truth."""
    (dev, dev_scores), (test, test_scores) = drawn(2_000, 1, new=0.7), drawn(600, 2, new=0.7)
    draw = np.random.default_rng(0)

    def noise(like: Floats) -> Floats:
        return draw.normal(size=len(like))

    systems = {
        "fused": (dev_scores, test_scores),
        "blind": (noise(dev_scores), noise(test_scores)),
        "oracle": (dev.labels + 0.01 * noise(dev_scores), test.labels + 0.01 * noise(test_scores)),
    }
    path = tmp_path_factory.mktemp("results") / "r.duckdb"
    return evaluate(path, [Population("made up", dev, test, systems, unreachable=100)])


def test_all_tables_are_written(found: Evaluated) -> None:
    assert found.tables.keys() == SCHEMAS.keys()
    assert all(handle.rows for handle in found.tables.values())


def test_the_summary_tells_systems_apart_over_all_and_by_tier(found: Evaluated) -> None:
    rows = {(r["system"], r["slice"]): r for r in found.tables["summary"].rows_as_dicts()}
    assert rows.keys() == {(s, part) for s in ("fused", "blind", "oracle") for part in ("all", "easy", "hard")}
    oracle, fused, blind = (rows[name, "all"] for name in ("oracle", "fused", "blind"))
    assert oracle["hit@1"] == oracle["MRR"] == oracle["new_f1"] == 1.0
    assert oracle["hit@1_of_all"] == pytest.approx(600 / 700), "messages that no candidate was right for are misses"
    assert (oracle["n"], oracle["unreachable"], oracle["clusters"], oracle["resampled"]) == (600, 100, 7, "cluster")
    assert 0.45 < fused["hit@1"] < 0.9
    assert fused["hit@1_low"] < fused["hit@1"] < fused["hit@1_high"]
    assert fused["hit@1"] < fused["MRR"] < 1
    assert blind["hit@1"] < 0.35
    halves = [rows["fused", part] for part in ("easy", "hard")]
    assert sum(r["n"] * r["hit@1"] for r in halves) == pytest.approx(600 * fused["hit@1"])
    assert all(r["unreachable"] is None for r in halves)


def test_systems_are_compared_pair_by_pair(found: Evaluated) -> None:
    rows = {
        (r["system_a"], r["system_b"], r["metric"]): r
        for r in found.tables["comparisons"].rows_as_dicts()
        if r["dimension"] == "all"
    }
    assert len(rows) == 6 * 2
    better = rows["fused", "blind", "hit@1"]
    assert 0 < better["low"] < better["difference"] < better["high"]
    assert rows["blind", "fused", "hit@1"]["difference"] == pytest.approx(-better["difference"])
    assert better["p"] < 0.05


def test_confidences_of_each_system_are_calibrated_on_dev(found: Evaluated) -> None:
    rows = {r["system"]: r for r in found.tables["calibrations"].rows_as_dicts()}
    assert all(r["error_test"] < 0.1 for r in rows.values())
    assert rows["oracle"]["brier_test"] < 0.01
    assert rows["oracle"]["route_from"] <= 1.0
    assert rows["blind"]["route_from"] > 1.0, "who knows nothing always asks"
    calibration, thresholds = found.calibrations["made up", "fused"]
    assert rows["fused"]["sharpness"] == calibration.sharpness == pytest.approx(2.0, abs=0.5)
    assert rows["fused"]["new"] == calibration.new > 0
    assert (rows["fused"]["route_from"], rows["fused"]["new_from"]) == (thresholds.route, thresholds.new)
    bins = [r for r in found.tables["reliability"].rows_as_dicts() if (r["system"], r["split"]) == ("fused", "test")]
    assert sum(r["count"] for r in bins) == 600


def test_what_is_routed_on_test_is_nearly_as_right_as_was_asked_for(found: Evaluated) -> None:
    rows = [r for r in found.tables["outcomes"].rows_as_dicts() if (r["system"], r["split"]) == ("fused", "test")]
    assert sum(r["count"] for r in rows) == 600
    routed = [r for r in rows if r["outcome"] == "route"]
    right = sum(r["count"] for r in routed if r["right"])
    assert right / sum(r["count"] for r in routed) > 0.9
    assert {r["outcome"] for r in rows} >= {"route", "ask"}


def test_new_thread_scores_by_hand() -> None:
    chosen, right = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert new_thread_scores(chosen, right) == (0.5, 0.5, 0.5)
    nothing = np.zeros(4, np.bool_)
    assert new_thread_scores(nothing, right) == (None, 0.0, 0.0)
    assert new_thread_scores(nothing, nothing) == (None, None, None)


def test_confusion_by_hand() -> None:
    decided = Decisions(
        right=np.array([True, False, True, False, True]),
        new=np.array([False, False, True, True, False]),
        of_new=np.array([False, True, True, False, False]),
        sure=np.array([0.9, 0.9, 0.9, 0.2, 0.2]),
    )
    assert sorted(confusion(decided, Thresholds(0.5, 0.5))) == [
        ("new", "new", True, 1),
        ("new", "route", False, 1),
        ("thread", "ask", False, 1),
        ("thread", "ask", True, 1),
        ("thread", "route", True, 1),
    ]
