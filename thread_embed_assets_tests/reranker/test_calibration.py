from __future__ import annotations

import json

import numpy as np
import pytest

from thread_embed_assets.reranker.calibration import (
    Bin,
    Calibration,
    Decisions,
    Thresholds,
    calibration_error,
    choose_thresholds,
    fit,
    reliability,
)
from thread_embed_assets_tests.reranker.scored import drawn, groups_of


def decisions(sure: list[float], right: list[bool], new: list[bool] | None = None) -> Decisions:
    truth = np.array(right)
    kind = np.array(new or [False] * len(sure))
    return Decisions(truth, kind, kind, np.array(sure))


def test_sharpness_and_offset_are_those_that_the_truth_was_drawn_with() -> None:
    groups, scores = drawn(6_000, sharpness=1.7, new=-0.8)
    fitted = fit(groups, scores, "temperature")
    assert fitted.sharpness == pytest.approx(1.7, abs=0.1)
    assert fitted.new == pytest.approx(-0.8, abs=0.1)
    sharper = fit(groups, scores * 10, "temperature")
    assert sharper.sharpness == pytest.approx(0.17, abs=0.01), "whatever the scale of the scores"


def test_probabilities_add_up_to_one_and_extreme_scores_do_no_harm() -> None:
    groups, scores = drawn(50)
    for scale in (1.0, 1e4):
        found = Calibration(2.0, 0.5).probabilities(groups, scale * scores)
        assert np.isfinite(found).all()
        assert groups.reduce(np.add, found) == pytest.approx(np.ones(50))


def test_confidences_are_shares_that_are_right_on_other_data() -> None:
    dev, scores = drawn(4_000, 1, sharpness=0.7, new=1.0)
    test, test_scores = drawn(4_000, 2, sharpness=0.7, new=1.0)
    raw = calibration_error(reliability(Calibration(3.0).decide(test, test_scores)))
    for kind in ("temperature", "isotonic"):
        fitted = fit(dev, scores, kind)
        assert fitted.kind == kind
        assert calibration_error(reliability(fitted.decide(test, test_scores))) < 0.03 < 0.2 < raw


def test_the_kind_is_chosen_by_folds_and_a_misshapen_confidence_takes_isotonic() -> None:
    groups, scores = drawn(3_000, 3)
    assert fit(groups, scores, None).kind in ("temperature", "isotonic")
    bent = np.sign(scores) * np.abs(scores) ** 5
    chosen = fit(groups, bent)
    assert chosen.kind == "isotonic"
    assert list(chosen.shares) == sorted(chosen.shares)


def test_a_calibration_comes_back_from_json() -> None:
    groups, scores = drawn(500)
    for kind in ("temperature", "isotonic"):
        fitted = fit(groups, scores, kind)
        told = json.loads(json.dumps(fitted.as_json()))
        assert told["kind"] == kind
        assert Calibration.from_json(told) == fitted


def test_reliability_by_hand() -> None:
    bins = reliability(decisions([0.95, 0.85, 0.9, 0.15, 1.0], [True, False, True, False, True]), bins=2)
    assert bins == [Bin(0.0, 0.5, 1, 0.15, 0.0), Bin(0.5, 1.0, 4, pytest.approx(0.925), 0.75)]
    assert calibration_error(bins) == pytest.approx((0.15 + 4 * 0.175) / 5)


def test_thresholds_are_the_lowest_at_which_enough_is_right_beyond_luck() -> None:
    """The 400 surest are right, then every second one: 95 % are right down to the 444th, which may be luck."""
    sure = [1 - n / 1000 for n in range(600)]
    right = [n < 400 or n % 2 == 0 for n in range(600)]
    found = choose_thresholds(decisions(sure, right))
    assert sure[444] < found.route < sure[420]
    assert found.new > 1, "no decision for a new thread was seen"
    assert choose_thresholds(decisions(sure, right), 0.5).route == sure[-1]


def test_decisions_that_are_equally_sure_are_taken_together() -> None:
    found = choose_thresholds(decisions([0.9] * 40 + [0.8] * 20, [True] * 40 + [True] * 10 + [False] * 10))
    assert found.route == 0.9


def test_few_decisions_make_no_threshold() -> None:
    assert choose_thresholds(decisions([0.9] * 31, [True] * 31)).route > 1
    assert choose_thresholds(decisions([0.9] * 32, [True] * 32)).route == 0.9
    assert choose_thresholds(decisions([0.9] * 100, [False] * 100)).route > 1


def test_three_outcomes() -> None:
    decided = decisions([0.9, 0.5, 0.9, 0.5], [True] * 4, [False, False, True, True])
    assert Thresholds(0.8, 0.4).outcomes(decided).tolist() == ["route", "ask", "new", "new"]


def test_a_new_thread_is_decided_where_it_is_likeliest() -> None:
    decided = Calibration(1.0, 5.0).decide(groups_of([3, 3], [0, 2]), np.array([3.0, 0, 0, 9.0, 0, 0]))
    assert decided.new.tolist() == [True, False]
    assert decided.right.tolist() == [False, False]
    assert decided.of_new.tolist() == [False, True]
