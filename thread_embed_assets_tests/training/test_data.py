from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, read_dev_sets, share, write_training_data
from thread_embed_assets_tests.training.tiny import write_hard_negatives, write_pairs


def _anchors(config: StageConfig, inputs: list[PairInput], folder: Path) -> dict[str, list[str]]:
    folder.mkdir()
    data = write_training_data(config, inputs, "all", folder)
    return {name: list(dataset["anchor"]) for name, dataset in data.datasets.items()}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> PairInput:
    return write_pairs(tmp_path_factory.mktemp("many"), "thread", "alpha", 2_000, random.Random(1), conversations=40)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 5_000), st.floats(0.1, 10)), min_size=1),
    st.integers(0, 9_000),
)
def test_shares_use_the_whole_cap_and_nobody_gets_more_than_it_has(table: dict[str, tuple[int, float]], cap: int) -> None:
    rows = {name: count for name, (count, _) in table.items()}
    granted = share(cap, rows, {name: weight for name, (_, weight) in table.items()})
    assert sum(granted.values()) == min(cap, sum(rows.values()))
    assert all(0 <= granted[name] <= rows[name] for name in rows)


def test_shares_are_in_proportion_to_weight_and_rows() -> None:
    rows = {"a": 1_000, "b": 1_000, "c": 3_000}
    assert share(300, rows, {"a": 2.0, "b": 1.0, "c": 1.0}) == {"a": 100, "b": 50, "c": 150}
    assert share(100, {"a": 10, "b": 1_000}, {"a": 1e6, "b": 1.0}) == {"a": 10, "b": 90}
    assert share(None, {"a": 3}, {"a": 1.0}) == {"a": 3}


def test_the_sample_is_stable_uniform_and_not_the_head_of_the_file(many: PairInput, tmp_path: Path) -> None:
    config = StageConfig(max_pairs=400)
    every = _anchors(StageConfig(), [many], tmp_path / "every")["thread-alpha"]
    first = _anchors(config, [many], tmp_path / "first")["thread-alpha"]
    assert len(first) == 400
    assert first == _anchors(config, [many], tmp_path / "again")["thread-alpha"]
    place = {anchor: number for number, anchor in enumerate(every)}
    quarters = Counter(place[anchor] * 4 // len(every) for anchor in first)
    assert all(70 < quarters[quarter] < 130 for quarter in range(4)), quarters
    other = _anchors(config.model_copy(update={"seed": 1}), [many], tmp_path / "other")["thread-alpha"]
    assert len(set(first) & set(other)) < 200


def test_a_larger_cap_keeps_the_smaller_sample(many: PairInput, tmp_path: Path) -> None:
    small = _anchors(StageConfig(max_pairs=100), [many], tmp_path / "small")["thread-alpha"]
    large = _anchors(StageConfig(max_pairs=300), [many], tmp_path / "large")["thread-alpha"]
    assert set(small) <= set(large)


def test_only_train_rows_train_and_only_dev_rows_measure(inputs: list[PairInput], tmp_path: Path) -> None:
    train = {a for anchors in _anchors(StageConfig(), inputs, tmp_path / "x").values() for a in anchors}
    stored = {r["anchor"]: r["split"] for i in inputs for r in i.pairs.rows_as_dicts(["anchor", "split"])}
    assert train == {anchor for anchor, split in stored.items() if split == "train"}
    dev = read_dev_sets(StageConfig(dev_pairs=12), inputs)
    assert [(one.name, len(one.anchors)) for one in dev] == [("thread-alpha", 6), ("temporal-alpha", 6)]
    assert all(stored[anchor] == "dev" for one in dev for anchor in one.anchors)
    assert read_dev_sets(StageConfig(dev_pairs=0), inputs) == []


def test_the_strategys_own_negatives_make_a_data_set_of_their_own(inputs: list[PairInput], tmp_path: Path) -> None:
    data = write_training_data(StageConfig(hard_negatives="strategy"), inputs, "all", tmp_path)
    assert set(data.datasets) == {"thread-alpha", "temporal-alpha", "temporal-alpha-hard"}
    assert set(data.datasets["temporal-alpha-hard"][0]) == {"anchor", "positive", "negative_1"}
    assert set(data.datasets["temporal-alpha"][0]) == {"anchor", "positive"}
    assert len(data.datasets["temporal-alpha"]) + len(data.datasets["temporal-alpha-hard"]) == 40


def test_the_nearest_mined_negative_is_taken_and_pairs_without_one_stay(inputs: list[PairInput], tmp_path: Path) -> None:
    ids = [f"thread-{n:05d}" for n in range(0, 60, 2)]
    thread = PairInput("thread", "alpha", inputs[0].pairs, write_hard_negatives(tmp_path, inputs[0].pairs, ids))
    data = write_training_data(StageConfig(hard_negatives="bm25"), [thread], "all", tmp_path)
    hard = data.datasets["thread-alpha-hard"].with_format(None)
    assert sorted(hard["negative_1"]) == [f"negative 1 of {pair_id}" for pair_id in ids]
    assert sorted(hard["negative_conversation_1"]) == [f"elsewhere:{pair_id}" for pair_id in ids]
    assert len(data.datasets["thread-alpha"]) == 30
    with pytest.raises(InputError, match="no such table"):
        write_training_data(StageConfig(hard_negatives="bm25"), [inputs[0]], "all", tmp_path)
    with pytest.raises(InputError, match=r"'mined' negatives.*Materialise mined_negatives for this mix"):
        write_training_data(StageConfig(hard_negatives="mined"), [inputs[0]], "all", tmp_path)


def _negatives(folder: Path, wanted: list[tuple[str, str, str, str, int]]) -> TableHandle:
    """Rows of (kind, strategy, source, pair id, how many); a text tells all of these and its rank."""
    path = folder / "wanted.duckdb"
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES}) as writer:
        for kind, strategy, source, pair_id, count in wanted:
            for rank in range(count, 0, -1):
                told = f"{kind} {strategy} {source} {pair_id} {rank}"
                row = (pair_id, strategy, source, "train:0", kind, rank, 0.5, told, f"of {told}")
                writer.add("hard_negatives", row)
    return open_table(path, "hard_negatives")


