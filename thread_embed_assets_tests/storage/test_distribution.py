from __future__ import annotations

from collections import Counter

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thread_embed_assets.storage.distribution import Distribution, distribution, distribution_of

NUMBERS = st.lists(st.integers(0, 999) | st.integers(0, 10**9), min_size=1, max_size=60)


def _from_sql(numbers: list[float | None], expression: str = "x") -> Distribution | None:
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE given (x DOUBLE)")
        connection.execute("INSERT INTO given SELECT unnest(?::DOUBLE[])", [numbers])
        return distribution(connection, expression, "given")


def test_small_numbers_are_counted_one_by_one() -> None:
    found = _from_sql([3, 1, 3, 999, 3])
    assert found == Distribution((1, 3, 999), (1, 3, 1), mean=1009 / 5, largest=999.0)
    assert found.n == 5


def test_large_numbers_keep_three_digits_and_their_own_mean() -> None:
    found = _from_sql([1_234, 1_239, 98_765.4])
    assert found is not None
    assert (found.values, found.counts) == ((1_230, 98_700), (2, 1))
    assert found.mean == pytest.approx((1_234 + 1_239 + 98_765.4) / 3)
    assert found.largest == 98_765.4


def test_nothing_known_is_not_nought() -> None:
    assert _from_sql([None, None]) is None
    assert _from_sql([]) is None
    assert distribution_of([]) is None
    assert _from_sql([None, 5, None]) == Distribution((5,), (1,), 5.0, 5.0)


def test_below_nought_counts_as_nought_and_fractions_are_rounded_down() -> None:
    found = _from_sql([-7, 0.9, 1.9])
    assert found is not None
    assert (found.values, found.counts) == ((0, 1), (2, 1))


@settings(max_examples=25, deadline=None)
@given(NUMBERS)
def test_numbers_at_hand_give_the_same_as_those_in_a_table(numbers: list[int]) -> None:
    found, expected = distribution_of(numbers), _from_sql(list(numbers))
    assert found is not None and expected is not None
    assert (found.values, found.counts, found.largest) == (expected.values, expected.counts, expected.largest)
    assert found.mean == pytest.approx(expected.mean)
    assert found.n == len(numbers)
    assert all(number * 0.99 <= value <= number for number, value in zip(sorted(numbers), _spread_out(found), strict=True))


def _spread_out(found: Distribution) -> list[int]:
    return sorted(Counter(dict(zip(found.values, found.counts, strict=True))).elements())


@given(st.lists(st.integers(0, 999), min_size=1, max_size=50), st.integers(1, 100))
@example([1, 2], 50)
@example(list(range(100)), 7)  # 0.07 * 100 is a little more than 7
def test_a_quantile_is_the_smallest_number_that_covers_its_share(numbers: list[int], percent: int) -> None:
    found = distribution_of(numbers)
    assert found is not None
    quantile = found.quantile(percent / 100)
    assert sum(number <= quantile for number in numbers) * 100 >= percent * len(numbers)
    assert sum(number < quantile for number in numbers) * 100 < percent * len(numbers)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=50), st.sets(st.integers(0, 999), min_size=1, max_size=8))
def test_a_histogram_counts_from_each_edge_to_the_next(numbers: list[int], steps: set[int]) -> None:
    found = distribution_of(numbers)
    assert found is not None
    edges = sorted(steps)
    ends = [*edges[1:], 1_000]
    expected = [sum(low <= number < high for number in numbers) for low, high in zip(edges, ends, strict=True)]
    assert found.histogram(edges) == expected
