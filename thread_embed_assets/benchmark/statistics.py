"""How sure a mean is, and whether two systems differ: resampling by cluster.

Queries of one channel and day share people and topics, so they are drawn together. All columns of a table of values
(one per metric) share the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
FEWEST_CLUSTERS = 5
_CELLS = 4_000_000  # of the resampling matrix held at once
_ROUNDING = 1e-12

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile interval.

    Attributes:
        clusters: how many clusters the values come from.
        by: what was resampled; ``query`` where there are fewer than ``FEWEST_CLUSTERS`` clusters, in which case the
            interval is likely too narrow.
    """

    mean: float
    low: float
    high: float
    clusters: int
    by: Literal["cluster", "query"]


def bootstrap(values: Floats, clusters: Sequence[str], seed: int, resamples: int = RESAMPLES) -> list[Interval]:
    """Cluster bootstrap of means (Field and Welsh 2007): clusters are drawn with replacement, each with all its values.

    Give it per-query differences for a paired interval.

    Args:
        values: [queries, columns], at least one query.
        clusters: the cluster of each query.
        seed: of the draws.
        resamples: number of bootstrap samples.

    Returns:
        One interval per column.
    """
    groups, count, by = _groups(clusters)
    sums, sizes = _sums(values, groups), np.bincount(groups).astype(np.float64)
    number = len(sizes)
    generator = np.random.default_rng(seed)
    means = []
    for rows in _blocks(resamples, number):
        drawn = generator.integers(0, number, size=(rows, number)) + np.arange(rows)[:, None] * number
        times = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number).astype(np.float64)
        means.append((times @ sums) / (times @ sizes)[:, None])
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    centre = values.mean(axis=0)
    return [Interval(float(m), float(a), float(b), count, by) for m, a, b in zip(centre, low, high, strict=True)]


@dataclass(frozen=True)
class Cell:
    """Per-query values of one cell of a table of means.

    Attributes:
        group: cells of a group (the tasks of a source) share clusters, so that these are drawn for all of them together.
        values: [queries], at least one.
        clusters: the cluster of each query.
    """

    group: str
    values: Floats
    clusters: Sequence[str]


def macro_bootstrap(cells: Sequence[Cell], seed: int, resamples: int = RESAMPLES) -> Interval:
    """Cluster bootstrap of the mean of the cells' means, stratified by group; a cell counts the same, whatever its size.

    A group with fewer than ``FEWEST_CLUSTERS`` clusters has its queries drawn, each cell's by themselves. A cell of which a
    sample draws no query is left out of that sample's mean.
    """
    generator = np.random.default_rng(seed)
    columns: list[Floats] = []
    clusters, by_query = 0, False
    for group in dict.fromkeys(cell.group for cell in cells):
        members = [cell for cell in cells if cell.group == group]
        names = {name for cell in members for name in cell.clusters}
        clusters += len(names)
        if len(names) >= FEWEST_CLUSTERS:
            columns += _resampled(members, generator, resamples)
            continue
        by_query = True
        for cell in members:
            alone = Cell(group, cell.values, [str(number) for number in range(len(cell.values))])
            columns += _resampled([alone], generator, resamples)
    low, high = np.percentile(np.nanmean(np.stack(columns), axis=0), [2.5, 97.5])
    mean = float(np.mean([cell.values.mean() for cell in cells]))
    return Interval(mean, float(low), float(high), clusters, "query" if by_query else "cluster")


def _resampled(cells: Sequence[Cell], generator: np.random.Generator, resamples: int) -> list[Floats]:
    """The means [resamples] of each cell over samples of the clusters that the cells share; NaN without a query."""
    numbers: dict[str, int] = {}
    places = [np.array([numbers.setdefault(c, len(numbers)) for c in cell.clusters], dtype=np.intp) for cell in cells]
    count = len(numbers)
    sums = np.stack([np.bincount(p, c.values, minlength=count) for p, c in zip(places, cells, strict=True)], axis=1)
    sizes = np.stack([np.bincount(p, minlength=count) for p in places], axis=1).astype(np.float64)
    means = []
    for rows in _blocks(resamples, count):
        drawn = generator.integers(0, count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        drawn_sizes = times @ sizes
        means.append(np.divide(times @ sums, drawn_sizes, out=np.full_like(drawn_sizes, np.nan), where=drawn_sizes > 0))
    return list(np.concatenate(means).T)


def paired_p(differences: Floats, clusters: Sequence[str], seed: int, resamples: int = RESAMPLES) -> list[float]:
    """Two-sided p-values of the paired permutation test: the signs of a cluster's differences flip together.

    The test of ``scipy.stats.permutation_test(permutation_type="samples")`` on cluster sums, many times faster because
    the columns share the flips. Exact where all flips fit into ``resamples``; else drawn, and then (hits + 1) /
    (resamples + 1) as Phipson and Smyth 2010 advise. Few clusters are treated as in :func:`bootstrap`.

    Args:
        differences: [queries, columns], system a minus system b.
        clusters: the cluster of each query.
        seed: of the draws.
        resamples: number of drawn flips.

    Returns:
        One p-value per column.
    """
    groups, _, _ = _groups(clusters)
    sums = _sums(differences, groups)
    number = len(sums)
    observed = np.abs(sums.sum(axis=0)) - _ROUNDING
    exact = number < 63 and 2**number <= resamples
    if exact:
        bits = np.arange(2**number)[:, None] >> np.arange(number) & 1
        hits = (np.abs((1.0 - 2.0 * bits) @ sums) >= observed).sum(axis=0)
        return [float(h) / 2**number for h in hits]
    generator = np.random.default_rng(seed)
    hits = np.zeros(sums.shape[1], dtype=np.int64)
    for rows in _blocks(resamples, number):
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(rows, number), dtype=np.int8)
        hits += (np.abs(signs @ sums) >= observed).sum(axis=0)
    return [float(h + 1) / (resamples + 1) for h in hits]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979) over one family of tests, in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _groups(clusters: Sequence[str]) -> tuple[npt.NDArray[np.intp], int, Literal["cluster", "query"]]:
    """Group number of each query, the number of clusters, and whether a group is a cluster or a query."""
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(name, len(numbers)) for name in clusters], dtype=np.intp)
    if len(numbers) < FEWEST_CLUSTERS:
        return np.arange(len(groups)), len(numbers), "query"
    return groups, len(numbers), "cluster"


def _sums(values: Floats, groups: npt.NDArray[np.intp]) -> Floats:
    """Sums of the columns by group, [groups, columns]."""
    return np.stack([np.bincount(groups, weights=column) for column in values.T], axis=1)


def _blocks(total: int, width: int) -> Iterator[int]:
    step = max(1, _CELLS // width)
    for start in range(0, total, step):
        yield min(step, total - start)
