from __future__ import annotations

from pathlib import Path

from thread_embed_assets.chat.read import read_conversations

from .planted import DAY, NOON, Stored, sentences, store


def test_conversations_come_back_whole_by_channel_and_time(tmp_path: Path) -> None:
    planted = [
        Stored("late", sentences(3, 1), channel="a", start=NOON + DAY, parents=[[], [0], [0, 1]]),
        Stored("other", sentences(4, 2), channel="b", start=NOON - DAY, split="test"),
        Stored("timeless", sentences(3, 3), channel="b", start=None),
        Stored("twin", sentences(3, 4), channel="a", start=NOON, split="dev"),
        Stored("first", sentences(3, 5), channel="a", start=NOON),
    ]
    stored = store(tmp_path / "c.duckdb", planted)
    found = list(read_conversations(stored.conversations, stored.messages))
    assert [c.id for c in found] == ["first", "twin", "late", "other", "timeless"]
    by_id = {c.id: c for c in found}
    for p in planted:
        c = by_id[p.id]
        assert c.messages == [p.message(n) for n in range(len(p.texts))]
        assert (c.source, c.platform, c.channel, c.truth, c.split) == ("made", "slack", p.channel, "explicit", p.split)
        assert c.start == p.start
        assert c.end == (None if p.start is None else p.start + 60.0 * (len(p.texts) - 1))
        assert (c.language, round(c.language_score, 3), c.origin) == ("en", 0.9, "made up")


def test_conditions_are_over_the_conversations(tmp_path: Path) -> None:
    planted = [Stored(split, sentences(3, split), split=split) for split in ("train", "dev", "test")]
    stored = store(tmp_path / "c.duckdb", planted)
    assert [c.id for c in read_conversations(stored.conversations, stored.messages, "c.split <> 'test'")] == ["dev", "train"]


def test_more_messages_than_a_batch_are_one_conversation(tmp_path: Path) -> None:
    texts = [f"message {n}" for n in range(20_000)]
    stored = store(tmp_path / "c.duckdb", [Stored("long", texts), Stored("next", texts[:3])])
    found = list(read_conversations(stored.conversations, stored.messages))
    assert [[m.text for m in c.messages] for c in found] == [texts, texts[:3]]
