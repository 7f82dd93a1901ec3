"""How sure a choice is: scores to probabilities, and from what probability on a message is routed without asking.

Candidates of a message compete, so the probability of each is a softmax over them, of scores sharpened or flattened by one
number (temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599), with another added to that of a new thread:
training draws fewer threads per message than there are where messages are routed, which favours threads. An isotonic map of
the highest probability to the share that was right may follow (Zadrozny and Elkan 2002,
https://doi.org/10.1145/775047.775151). All is fitted on dev.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import beta

from thread_embed_assets.reranker.groups import Floats, Groups

Kind = Literal["temperature", "isotonic"]
KINDS: tuple[Kind, ...] = ("temperature", "isotonic")

TARGET_PRECISION = 0.95
ASSURANCE = 0.8  # that decisions elsewhere are as good: the lowest of many thresholds tried on dev is a lucky one
BINS = 10
_FOLDS = 5
_UNSURE = 1.01  # no probability reaches it


@dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities.

    Attributes:
        sharpness: one over the temperature.
        new: added to the sharpened score of a new thread.
        confidences, shares: of the isotonic map, ascending; empty without one. Between them it is linear.
    """

    sharpness: float = 1.0
    new: float = 0.0
    confidences: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def kind(self) -> Kind:
        return "isotonic" if self.confidences else "temperature"

    def probabilities(self, groups: Groups, scores: Floats) -> Floats:
        """[rows], which sum up to 1 in each group; the isotonic map leaves them alone."""
        scaled = self.sharpness * scores + self.new * groups.new
        found: Floats = np.exp(scaled - groups.spread(groups.reduce(np.logaddexp, scaled)))
        return found

    def decide(self, groups: Groups, scores: Floats) -> Decisions:
        """The likeliest candidate of each group, and how sure that is."""
        probabilities = self.probabilities(groups, scores)
        best = groups.best(probabilities)
        sure = probabilities[best]
        if self.confidences:
            sure = np.interp(sure, self.confidences, self.shares)
        return Decisions(groups.labels[best], groups.new[best], groups.of_new, sure)

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **{name: value for name, value in vars(self).items() if value != ()}}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Calibration:
        places, shares = (tuple(told.get(name, ())) for name in ("confidences", "shares"))
        return cls(told["sharpness"], told["new"], places, shares)


@dataclass(frozen=True)
class Decisions:
    """The best candidate of each group [groups].

    Attributes:
        right: it is the right one.
        new: it is a new thread.
        of_new: a new thread would be right.
        sure: probability that it is right.
    """

    right: npt.NDArray[np.bool_]
    new: npt.NDArray[np.bool_]
    of_new: npt.NDArray[np.bool_]
    sure: Floats


def fit(groups: Groups, scores: Floats, kind: Kind | None = None) -> Calibration:
    """The calibration of dev scores [rows].

    Args:
        kind: by default the one with the lower Brier score where each fold of clusters is judged by a fit on the others.
    """
    if kind is None:
        errors = [_brier_of_others(groups, scores, one) for one in KINDS]
        kind = KINDS[errors.index(min(errors))]
    temperature = _temperature(groups, scores)
    if kind == "temperature":
        return temperature
    from sklearn.isotonic import IsotonicRegression  # type: ignore[import-untyped]

    decided = temperature.decide(groups, scores)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(decided.sure, decided.right)
    places, shares = (tuple(map(float, values)) for values in (fitted.X_thresholds_, fitted.y_thresholds_))
    return Calibration(temperature.sharpness, temperature.new, places, shares)


def _temperature(groups: Groups, scores: Floats) -> Calibration:
    """The likeliest sharpness and offset; the loss is convex in both."""

    def loss(values: Floats) -> tuple[float, Floats]:
        sharpness, new = values
        scaled = sharpness * scores + new * groups.new
        total = groups.reduce(np.logaddexp, scaled)
        wrong = np.exp(scaled - groups.spread(total)) - groups.labels
        gradient = np.array([wrong @ scores, wrong @ groups.new])
        return float(total.sum() - scaled[groups.labels].sum()) / len(groups), gradient / len(groups)

    spread = float(scores.std()) or 1.0
    found = minimize(loss, np.array([1 / spread, 0.0]), jac=True, bounds=((1e-6, None), (None, None))).x
    return Calibration(float(found[0]), float(found[1]))


def _brier_of_others(groups: Groups, scores: Floats, kind: Kind) -> float:
    clusters = {name: number for number, name in enumerate(dict.fromkeys(groups.clusters))}
    fold = np.array([clusters[name] % _FOLDS for name in groups.clusters])
    if len(clusters) < _FOLDS:
        fold = np.arange(len(groups)) % _FOLDS
    total = 0.0
    for number in range(_FOLDS):
        inside, outside = fold == number, fold != number
        if inside.any() and outside.any():
            fitted = fit(*groups.take(outside, scores), kind)
            decided = fitted.decide(*groups.take(inside, scores))
            total += float(((decided.sure - decided.right) ** 2).sum())
    return total / len(groups)


@dataclass(frozen=True)
class Bin:
    """Decisions with a confidence in [low, high): how many, how sure they are on average, and what share is right."""

    low: float
    high: float
    count: int
    confidence: float
    right: float


def reliability(decided: Decisions, bins: int = BINS) -> list[Bin]:
    """Decisions by confidence, in bins of equal width; empty ones are left out."""
    place = np.minimum((decided.sure * bins).astype(np.intp), bins - 1)
    found = []
    for number in np.unique(place).tolist():
        inside = place == number
        means = float(decided.sure[inside].mean()), float(decided.right[inside].mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean distance of confidence and share, weighed by count."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.right) for one in bins) / total if total else 0.0


@dataclass(frozen=True)
class Thresholds:
    """From what confidence on a message goes to its thread, and from what on it starts one; below, the router asks."""

    route: float
    new: float

    def outcomes(self, decided: Decisions) -> npt.NDArray[np.str_]:
        """``route``, ``new`` or ``ask`` for each decision."""
        surely = decided.sure >= np.where(decided.new, self.new, self.route)
        return np.where(surely, np.where(decided.new, "new", "route"), "ask")


def choose_thresholds(decided: Decisions, precision: float = TARGET_PRECISION) -> Thresholds:
    """The lowest thresholds from which on decisions are right as often as asked for, as dev assures.

    That is where the lower bound of Clopper and Pearson (1934, https://doi.org/10.1093/biomet/26.4.404), one-sided at
    ``ASSURANCE``, reaches the precision: 32 decisions that are all right assure 0.95. Where none are that good, the router
    always asks.
    """
    return Thresholds(*(_lowest(decided.sure[kind], decided.right[kind], precision) for kind in (~decided.new, decided.new)))


def _lowest(sure: Floats, right: npt.NDArray[np.bool_], precision: float) -> float:
    if not len(sure):
        return _UNSURE
    order = np.argsort(-sure, kind="stable")
    sure, hits = sure[order], np.cumsum(right[order])
    wrong = np.arange(1, len(sure) + 1) - hits
    assured = np.where(hits > 0, beta.ppf(1 - ASSURANCE, np.maximum(hits, 1), wrong + 1), 0.0)
    falls = np.append(sure[1:] < sure[:-1], True)  # those that are equally sure are taken together
    good = np.flatnonzero((assured >= precision) & falls)
    return float(sure[good[-1]]) if len(good) else _UNSURE
