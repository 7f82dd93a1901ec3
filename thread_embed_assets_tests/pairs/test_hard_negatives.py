from __future__ import annotations

from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.near_copies import similarity
from thread_embed_assets.pairs import quality
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.hard_negatives import HardNegativeOptions, mine
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.chat.planted import Stored, sentences, store

from .made import pair, rows, threads, write_pairs


def built(folder: Path, planted: list[Stored]) -> list[TableHandle]:
    stored = store(folder / "c.duckdb", planted)
    return [
        build_pairs(s, "made", stored.conversations, stored.messages, PairOptions(), folder / f"{s}.duckdb")
        for s in (Strategy.THREAD, Strategy.RESPONSE, Strategy.TEMPORAL)
    ]


def mined(folder: Path, pairs: list[TableHandle], **options: int) -> tuple[TableHandle, list[dict[str, Any]]]:
    handle = mine(pairs, HardNegativeOptions(**options), folder / "negatives.duckdb")
    return handle, list(rows(handle, "pair_id, kind, rank"))


def test_every_train_anchor_gets_one_of_each_kind(tmp_path: Path) -> None:
    pairs = built(tmp_path, threads(30, dev=4, test=4))
    handle, found = mined(tmp_path, pairs)
    train = {row["pair_id"]: row for table in pairs for row in rows(table) if row["split"] == "train"}
    assert {(row["pair_id"], row["kind"]) for row in found} == {
        (p, kind) for p in train for kind in ("bm25", "same_channel")
    }
    owners: dict[str, set[str]] = {}
    for row in train.values():
        owners.setdefault(row["positive"], set()).add(row["conversation_id"])
    channels = {row["conversation_id"]: row["channel"] for row in train.values()}
    for row in found:
        own = train[row["pair_id"]]
        assert (row["strategy"], row["source"], row["conversation_id"]) == (own["strategy"], "made", own["conversation_id"])
        assert row["negative_conversation_id"] != own["conversation_id"]
        assert owners[row["negative"]] == {row["negative_conversation_id"]}
        assert max(similarity(row["negative"], own[side]) for side in ("anchor", "positive")) < 0.6
        assert row["rank"] == 1
        assert (row["score"] is None) == (row["kind"] == "same_channel")
        if row["kind"] == "same_channel":
            assert channels[row["negative_conversation_id"]] == own["channel"]
        else:
            assert row["score"] > 0
    assert handle.counts["anchors"] == len(train)
    assert quality.negatives_schema(handle).passed
    assert quality.negatives_from_elsewhere(handle, pairs).passed


def test_the_same_negatives_come_out_again(tmp_path: Path) -> None:
    pairs = built(tmp_path, threads(20))
    first, _ = mined(tmp_path, pairs)
    (tmp_path / "again").mkdir()
    second, _ = mined(tmp_path / "again", list(reversed(pairs)))
    assert first.fingerprint == second.fingerprint


def test_bm25_finds_the_closest_of_another_conversation(tmp_path: Path) -> None:
    lines = sentences(8, "bm25")
    table = [pair(n, anchor=f"anchor number {n}", positive=line, channel=f"room{n}") for n, line in enumerate(lines)]
    table.append(pair(90, anchor="where does the violin sleep", positive="a violin sleeps in its case", channel="x"))
    table.append(pair(91, anchor="unrelated", positive="an old violin and what it needs to sleep well", channel="y"))
    handle, found = mined(tmp_path, [write_pairs(tmp_path / "p.duckdb", table)])
    (hit,) = [row for row in found if row["pair_id"] == "c90#thread0"]
    assert (hit["kind"], hit["negative_conversation_id"]) == ("bm25", "c91")
    assert handle.counts["same_channel_anchors_short"] == 10


def test_near_copies_of_anchor_and_positive_are_rejected(tmp_path: Path) -> None:
    text, anchor = "the small red kettle stands on the second shelf", "where did they put the small kettle of ours"
    near = [f"{text} now", f"{text} today", f"well {anchor}"]
    table = [pair(1, anchor=anchor, positive=text), *(pair(n, positive=copy) for n, copy in enumerate(near, start=2))]
    table.append(pair(9, positive="a kettle on a shelf of another kitchen"))
    handle, found = mined(tmp_path, [write_pairs(tmp_path / "p.duckdb", table)], per_anchor=4)
    assert {row["negative_conversation_id"] for row in found if row["conversation_id"] == "c1"} == {"c9"}
    assert handle.counts["same_channel_rejected_near_copy"] >= 3
    assert handle.counts["bm25_rejected_near_copy"] >= 3


