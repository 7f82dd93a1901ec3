from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from thread_embed_assets.benchmark.statistics import Cell, bootstrap, holm, macro_bootstrap, paired_p


def column(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]


def test_the_interval_of_independent_values_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(0.4, 0.3, 900)
    (found,) = bootstrap(column(values), [str(i) for i in range(900)], seed=1)
    error = values.std() / np.sqrt(900)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    assert (found.clusters, found.by) == (900, "cluster")


def test_constant_values_have_a_point_interval() -> None:
    (found,) = bootstrap(column([0.5] * 20), [str(i // 2) for i in range(20)], seed=1, resamples=200)
    assert found.low == found.high == pytest.approx(0.5)


def test_resampling_clusters_is_wider_than_resampling_queries_where_clusters_matter() -> None:
    generator = np.random.default_rng(3)
    values = np.repeat(generator.normal(0, 1, 40), 10) + generator.normal(0, 0.1, 400)
    (clustered,) = bootstrap(column(values), [str(i // 10) for i in range(400)], seed=1)
    (naive,) = bootstrap(column(values), [str(i) for i in range(400)], seed=1)
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.1)


def test_clusters_of_unequal_size_weigh_by_their_queries() -> None:
    clusters = ["big"] * 90 + [f"small{i}" for i in range(10)]
    (found,) = bootstrap(column([1.0] * 90 + [0.0] * 10), clusters, seed=1, resamples=2_000)
    assert found.mean == pytest.approx(0.9)
    assert found.low == 0.0, "in some samples the big cluster is not drawn"


def test_few_clusters_fall_back_to_queries_and_say_so() -> None:
    values = column(np.linspace(0, 1, 40))
    (few,) = bootstrap(values, [str(i % 4) for i in range(40)], seed=1, resamples=500)
    (each,) = bootstrap(values, [str(i) for i in range(40)], seed=1, resamples=500)
    assert (few.by, few.clusters) == ("query", 4)
    assert (few.low, few.high) == (each.low, each.high)


def test_draws_are_seeded_and_columns_do_not_disturb_each_other() -> None:
    values = np.random.default_rng(5).random((60, 3))
    clusters = [str(i // 2) for i in range(60)]
    together = bootstrap(values, clusters, seed=4, resamples=300)
    assert together == bootstrap(values, clusters, seed=4, resamples=300)
    (alone,) = bootstrap(values[:, 1:2], clusters, seed=4, resamples=300)
    assert (together[1].low, together[1].high) == pytest.approx((alone.low, alone.high))
    assert together != bootstrap(values, clusters, seed=5, resamples=300)


def test_blocks_cover_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = np.random.default_rng(5).random((60, 1)) - 0.45, [str(i) for i in range(60)]
    (whole,), (p,) = bootstrap(values, clusters, seed=4), paired_p(values, clusters, seed=4)
    monkeypatch.setattr("thread_embed_assets.benchmark.statistics._CELLS", 60 * 7)
    (blocks,), (p_blocks,) = bootstrap(values, clusters, seed=4), paired_p(values, clusters, seed=4)
    assert blocks.low == pytest.approx(whole.low, abs=0.003)
    assert p_blocks == pytest.approx(p, abs=0.02)


def test_p_is_uniform_where_nothing_differs_and_small_where_it_does() -> None:
    generator = np.random.default_rng(11)
    clusters = [str(i // 2) for i in range(80)]
    null = paired_p(generator.normal(0, 1, (80, 200)), clusters, seed=2, resamples=999)
    assert 0.01 <= np.mean(np.array(null) < 0.05) <= 0.10
    assert np.mean(null) == pytest.approx(0.5, abs=0.07)
    (shifted,) = paired_p(generator.normal(0.8, 1, (80, 1)), clusters, seed=2, resamples=999)
    assert shifted == pytest.approx(0.001)


def test_flipping_by_cluster_sees_through_repeated_queries() -> None:
    """Ten clusters that differ by chance look significant only if their copies are taken for fresh evidence."""
    once = np.random.default_rng(8).normal(0.25, 1, 12)
    copies = column(np.repeat(once, 30))
    (clustered,) = paired_p(copies, [str(i // 30) for i in range(360)], seed=1)
    (naive,) = paired_p(copies, [str(i) for i in range(360)], seed=1)
    assert clustered > 5 * naive


def test_p_agrees_with_scipy_exact_and_drawn() -> None:
    generator = np.random.default_rng(2)
    for number, tolerance in ((10, 1e-12), (40, 0.02)):
        a, b = generator.random(number), generator.random(number) + 0.1
        expected = permutation_test(
            (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True, rng=1
        )
        (found,) = paired_p(column(a - b), [str(i) for i in range(number)], seed=1)
        assert found == pytest.approx(expected.pvalue, abs=tolerance)


def test_equal_systems_have_p_one() -> None:
    assert paired_p(np.zeros((30, 2)), [str(i) for i in range(30)], seed=1) == [1.0, 1.0]


def test_holm_on_a_worked_example() -> None:
    # ordered .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def cell(values: object, clusters: list[str], group: str = "one") -> Cell:
    return Cell(group, np.asarray(values, dtype=np.float64), clusters)


def test_the_macro_interval_of_one_cell_is_that_of_its_mean() -> None:
    values = np.random.default_rng(2).normal(0.1, 0.3, 120)
    clusters = [str(i // 4) for i in range(120)]
    (one,) = bootstrap(column(values), clusters, seed=7, resamples=500)
    assert macro_bootstrap([cell(values, clusters)], seed=7, resamples=500) == one


def test_cells_count_the_same_whatever_their_size_and_groups_are_drawn_apart() -> None:
    large = cell([0.0] * 200, [str(i) for i in range(200)], "large")
    small = cell([1.0] * 10, [str(i) for i in range(10)], "small")
    found = macro_bootstrap([large, small], seed=1, resamples=300)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5), "no source is drawn in the place of another"
    assert found.clusters == 210


def test_cells_of_a_group_share_their_clusters_draws() -> None:
    values = np.random.default_rng(4).normal(0, 1, 400)
    clusters = [str(i) for i in range(400)]
    width = []
    for groups in (("one", "one"), ("one", "two")):
        found = macro_bootstrap([cell(values, clusters, group) for group in groups], seed=3, resamples=4_000)
        width.append(found.high - found.low)
    assert width[0] / width[1] == pytest.approx(np.sqrt(2), rel=0.06), "the same clusters twice tell nothing new"


def test_a_cell_that_a_sample_leaves_empty_is_left_out_of_that_sample() -> None:
    many = cell([0.25] * 30, [str(i) for i in range(30)])
    rare = cell([0.25], ["0"])
    found = macro_bootstrap([many, rare], seed=5, resamples=300)
    assert (found.low, found.high) == (0.25, 0.25)


def test_few_clusters_of_a_group_fall_back_to_queries_and_say_so() -> None:
    few = cell(np.linspace(0, 1, 40), [str(i % 3) for i in range(40)])
    found = macro_bootstrap([few, cell(np.zeros(40), [str(i) for i in range(40)], "two")], seed=5, resamples=300)
    assert found.by == "query" and found.low < found.mean < found.high
