from __future__ import annotations

import pickle
from pathlib import Path

import duckdb
import numpy as np
import pytest

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import Block, read_blocks, read_conversations, read_texts
from thread_embed_assets.errors import InputError

from .planted import DAY, NOON, Stored, sentences, store


def planted(count: int = 30) -> list[Stored]:
    """Conversations of 1 to 7 messages, alternately train and dev, and every fifth of them test."""
    return [
        Stored(f"c{n:02}", sentences(1 + n % 7, n), split="test" if n % 5 == 4 else ("train", "dev")[n % 2])
        for n in range(count)
    ]


def test_conversations_come_back_whole_in_the_order_they_were_stored(tmp_path: Path) -> None:
    some = [
        Stored("late", sentences(3, 1), channel="b", start=NOON + DAY, parents=[[], [0], [0, 1]]),
        Stored("other", sentences(4, 2), channel="a", start=NOON - DAY, split="test"),
        Stored("timeless", sentences(3, 3), channel="b", start=None),
        Stored("twin", sentences(1, 4), channel="a", start=NOON, split="dev"),
        Stored("empty", [], channel="a", start=None),
        Stored("first", sentences(3, 5), channel="a", start=NOON),
    ]
    stored = store(tmp_path / "c.duckdb", some)
    found = list(read_conversations(stored.conversations, stored.messages))
    assert [c.id for c in found] == [p.id for p in some]
    for p, c in zip(some, found, strict=True):
        assert c.messages == [p.message(n) for n in range(len(p.texts))]
        assert (c.source, c.platform, c.channel, c.truth, c.split) == ("made", "slack", p.channel, "explicit", p.split)
        assert c.start == p.start
        assert c.end == (None if p.start is None else p.start + 60.0 * (len(p.texts) - 1))
        assert (c.language, round(c.language_score, 3), c.origin) == ("en", 0.9, "made up")


@pytest.mark.parametrize("where", ["c.split <> 'test'", "split = 'dev' OR c.split = 'train'"])
def test_conditions_are_over_the_conversations_and_their_messages_are_skipped(tmp_path: Path, where: str) -> None:
    some = planted()
    stored = store(tmp_path / "c.duckdb", some)
    wanted = [p for p in some if p.split != "test"]
    found = list(read_conversations(stored.conversations, stored.messages, where))
    assert [c.id for c in found] == [p.id for p in wanted]
    assert [[m.text for m in c.messages] for c in found] == [list(p.texts) for p in wanted]
    assert list(read_texts(stored.conversations, stored.messages, where)) == [text for p in wanted for text in p.texts]
    assert list(read_conversations(stored.conversations, stored.messages, "message_count > 100")) == []
    assert list(read_conversations(stored.conversations, stored.messages, "NULL")) == []


def test_blocks_are_whole_conversations_cut_by_messages(tmp_path: Path) -> None:
    some = planted()
    stored = store(tmp_path / "c.duckdb", some)
    blocks = list(read_blocks(stored.conversations, stored.messages, block_messages=10))
    assert [name for block in blocks for name in block.ids] == [p.id for p in some]
    assert all(10 <= block.messages.num_rows < 17 for block in blocks[:-1])
    assert all(block.sizes.sum() == block.messages.num_rows == len(block.texts) for block in blocks)
    selected = list(read_blocks(stored.conversations, stored.messages, "split = 'train'", 10))
    assert [block.ids for block in selected] == [
        names for block in blocks if (names := [p.id for p in some if p.id in block.ids and p.split == "train"])
    ]


def test_a_block_can_be_cut_down_and_sent(tmp_path: Path) -> None:
    some = planted()
    stored = store(tmp_path / "c.duckdb", some)
    block = next(read_blocks(stored.conversations, stored.messages))
    assert [c.id for c in block] == [p.id for p in some]
    kept = block.keep(np.array([n % 3 == 1 for n in range(len(some))]))
    assert [(c.id, [m.text for m in c.messages]) for c in kept] == [(p.id, list(p.texts)) for p in some[1::3]]
    assert list(pickle.loads(pickle.dumps(kept))) == list(kept)
    few = Block(block.heads.slice(0, 1), block.messages.slice(0, 1))
    assert len(pickle.dumps(few)) < len(pickle.dumps(block)) / 2


def test_more_messages_than_a_batch_are_one_conversation(tmp_path: Path) -> None:
    texts = [f"message {n}" for n in range(20_000)]
    stored = store(tmp_path / "c.duckdb", [Stored("long", texts), Stored("next", texts[:3])])
    found = list(read_conversations(stored.conversations, stored.messages))
    assert [[m.text for m in c.messages] for c in found] == [texts, texts[:3]]
    assert [len(b.texts) for b in read_blocks(stored.conversations, stored.messages, block_messages=5)] == [20_000, 3]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE conversations SET message_count = message_count + 1 WHERE conversation_id = 'c29'",
        "UPDATE conversations SET message_count = message_count + 1 WHERE conversation_id = 'c03'",
        "UPDATE messages SET conversation_id = 'c09' WHERE conversation_id = 'c08' AND position = 0",
        "UPDATE messages SET conversation_id = 'c09' WHERE conversation_id = 'c08' AND position = 1",
        "DELETE FROM messages WHERE conversation_id = 'c05'",
        "CREATE OR REPLACE TABLE messages AS SELECT * FROM messages ORDER BY conversation_id DESC, position",
    ],
)
def test_messages_of_another_conversation_are_never_taken_for_its_own(tmp_path: Path, change: str) -> None:
    stored: Normalised = store(tmp_path / "c.duckdb", planted())
    with duckdb.connect(str(tmp_path / "c.duckdb")) as connection:
        connection.execute(change)
    with pytest.raises(InputError, match=r"c\.duckdb: the messages do not lie in the order of their conversations"):
        list(read_conversations(stored.conversations, stored.messages))