def test_the_own_conversation_is_rejected_whichever_strategy_wrote_it(tmp_path: Path) -> None:
    lines = sentences(4, "own")
    first = write_pairs(tmp_path / "a.duckdb", [pair(1, positive=lines[0]), pair(2, positive=lines[1])])
    second = write_pairs(
        tmp_path / "b.duckdb", [pair(1, pair_id="c1#x", positive=lines[2], strategy="temporal", anchor=lines[0])]
    )
    handle, found = mined(tmp_path, [first, second], per_anchor=9)
    assert {row["negative_conversation_id"] for row in found if row["conversation_id"] == "c1"} == {"c2"}
    assert handle.counts["same_channel_rejected_same_conversation"] >= 2


def test_a_text_of_several_conversations_is_no_candidate(tmp_path: Path) -> None:
    lines = sentences(4, "shared")
    common = "has somebody seen the key of the cellar"
    table = [pair(n, pair_id=f"c{n}#own", positive=line) for n, line in enumerate(lines)]
    table += [pair(n, pair_id=f"c{n}#common", positive=common) for n in range(2)]
    _, found = mined(tmp_path, [write_pairs(tmp_path / "p.duckdb", table)], per_anchor=9)
    assert len(found) >= 12
    assert common not in {row["negative"] for row in found}


def test_mining_in_blocks_serves_every_block(tmp_path: Path) -> None:
    pairs = built(tmp_path, threads(60, channels=1))
    handle, found = mined(tmp_path, pairs, block_documents=200, retrieved=48)
    assert handle.counts["documents"] > 400
    anchors = {row["pair_id"]: row["conversation_id"] for table in pairs for row in rows(table)}
    for kind in ("bm25", "same_channel"):
        assert {row["pair_id"] for row in found if row["kind"] == kind} == set(anchors)
    assert handle.counts["anchors"] == len(anchors)
    assert quality.negatives_from_elsewhere(handle, pairs).passed
    whole, _ = mined(tmp_path, pairs, retrieved=48)
    assert whole.fingerprint != handle.fingerprint


def test_blocks_do_not_depend_on_a_hash_that_may_change(tmp_path: Path) -> None:
    """A conversation's block follows from the md5 of its id, which Python computes, too."""
    pairs = built(tmp_path, threads(60, channels=1))
    handle, found = mined(tmp_path, pairs, block_documents=200)
    blocks = -(-handle.counts["documents"] // 200)

    def block(conversation: str) -> int:
        return int.from_bytes(md5(conversation.encode()).digest()[8:], "little") % blocks

    assert blocks > 2
    assert {block(row["conversation_id"]) for row in found} == set(range(blocks))
    assert all(block(row["conversation_id"]) == block(row["negative_conversation_id"]) for row in found)


def test_ranks_go_up_to_what_is_asked_for(tmp_path: Path) -> None:
    pairs = built(tmp_path, threads(20, channels=1))
    _, found = mined(tmp_path, pairs, per_anchor=3)
    ranks: dict[tuple[str, str], list[int]] = {}
    for row in found:
        ranks.setdefault((row["pair_id"], row["kind"]), []).append(row["rank"])
    assert {(1, 2, 3)} <= set(map(tuple, ranks.values())) <= {(1,), (1, 2), (1, 2, 3)}
    scores = [row["score"] for row in found if row["kind"] == "bm25" and row["pair_id"] == found[0]["pair_id"]]
    assert scores == sorted(scores, reverse=True)


def test_same_channel_negatives_are_near(tmp_path: Path) -> None:
    table = [pair(n, conversation_id=f"c{n:03}", positive=line) for n, line in enumerate(sentences(100, "near"))]
    _, found = mined(tmp_path, [write_pairs(tmp_path / "p.duckdb", table)], neighbours=5)
    near = [row for row in found if row["kind"] == "same_channel"]
    assert len(near) == 100
    for row in near:
        assert abs(int(row["conversation_id"][1:]) - int(row["negative_conversation_id"][1:])) <= 5
    assert len({row["negative_conversation_id"] for row in near}) > 30


@pytest.mark.parametrize(
    "table",
    [
        [],
        [pair(1, split="dev")],
        [pair(1)],
        [pair(1, anchor="the of it", positive="and to the"), pair(2, anchor="is was", positive="the a an")],
    ],
)
def test_where_there_is_nothing_to_mine_the_table_is_empty(tmp_path: Path, table: list[dict[str, Any]]) -> None:
    _, found = mined(tmp_path, [write_pairs(tmp_path / "p.duckdb", table)])
    assert [row for row in found if row["kind"] == "bm25"] == []


def test_dev_texts_are_no_negatives(tmp_path: Path) -> None:
    planted = threads(16)
    pairs = built(tmp_path, [replace(p, split="dev") if n % 2 else p for n, p in enumerate(planted)])
    _, found = mined(tmp_path, pairs, per_anchor=5)
    assert {int(row["negative_conversation_id"][1:]) % 2 for row in found} == {0}
