from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.summaries import SUMMARIES
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.pairs.summary import LONGEST_WHOLE, Lines, make
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.chat.planted import Stored, sentences, store

from .made import SIZES, as_read, lines_about, rows, talks, threads, write_summaries

LINES = ("the fuse of the kettle", "kettle trouble", "why does it trip", "which fuse fits")


def told(count: int, *, about: tuple[str, ...] = LINES, special: dict[int, str] | None = None) -> StoredConversation:
    conversation = as_read(Stored("c", [(special or {}).get(n, f"line {n}") for n in range(count)]))
    conversation.lines = about
    return conversation


@given(talk=talks(), first=st.integers(0, 3), seed=st.integers(), lines=st.lists(st.text(min_size=1), max_size=4))
def test_each_line_makes_one_pair_of_whole_messages_in_order(
    talk: StoredConversation, first: int, seed: int, lines: list[str]
) -> None:
    talk.lines, sizes = tuple(lines), SIZES[first:]
    made = list(make(talk, sizes, Random(seed)))
    assert [candidate.line for candidate in made] == lines
    count = len(talk.messages)
    for candidate in made:
        positive = list(candidate.positive)
        assert list(candidate.anchor) == []
        assert positive == list(range(positive[0], positive[-1] + 1)) and positive[-1] < count
        assert len(positive) in sizes or (positive == list(range(count)) and count <= LONGEST_WHOLE)


def test_a_short_thread_is_whole_a_long_one_never_and_others_half_of_the_time() -> None:
    def whole(count: int) -> float:
        made = [c for seed in range(200) for c in make(told(count), SIZES, Random(seed))]
        return sum(len(c.positive) == count for c in made) / len(made)

    assert whole(SIZES[-1]) == 1.0
    assert whole(LONGEST_WHOLE + 1) == 0.0
    assert 0.4 < whole(LONGEST_WHOLE) < 0.6


def test_the_window_is_the_one_that_shares_the_most_words_with_the_line() -> None:
    talk = told(60, about=("kettle fuse",), special={33: "the kettle", 35: "a Fuse", 50: "kettle kettle kettle"})
    for seed in range(20):
        [candidate] = make(talk, (8,), Random(seed))
        assert 33 in candidate.positive and 35 in candidate.positive
    [nowhere] = make(told(60, about=("snow",)), (8,), Random(1))
    assert list(nowhere.positive) == list(range(8)), "of several the first"


def test_lines_come_with_their_conversations_whatever_lies_between(tmp_path: Path) -> None:
    planted = threads(6)
    lines = Lines(write_summaries(tmp_path / "s.duckdb", [planted[1], planted[2], planted[5]]))
    assert lines.take(["c000", "c001"]) == {"c001": lines_about("c001")}
    assert lines.take(["c002", "c003"]) == {"c002": lines_about("c002")}
    with pytest.raises(InputError, match=r"s.duckdb: 'c005' is no train or dev conversation.*conversation_summaries"):
        lines.finish()
    assert lines.take(["c004", "c005"]) == {"c005": lines_about("c005")}
    lines.finish()


def test_summaries_of_other_conversations_are_no_silent_gap(tmp_path: Path) -> None:
    planted = threads(6)
    stored = store(tmp_path / "c.duckdb", planted)
    tables = stored.conversations, stored.messages
    old = write_summaries(tmp_path / "s.duckdb", [planted[0], Stored("c_gone", ["x"]), *planted[1:]])
    with pytest.raises(InputError, match="'c_gone'"):
        build_pairs(Strategy.SUMMARY, "made", *tables, PairOptions(), tmp_path / "p.duckdb", summaries=old)
    with pytest.raises(InputError, match="source 'made': it has no summaries"):
        build_pairs(Strategy.SUMMARY, "made", *tables, PairOptions(), tmp_path / "p.duckdb")
    assert not (tmp_path / "p.duckdb").exists()


def test_dropped_and_unwritten_conversations_make_no_pair(tmp_path: Path) -> None:
    planted = threads(8, test=1, dev=1)
    stored = store(tmp_path / "c.duckdb", planted)
    lines = write_summaries(tmp_path / "s.duckdb", [p for p in planted if p.id != "c003"])
    tables = stored.conversations, stored.messages
    path = tmp_path / "p.duckdb"
    pairs = build_pairs(Strategy.SUMMARY, "made", *tables, PairOptions(), path, summaries=lines, dropped={"c001"})
    found = {row["conversation_id"] for row in rows(pairs)}
    assert found == {"c000", "c002", "c004", "c005", "c006"}
    assert pairs.rows == 4 * len(found)


def test_a_line_that_says_what_is_held_out_makes_no_pair(tmp_path: Path) -> None:
    planted = threads(5, test=1)
    test = planted[-1].texts[4]
    stored = store(tmp_path / "c.duckdb", planted)
    with write_tables(tmp_path / "s.duckdb", {"summaries": SUMMARIES}) as writer:
        leak = f"in short {test}"
        writer.add("summaries", ("c000", "made", "train", "m", "p", leak, "a title", ["one", "two"], 0, 0))
    lines = open_table(tmp_path / "s.duckdb", "summaries")
    tables = stored.conversations, stored.messages
    pairs = build_pairs(Strategy.SUMMARY, "made", *tables, PairOptions(), tmp_path / "p.duckdb", summaries=lines)
    assert {row["anchor"] for row in rows(pairs)} == {"a title", "one", "two"}
    assert pairs.counts["dropped_near_copy_of_held_out"] == 1


def test_a_line_that_stands_in_the_thread_makes_no_pair(tmp_path: Path) -> None:
    planted = [Stored("c000", [*sentences(4, "x"), "so what c000 is about then"])]
    stored = store(tmp_path / "c.duckdb", planted)
    lines = write_summaries(tmp_path / "s.duckdb", planted)
    tables = stored.conversations, stored.messages
    pairs = build_pairs(Strategy.SUMMARY, "made", *tables, PairOptions(), tmp_path / "p.duckdb", summaries=lines)
    assert {row["anchor"] for row in rows(pairs)} == set(lines_about("c000")[1:])
    assert pairs.counts["dropped_one_contains_the_other"] == 1


def test_lines_are_no_part_of_a_conversation_that_is_read_without_them() -> None:
    conversation = as_read(Stored("c", ["one", "two"]))
    assert conversation.lines == () and isinstance(conversation.messages[0], Message)
    assert list(make(conversation, SIZES, Random(0))) == []
