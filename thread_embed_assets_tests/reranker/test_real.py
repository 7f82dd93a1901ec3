from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message, Split
from thread_embed_assets.reranker.candidates import EXAMPLES, FEATURES, NEW_THREAD, Candidate, Floats
from thread_embed_assets.reranker.real import Sampling, write_examples
from thread_embed_assets.reranker.replay import Channel, Turn
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.chat.planted import NOON, sentences

Row = dict[str, Any]
AUTHORS = ("p_00000000aa", "p_00000000bb", "p_00000000cc")


def room(threads: Sequence[int], split: Split = Split.TRAIN, name: str = "room") -> Channel:
    """A channel in which each message, one a minute, is of the thread with the number given."""
    met: set[int] = set()
    turns = []
    for place, (thread, text) in enumerate(zip(threads, sentences(len(threads), name), strict=True)):
        message = Message(f"{name}-{place}", AUTHORS[place % 3], text, NOON + 60.0 * place)
        turns.append(Turn(message, f"t{thread}", (f"t{thread}",) if thread in met else (), split))
        met.add(thread)
    return Channel("made", name, turns)


def rows(handle: TableHandle) -> list[Row]:
    return list(handle.rows_as_dicts())


def groups(handle: TableHandle) -> dict[str, list[Row]]:
    return {name: list(found) for name, found in groupby(rows(handle), key=lambda row: str(row["group_id"]))}


BUSY = [0, 1, 2, 0, 3, 4, 1, 5, 2, 0, 4, 6, 3, 1, 0, 5]


def test_in_dev_all_active_threads_and_a_new_one_are_candidates_and_one_is_right(tmp_path: Path) -> None:
    found = groups(write_examples(tmp_path / "e.duckdb", [room([0, 1, 0, 2, 1], Split.DEV)]))
    told = {name: [(row["candidate_id"], row["label"]) for row in group] for name, group in found.items()}
    assert told == {
        "made/room-1/same_channel": [("t0", 0), (NEW_THREAD, 1)],
        "made/room-2/same_channel": [("t1", 0), ("t0", 1), (NEW_THREAD, 0)],
        "made/room-3/same_channel": [("t0", 0), ("t1", 0), (NEW_THREAD, 1)],
        "made/room-4/same_channel": [("t2", 0), ("t0", 0), ("t1", 1), (NEW_THREAD, 0)],
    }


def test_a_row_holds_what_the_log_knew(tmp_path: Path) -> None:
    channel = room([0, 1, 0, 1], Split.TEST)
    handle = write_examples(tmp_path / "e.duckdb", [channel])
    assert handle.schema.names == EXAMPLES.names
    turns = list(channel.turns)
    new, first = (
        row for row in rows(handle) if row["group_id"] == "made/room-3/same_channel" and row["candidate_id"] != "t1"
    )
    new, first = (new, first) if new["candidate_id"] == NEW_THREAD else (first, new)
    assert first["thread"].split("\n") == [FORMATS["plain"].render([turns[n].message]) for n in (0, 2)]
    assert first["message"] == turns[3].message.text
    assert (first["split"], first["origin"], first["tier"], first["domain"]) == ("test", "made", "same_channel", "room")
    assert (first["sent_at"].timestamp(), first["known_until"].timestamp()) == (NOON + 180, NOON + 120)
    assert new["known_until"].timestamp() == NOON + 120, "a new thread's features rest on all the others"
    assert (first["profile"], first["template"]) == ("", "")
    assert first["flow_continuity"] > 0


def test_nothing_said_later_changes_an_example(tmp_path: Path) -> None:
    whole, cut = room(BUSY), room(BUSY)
    turns = list(cut.turns)[:10]
    early = groups(write_examples(tmp_path / "cut.duckdb", [replace(cut, turns=turns)]))
    late = groups(write_examples(tmp_path / "whole.duckdb", [whole]))
    assert len(early) == 18
    assert all(late[name] == group for name, group in early.items())
    assert all(row["known_until"] < row["sent_at"] for group in late.values() for row in group)


def test_train_messages_have_three_wrong_candidates_of_each_tier(tmp_path: Path) -> None:
    channel = room([*range(8), *(n % 8 for n in range(40))])
    found = groups(write_examples(tmp_path / "e.duckdb", [channel], Sampling(candidates=5)))
    late = {name: group for name, group in found.items() if int(name.split("/")[1].split("-")[1]) >= 8}
    assert not late, "the thread of each message is the longest silent of eight, and five are candidates"
    found = groups(write_examples(tmp_path / "f.duckdb", [channel]))
    assert {name.rsplit("/", 1)[1] for name in found} == {"random", "same_channel"}
    for name, group in found.items():
        candidates = [row["candidate_id"] for row in group]
        assert sum(row["label"] for row in group) == 1
        assert len(set(candidates)) == len(candidates) == min(4, 1 + int(name.split("/")[1].split("-")[1]))
    drawn = Counter(row["candidate_id"] for group in found.values() for row in group if not row["label"])
    assert all(drawn[f"t{n}"] > 5 for n in range(8))


def test_a_new_thread_is_drawn_as_often_as_any_other_wrong_candidate(tmp_path: Path) -> None:
    channel = room([*range(8), *(n % 8 for n in range(400))])
    found = groups(write_examples(tmp_path / "e.duckdb", [channel]))
    late = [group for name, group in found.items() if int(name.split("/")[1].split("-")[1]) >= 8]
    assert all(len(group) == 4 for group in late)
    for tier in ("random", "same_channel"):
        wrong = Counter(r["candidate_id"] for group in late for r in group if not r["label"] and r["tier"] == tier)
        assert wrong[NEW_THREAD] / sum(wrong.values()) == pytest.approx(1 / 8, rel=0.25), "seven threads and a new one"


