"""What rerankers are worth on dev and test: how often they choose right, how sure they may be, and what a router does then.

Each system is calibrated on dev, so that none is held back by how often its training asked for a new thread; ranks on test
are those of the calibrated probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa

from thread_embed_assets.benchmark.statistics import bootstrap, paired_p
from thread_embed_assets.reranker.calibration import (
    TARGET_PRECISION,
    Calibration,
    Decisions,
    Thresholds,
    calibration_error,
    choose_thresholds,
    fit,
    reliability,
)
from thread_embed_assets.reranker.groups import Bools, Floats, Groups
from thread_embed_assets.storage.columns import Column, described
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

METRICS = ("hit@1", "MRR")
_ALL = "all"

_PLACE: list[Column] = [
    ("population", pa.string(), "messages that are measured together: synthetic, or a source"),
    ("system", pa.string(), "what ranks the candidates"),
]
_SLICE: list[Column] = [
    ("dimension", pa.string(), "all, tier, domain or origin"),
    ("slice", pa.string(), "the part of it"),
    ("n", pa.int32(), "messages"),
    ("clusters", pa.int32(), "what is resampled"),
]
_BOUNDS: list[Column] = [
    column
    for name in METRICS
    for column in (
        (name, pa.float64(), "mean over the messages"),
        (f"{name}_low", pa.float64(), "lower end of the 95 % interval"),
        (f"{name}_high", pa.float64(), "upper end of it"),
    )
]
_RESAMPLED: Column = ("resampled", pa.string(), "cluster, or query where there are too few clusters")

SCHEMAS = {
    "summary": described(
        [
            *_PLACE,
            *_SLICE,
            _RESAMPLED,
            *_BOUNDS,
            ("new_precision", pa.float64(), "of starting a thread; null where no new thread was chosen"),
            ("new_recall", pa.float64(), "null where none was right"),
            ("new_f1", pa.float64(), "of the two"),
            ("unreachable", pa.int32(), "messages besides n whose thread was no candidate; null of slices"),
            ("hit@1_of_all", pa.float64(), "with those counted as misses"),
        ]
    ),
    "comparisons": described(
        [
            ("population", pa.string(), "messages that are measured together"),
            ("system_a", pa.string(), "one system"),
            ("system_b", pa.string(), "and another"),
            *_SLICE,
            ("metric", pa.string(), "what is compared"),
            ("difference", pa.float64(), "a minus b"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of it"),
            ("p", pa.float64(), "of this comparison alone"),
            _RESAMPLED,
        ]
    ),
    "calibrations": described(
        [
            *_PLACE,
            ("kind", pa.string(), "how scores become probabilities (calibration.py)"),
            ("sharpness", pa.float64(), "one over the temperature: factor of the scores"),
            ("new", pa.float64(), "added to the score of a new thread"),
            ("error_dev", pa.float64(), "expected calibration error"),
            ("error_test", pa.float64(), "likewise, on test"),
            ("brier_test", pa.float64(), "mean squared error of the confidence"),
            ("target_precision", pa.float64(), "how often the router is to be right where it does not ask"),
            ("route_from", pa.float64(), "confidence from which it routes; above 1: never"),
            ("new_from", pa.float64(), "confidence from which it starts a thread; above 1: never"),
        ]
    ),
    "reliability": described(
        [
            *_PLACE,
            ("split", pa.string(), "dev or test"),
            ("low", pa.float64(), "confidence from which the bin counts"),
            ("high", pa.float64(), "and to which"),
            ("count", pa.int32(), "decisions in it"),
            ("confidence", pa.float64(), "their mean confidence"),
            ("right", pa.float64(), "the share that is right"),
        ]
    ),
    "outcomes": described(
        [
            *_PLACE,
            ("split", pa.string(), "dev or test"),
            ("truth", pa.string(), "thread or new"),
            ("outcome", pa.string(), "route, ask or new"),
            ("right", pa.bool_(), "of a question: whether the best candidate was right"),
            ("count", pa.int32(), "messages"),
        ]
    ),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Population:
    """Messages that are measured together.

    Attributes:
        dev: what calibration and thresholds are chosen on.
        systems: name to scores of the rows of dev and of test.
        unreachable: messages of test whose thread was no candidate.
    """

    name: str
    dev: Groups
    test: Groups
    systems: Mapping[str, tuple[Floats, Floats]]
    unreachable: int = 0


@dataclass(frozen=True)
class Evaluated:
    """The tables written, and what a router needs of each (population, system)."""

    tables: dict[str, TableHandle]
    calibrations: dict[tuple[str, str], tuple[Calibration, Thresholds]]


def evaluate(path: Path, populations: Sequence[Population], precision: float = TARGET_PRECISION) -> Evaluated:
    """Measure every system on every population, and write the tables of ``SCHEMAS`` into one file.

    Args:
        precision: how often the router is to be right where it does not ask.
    """
    calibrations: dict[tuple[str, str], tuple[Calibration, Thresholds]] = {}
    with write_tables(path, SCHEMAS) as writer:
        for population in populations:
            probabilities: dict[str, Floats] = {}
            for name, (dev, test) in population.systems.items():
                calibration = fit(population.dev, dev)
                on_dev, on_test = calibration.decide(population.dev, dev), calibration.decide(population.test, test)
                thresholds = choose_thresholds(on_dev, precision)
                calibrations[population.name, name] = calibration, thresholds
                probabilities[name] = calibration.probabilities(population.test, test)
                writer.add_all("summary", _summaries(population, name, probabilities[name]))
                place = (population.name, name)
                _add_calibration(writer, place, calibration, thresholds, precision, on_dev, on_test)
                logger.info("%s, %s: hit@1 %.3f", *place, population.test.ranks(probabilities[name])[0].mean())
            writer.add_all("comparisons", _comparisons(population, probabilities))
    return Evaluated({name: open_table(path, name) for name in SCHEMAS}, calibrations)


def _slices(groups: Groups) -> Iterator[tuple[str, str, Bools]]:
    yield _ALL, _ALL, np.ones(len(groups), np.bool_)
    for dimension, values in (("tier", groups.tiers), ("domain", groups.domains), ("origin", groups.origins)):
        found = np.array(values)
        names = sorted(set(values))
        if len(names) > 1:
            yield from ((dimension, name, found == name) for name in names)


def _summaries(population: Population, system: str, probabilities: Floats) -> Iterator[tuple[object, ...]]:
    groups = population.test
    values = np.stack(groups.ranks(probabilities), axis=1)
    chosen, right = groups.new[groups.best(probabilities)], groups.of_new
    for dimension, name, inside in _slices(groups):
        draw = seed("interval", population.name, dimension, name)
        intervals = bootstrap(values[inside], _clusters(groups, inside), draw)
        count = int(inside.sum())
        bounds = [number for i in intervals for number in (i.mean, i.low, i.high)]
        of_all: tuple[int | None, float | None] = (None, None)
        if dimension == _ALL:
            of_all = population.unreachable, intervals[0].mean * count / (count + population.unreachable)
        head = (population.name, system, dimension, name, count, intervals[0].clusters, intervals[0].by)
        yield (*head, *bounds, *new_thread_scores(chosen[inside], right[inside]), *of_all)


def new_thread_scores(chosen: Bools, right: Bools) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of starting a thread [messages]; None where there is nothing to count."""
    both, ours, theirs = (int(values.sum()) for values in (chosen & right, chosen, right))
    precision, recall = (both / total if total else None for total in (ours, theirs))
    return precision, recall, 2 * both / (ours + theirs) if ours + theirs else None


