from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from thread_embed_assets.pairs import volume
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.pairs.volume import UniformSample, most_pairs, within_cap
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.chat.planted import store

from .made import rows, threads

TABLE = {"numbers": pa.schema([("number", pa.int64())])}
PER_CONVERSATION = 8
# The targets, in pairs over the full catalogue.
TARGETS = {
    Strategy.THREAD: (2_000_000, 5_000_000),
    Strategy.RESPONSE: (500_000, 1_000_000),
    Strategy.TEMPORAL: (1_000_000, 2_000_000),
    Strategy.SUMMARY: (100_000, 500_000),
}


def _sampled(folder: Path, keys: list[int], most: int, block: int = 100) -> tuple[list[int], int]:
    """The kept numbers of 0, 1, ... in the order of the table, and how many were dropped."""
    folder.mkdir(exist_ok=True)
    with write_tables(folder / "t.duckdb", TABLE) as writer:
        sample = UniformSample(writer, "numbers", most, folder)
        for start in range(0, len(keys), block):
            some = range(start, min(start + block, len(keys)))
            sample.add(
                pa.record_batch([pa.array(some, pa.int64())], schema=TABLE["numbers"]), np.array(keys, np.uint64)[some]
            )
        dropped = sample.finish()
    return [row["number"] for row in open_table(folder / "t.duckdb", "numbers").rows_as_dicts()], dropped


def test_the_smallest_keys_are_kept_in_their_order_however_they_come_in_blocks(tmp_path: Path) -> None:
    keys = [seed(number) for number in range(900)]
    limit = sorted(keys)[249]
    expected = [number for number, key in enumerate(keys) if key <= limit]
    for block in (1, 7, 250, 5_000):
        kept, dropped = _sampled(tmp_path / str(block), keys, 250, block)
        assert kept == expected
        assert dropped == 650
    assert _sampled(tmp_path / "all", keys, 900) == (list(range(900)), 0)
    assert _sampled(tmp_path / "more", keys, 10_000) == (list(range(900)), 0)
    assert _sampled(tmp_path / "none", [], 5) == ([], 0)


def test_memory_and_what_waits_on_disk_are_bounded(tmp_path: Path) -> None:
    keys = np.random.default_rng(3).integers(0, 2**64, 200_000, dtype=np.uint64)
    most, held, waiting = 1_000, 0, 0
    with write_tables(tmp_path / "t.duckdb", TABLE) as writer:
        sample = UniformSample(writer, "numbers", most, tmp_path)
        for some in np.split(keys, 2_000):
            waiting += int((some <= sample._limit).sum())
            sample.add(pa.record_batch([pa.array(np.zeros(100, np.int64))], schema=TABLE["numbers"]), some)
            held = max(held, len(sample._smallest) + sum(map(len, sample._newer)))
        assert sample.finish() == 199_000
    assert held <= 2 * most + 100
    assert waiting <= most * (2 + np.log2(len(keys) / most))
    assert not (tmp_path / "waiting.arrow").exists()


def test_the_sample_is_uniform_over_the_file_and_within_conversations(tmp_path: Path) -> None:
    """Chi-square over places in the file and over a conversation's pairs; the head of a file fails by far."""
    total, most, parts = 40_000, 4_000, 20
    keys = [
        seed("pairs kept", Strategy.THREAD, "made", f"c{n // PER_CONVERSATION}", n % PER_CONVERSATION) for n in range(total)
    ]
    kept, _ = _sampled(tmp_path, keys, most, 1_000)

    def p_values(numbers: list[int]) -> tuple[float, float]:
        by_part = Counter(number * parts // total for number in numbers)
        by_place = Counter(number % PER_CONVERSATION for number in numbers)
        return (
            float(chisquare([by_part[part] for part in range(parts)]).pvalue),
            float(chisquare([by_place[place] for place in range(PER_CONVERSATION)]).pvalue),
        )

    assert min(p_values(kept)) > 0.01, p_values(kept)
    assert p_values(list(range(most)))[0] < 1e-9
    assert p_values([number for number in range(total) if number % PER_CONVERSATION < 2][:most])[1] < 1e-9


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 12))
def test_a_conversation_keeps_its_smallest_keys_and_others_all(names: list[str], most: int) -> None:
    keys = [seed(name, place) for place, name in enumerate(names)]
    kept = within_cap(names, most, keys.__getitem__)
    assert kept == sorted(kept)
    for name in "abc":
        own = sorted(keys[place] for place in range(len(names)) if names[place] == name)
        assert sorted(keys[place] for place in kept if names[place] == name) == own[:most]


def test_a_capped_table_is_a_part_of_the_whole_and_of_a_larger_one(tmp_path: Path) -> None:
    stored = store(tmp_path / "c.duckdb", threads(40, messages=20, dev=6))
    found = {}
    for most in (None, 120, 60):
        path = tmp_path / f"{most}.duckdb"
        options = PairOptions(most_pairs=most)
        found[most] = build_pairs(Strategy.THREAD, "made", stored.conversations, stored.messages, options, path)
    whole, large, small = ([row["pair_id"] for row in rows(found[most])] for most in (None, 120, 60))
    assert (len(large), len(small)) == (120, 60)
    assert [name for name in whole if name in set(large)] == large
    assert [name for name in large if name in set(small)] == small
    assert found[60].counts["dropped_beyond_most_pairs"] == len(whole) - 60
    assert "dropped_beyond_most_pairs" not in found[None].counts
    assert len({name.split("#")[0] for name in small}) > 25


def test_a_long_conversation_does_not_count_for_many(tmp_path: Path) -> None:
    long = replace(threads(1, messages=150, seed="long")[0], id="long")
    stored = store(tmp_path / "c.duckdb", [*threads(6, messages=10), long])
    tables = stored.conversations, stored.messages
    free, capped = (
        build_pairs(Strategy.THREAD, "made", *tables, PairOptions(most_per_conversation=most), tmp_path / f"{most}.duckdb")
        for most in (10_000, 20)
    )
    before, after = (Counter(row["conversation_id"] for row in rows(pairs)) for pairs in (free, capped))
    assert before["long"] > 60
    assert after["long"] == 20
    assert {name: count for name, count in after.items() if name != "long"} == {
        name: count for name, count in before.items() if name != "long"
    }
    assert capped.counts["dropped_beyond_most_per_conversation"] == before["long"] - 20
    assert {row["pair_id"] for row in rows(capped)} < {row["pair_id"] for row in rows(free)}


def test_the_catalogues_caps_meet_the_targets() -> None:
    catalog = load_catalog()
    large = [source for source in catalog.values() if source.most_pairs]
    assert {source.name for source in large} >= {"ubuntu_irc", "discord_dialogues"}
    for strategy, (fewest, most) in TARGETS.items():
        assert fewest <= sum(most_pairs(strategy, source.most_pairs) for source in large) <= most, strategy


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_undeclared_cap_is_the_strategys_own(strategy: Strategy) -> None:
    assert most_pairs(strategy, {}) == volume.MOST_PAIRS[strategy]
    assert most_pairs(strategy, {str(strategy): 7}) == 7