def test_random_candidates_come_from_all_of_the_past_and_others_from_the_latest_threads(tmp_path: Path) -> None:
    channel = room([*range(30), *([29, 28] * 20)])
    handle = write_examples(tmp_path / "e.duckdb", [channel], Sampling(candidates=4))
    late = [row for row in rows(handle) if int(row["group_id"].split("/")[1].split("-")[1]) >= 30 and row["label"] == 0]
    of = {tier: {r["candidate_id"] for r in late if r["tier"] == tier} for tier in ("random", "same_channel")}
    assert of["same_channel"] == {NEW_THREAD, "t26", "t27", "t28", "t29"}
    assert len(of["random"]) > 20


def test_mined_candidates_are_those_a_scorer_takes_for_right(tmp_path: Path) -> None:
    asked: list[int] = []

    def by_number(message: str, candidates: Sequence[Candidate]) -> Floats:
        asked.append(len(candidates))
        return np.array([int(candidate.id[1:]) for candidate in candidates], np.float32)

    channel = room([*range(8), 0, 7])
    handle = write_examples(tmp_path / "e.duckdb", [channel], Sampling(tiers=("mined",)), by_number)
    found = {name: [r["candidate_id"] for r in group if not r["label"]] for name, group in groups(handle).items()}
    mined = [("room-8", ["t7", "t6", "t5"]), ("room-9", ["t6", "t5", "t4"])]
    for name, best in mined:
        wrong = found[f"made/{name}/mined"]
        assert wrong in (best, [*best[:2], NEW_THREAD]), "the best three, or a new thread in the last one's place"
    assert found["made/room-7/mined"] == ["t6", "t5", "t4"], "it begins a thread"
    assert asked
    with pytest.raises(AssertionError):
        write_examples(tmp_path / "f.duckdb", [channel], Sampling(tiers=("mined",)))


def test_threads_that_the_message_joins_too_are_not_called_wrong(tmp_path: Path) -> None:
    channel = room([0, 1, 2, 2], Split.DEV)
    turns = list(channel.turns)
    turns[3] = replace(turns[3], continues=("t1", "t0"))
    found = groups(write_examples(tmp_path / "e.duckdb", [replace(channel, turns=turns)]))
    group = found["made/room-3/same_channel"]
    assert [(r["candidate_id"], r["label"]) for r in group] == [("t2", 0), ("t1", 1), (NEW_THREAD, 0)]


def test_what_is_not_asked_about_is_context_and_what_cannot_be_reached_is_counted(tmp_path: Path) -> None:
    channel = room([0, 1, 2, 0, 2], Split.TEST)
    turns = [replace(turn, asked=place not in (1, 2)) for place, turn in enumerate(channel.turns)]
    handle = write_examples(tmp_path / "e.duckdb", [replace(channel, turns=turns)], Sampling(candidates=2))
    assert list(groups(handle)) == ["made/room-4/same_channel"]
    assert dict(handle.counts) == {"made/test": 1, "made/test/unreachable": 1, "made/test/alone": 1}


def test_no_held_out_thread_is_a_candidate_of_a_train_message(tmp_path: Path) -> None:
    channel = room(BUSY)
    turns = [replace(t, split=Split.TEST if t.begins in ("t1", "t4") else Split.TRAIN) for t in channel.turns]
    handle = write_examples(tmp_path / "e.duckdb", [replace(channel, turns=turns)])
    seen = {split: {r["candidate_id"] for r in rows(handle) if r["split"] == split} for split in ("train", "test")}
    assert {"t1", "t4"} <= seen["test"]
    assert not {"t1", "t4"} & seen["train"]
    assert "t0" in seen["train"] & seen["test"]


def test_the_same_rows_again_and_a_share_of_the_messages(tmp_path: Path) -> None:
    channel = room([n % 7 for n in range(120)])
    all_rows = rows(write_examples(tmp_path / "a.duckdb", [channel]))
    assert rows(write_examples(tmp_path / "b.duckdb", [channel])) == all_rows
    half = rows(write_examples(tmp_path / "c.duckdb", [channel], Sampling(train_share=0.5)))
    assert 0.3 < len(half) / len(all_rows) < 0.7
    assert all(row in all_rows for row in half)
    other = rows(write_examples(tmp_path / "d.duckdb", [channel], Sampling(seed=1)))
    assert [row["candidate_id"] for row in other] != [row["candidate_id"] for row in all_rows]


def test_features_of_a_new_thread_are_the_best_of_all_active_ones_not_of_those_drawn(tmp_path: Path) -> None:
    """Where messages are routed, all active threads are candidates, so training must see the same numbers."""
    channel = room([*range(13)])
    handle = write_examples(tmp_path / "e.duckdb", [channel])
    last = groups(handle)["made/room-12/same_channel"]
    (new,) = (row for row in last if row["candidate_id"] == NEW_THREAD)
    assert new["flow_continuity"] in (0.5, 1.0), "thread 11 spoke just before"
    drawn = [row["candidate_id"] for row in last]
    assert "t11" not in drawn or len(drawn) == 4
    assert all(new[name] >= max(r[name] for r in last) for name in FEATURES[:4])