def _clusters(groups: Groups, inside: Bools) -> list[str]:
    return [groups.clusters[place] for place in np.flatnonzero(inside).tolist()]


def _comparisons(population: Population, probabilities: Mapping[str, Floats]) -> Iterator[tuple[object, ...]]:
    """Paired differences between every two systems, both ways, over all messages and slice by slice."""
    groups = population.test
    values = {name: np.stack(groups.ranks(scores), axis=1) for name, scores in probabilities.items()}
    for dimension, name, inside in _slices(groups):
        clusters = _clusters(groups, inside)
        draw = seed("comparison", population.name, dimension, name)
        for a, b in permutations(values, 2):
            differences = (values[a] - values[b])[inside]
            intervals = bootstrap(differences, clusters, draw)
            ps = paired_p(differences, clusters, draw)
            for metric, i, p in zip(METRICS, intervals, ps, strict=True):
                head = (population.name, a, b, dimension, name, len(differences), i.clusters)
                yield (*head, metric, i.mean, i.low, i.high, p, i.by)


def _add_calibration(
    writer: TableWriter,
    place: tuple[str, str],
    calibration: Calibration,
    thresholds: Thresholds,
    precision: float,
    on_dev: Decisions,
    on_test: Decisions,
) -> None:
    errors = []
    for split, decided in (("dev", on_dev), ("test", on_test)):
        bins = reliability(decided)
        errors.append(calibration_error(bins))
        writer.add_all("reliability", ((*place, split, *vars(one).values()) for one in bins))
        writer.add_all("outcomes", ((*place, split, *row) for row in confusion(decided, thresholds)))
    brier = float(((on_test.sure - on_test.right) ** 2).mean())
    fitted = (calibration.kind, calibration.sharpness, calibration.new)
    writer.add("calibrations", (*place, *fitted, *errors, brier, precision, thresholds.route, thresholds.new))


def confusion(decided: Decisions, thresholds: Thresholds) -> list[tuple[str, str, bool, int]]:
    """(``thread`` or ``new`` by the truth, outcome, whether the best candidate was right, count), without those of none."""
    rows = zip(np.where(decided.of_new, "new", "thread"), thresholds.outcomes(decided), decided.right, strict=True)
    kinds, counts = np.unique([f"{t} {o} {int(r)}" for t, o, r in rows], return_counts=True)
    parts = (str(kind).split() for kind in kinds)
    return [(t, o, r == "1", int(n)) for (t, o, r), n in zip(parts, counts, strict=True)]
