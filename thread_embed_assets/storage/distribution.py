"""How the values of a column are spread, in little space: what a histogram is drawn from."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import duckdb

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """Numbers of 0 or more, rounded down to whole ones and to three significant digits, with how often each occurs.

    Attributes:
        values: ascending; at most 1,000 and 900 for each power of ten above.
        counts: how often each occurs.
        mean: of the numbers as they were.
        largest: of the numbers as they were.
    """

    values: tuple[int, ...]
    counts: tuple[int, ...]
    mean: float
    largest: float

    @property
    def n(self) -> int:
        return sum(self.counts)

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of the numbers does not exceed."""
        return self.quantiles([share])[0]

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[int]:
        reached = list(accumulate(self.counts))
        last = len(reached) - 1
        return [self.values[min(last, bisect_right(reached, share * reached[-1] - 1e-9))] for share in shares]

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """How many numbers lie from each edge up to the next; the last bin is open to the right."""
        found = [0] * len(edges)
        for value, count in zip(self.values, self.counts, strict=True):
            place = bisect_right(edges, value) - 1
            if place >= 0:
                found[place] += count
        return found


def distribution(connection: duckdb.DuckDBPyConnection, number: str, rows: str) -> Distribution | None:
    """The distribution of the SQL expression ``number`` over the SQL relation ``rows``; None where it is null throughout.

    Numbers below 0 count as 0. Memory does not grow with the rows.
    """
    found = connection.execute(
        f"WITH given AS (SELECT {number} AS x FROM {rows}), "
        "positive AS (SELECT CASE WHEN x < 0 THEN 0 ELSE x END AS x FROM given), "
        "scaled AS (SELECT x, pow(10, greatest(0, floor(log10(greatest(x, 1))) - 2)) AS unit FROM positive) "
        "SELECT (floor(x / unit) * unit)::BIGINT AS value, count(*), sum(x), max(x) FROM scaled "
        "GROUP BY value HAVING value IS NOT NULL ORDER BY value"  # a condition on x would take its expression twice
    ).fetchall()
    if not found:
        return None
    values, counts, sums, most = zip(*found, strict=True)
    return Distribution(values, counts, float(sum(sums)) / sum(counts), float(max(most)))


def distribution_of(numbers: Iterable[int]) -> Distribution | None:
    """The same of whole numbers of 0 or more at hand; None where there are none."""
    total = most = 0
    found: Counter[int] = Counter()
    for number in numbers:
        total += number
        most = max(most, number)
        unit = 10 ** max(0, len(str(number)) - 3)
        found[number // unit * unit] += 1
    if not found:
        return None
    values, counts = zip(*sorted(found.items()), strict=True)
    return Distribution(values, counts, total / sum(counts), float(most))