def test_a_pair_has_as_many_negatives_as_asked_for_and_repeats_those_it_has(inputs: list[PairInput], tmp_path: Path) -> None:
    ids = [f"thread-{n:05d}" for n in range(5)]
    counts = [1, 2, 3, 5, 0]
    table = _negatives(tmp_path, [("mined", "thread", "alpha", *row) for row in zip(ids, counts, strict=True)])
    config = StageConfig(hard_negatives="mined", negatives=3)
    data = write_training_data(config, [replace(inputs[0], hard_negatives=table)], "all", tmp_path)
    visible = data.datasets["thread-alpha-hard"]
    assert visible.column_names and set(visible[0]) == {"anchor", "positive", "negative_1", "negative_2", "negative_3"}
    rows = list(visible.with_format(None))
    ranks = sorted([[int(row[f"negative_{n}"].split()[-1]) for n in (1, 2, 3)] for row in rows])
    assert ranks == [[1, 1, 1], [1, 2, 1], [1, 2, 3], [1, 2, 3]]
    for row in rows:
        assert [row[f"negative_conversation_{n}"] for n in (1, 2, 3)] == [f"of {row[f'negative_{n}']}" for n in (1, 2, 3)]
    assert len(data.datasets["thread-alpha"]) == 60 - 4
    everything = [*data.datasets["thread-alpha"]["anchor"], *visible["anchor"]]
    assert len(everything) == len(set(everything)) == 60


def test_negatives_of_other_kinds_strategies_and_sources_are_not_taken(inputs: list[PairInput], tmp_path: Path) -> None:
    first, second = (f"thread-{n:05d}" for n in range(2))
    wrong = [("bm25", "thread", "alpha"), ("mined", "temporal", "alpha"), ("mined", "thread", "beta")]
    wanted = [(*kind, first, 2) for kind in wrong] + [("mined", "thread", "alpha", second, 1)]
    given = replace(inputs[0], hard_negatives=_negatives(tmp_path, wanted))
    data = write_training_data(StageConfig(hard_negatives="mined", negatives=2), [given], "all", tmp_path)
    texts = data.datasets["thread-alpha-hard"]["negative_1"]
    assert list(texts) == [f"mined thread alpha {second} 1"]


def test_a_strategys_own_negative_stays_one_however_many_are_asked_for(inputs: list[PairInput], tmp_path: Path) -> None:
    data = write_training_data(StageConfig(hard_negatives="strategy", negatives=4), inputs, "all", tmp_path)
    assert set(data.datasets["temporal-alpha-hard"][0]) == {"anchor", "positive", "negative_1"}


def test_an_empty_mix_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mix 'without_irc'.*no pair table is given.*Materialise"):
        write_training_data(StageConfig(), [], "without_irc", tmp_path)
    empty = write_pairs(tmp_path, "thread", "alpha", 0, random.Random(1))
    with pytest.raises(InputError, match=r"mix 'all'.*thread-alpha has 0.*Materialise"):
        write_training_data(StageConfig(), [empty], "all", tmp_path)


def test_a_source_of_a_single_conversation_is_left_out_and_recorded(inputs: list[PairInput], tmp_path: Path) -> None:
    single = write_pairs(tmp_path, "thread", "beta", 50, random.Random(1), conversations=1)
    data = write_training_data(StageConfig(), [*inputs, single], "all", tmp_path)
    assert "thread-beta" not in data.datasets
    assert [(c.source, c.rows, c.rows_used) for c in data.counts if c.left_out] == [("beta", 50, 0)]


def test_pairs_in_another_text_format_are_refused(tmp_path: Path) -> None:
    times = write_pairs(tmp_path, "thread", "alpha", 20, random.Random(1), text_format="times")
    with pytest.raises(InputError, match="'times', the stage trains on 'plain'"):
        write_training_data(StageConfig(), [times], "all", tmp_path)
