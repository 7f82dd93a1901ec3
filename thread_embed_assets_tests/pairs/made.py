"""Conversations and pair tables for the tests of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.language_models.summaries import SUMMARIES
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, PAIRS
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets_tests.chat.planted import NOON, Stored, sentences

SIZES = (3, 4, 5, 6, 7, 8)
PEOPLE = ("p_00000000aa", "p_00000000bb", "p_00000000cc")


def as_read(stored: Stored) -> StoredConversation:
    messages = [stored.message(n) for n in range(len(stored.texts))]
    head = (stored.id, "made", "slack", stored.channel, "explicit", stored.split)
    return StoredConversation(*head, stored.start, messages[-1].time, "en", 0.9, "made up", messages)


LINES = st.sampled_from(["ok", "is it so?", "what", "it is in the drawer", "why is it not there?", "I see what you mean"])


@st.composite
def talks(draw: st.DrawFn) -> StoredConversation:
    """Conversations of 1 to 40 messages by three people, with reply links backwards and forwards or none."""
    count = draw(st.integers(1, 40))
    texts = draw(st.lists(LINES, min_size=count, max_size=count))
    people = draw(st.lists(st.sampled_from(PEOPLE), min_size=count, max_size=count))
    links = st.lists(st.integers(0, count - 1), max_size=3, unique=True)
    parents = draw(st.just(()) | st.lists(links, min_size=count, max_size=count))
    return as_read(Stored("c", texts, people=people, parents=parents))


def threads(
    count: int, messages: int = 12, *, channels: int = 2, test: int = 0, dev: int = 0, hours: float = 6, seed: str = "t"
) -> list[Stored]:
    """Conversations on time lines of their channels; the last are test, those before them dev; all texts differ."""
    splits = ["train"] * (count - test - dev) + ["dev"] * dev + ["test"] * test
    return [
        Stored(
            f"c{n:03}",
            [f"{text}?" if k % 3 == 0 else text for k, text in enumerate(sentences(messages, f"{seed}{n}"))],
            split=split,
            channel=f"room{n % channels}",
            start=NOON + 3600 * hours * n,
            people=PEOPLE[:2],
        )
        for n, split in enumerate(splits)
    ]


PAIR: dict[str, Any] = {
    "pair_id": "c1#thread0",
    "strategy": "thread",
    "source": "made",
    "platform": "slack",
    "channel": "room0",
    "conversation_id": "c1",
    "conversation_label": 1,
    "split": "train",
    "truth": "explicit",
    "text_format": "plain",
    "anchor": "the anchor",
    "positive": "its positive",
    "negative": None,
    "negative_conversation_id": None,
    "anchor_ids": ["a1", "a2", "a3"],
    "positive_ids": ["b1", "b2", "b3"],
    "gap_seconds": 60.0,
}
NEGATIVE: dict[str, Any] = {
    "pair_id": "c1#thread0",
    "strategy": "thread",
    "source": "made",
    "conversation_id": "c1",
    "kind": "bm25",
    "rank": 1,
    "score": 1.5,
    "negative": "something else",
    "negative_conversation_id": "c2",
}


def pair(number: int, **fields: Any) -> dict[str, Any]:
    ids = {"pair_id": f"c{number}#thread0", "conversation_id": f"c{number}", "conversation_label": number}
    texts = {"anchor": f"anchor of {number}", "positive": f"positive for {number}"}
    return PAIR | ids | texts | fields


def write_pairs(path: Path, rows: Iterable[dict[str, Any]]) -> TableHandle:
    with write_tables(path, {"pairs": PAIRS}) as writer:
        writer.add_all("pairs", (tuple(row[name] for name in PAIRS.names) for row in rows))
    return open_table(path, "pairs")


def write_negatives(path: Path, rows: Iterable[dict[str, Any]]) -> TableHandle:
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES}) as writer:
        writer.add_all("hard_negatives", (tuple(row[name] for name in HARD_NEGATIVES.names) for row in rows))
    return open_table(path, "hard_negatives")


def lines_about(name: str) -> tuple[str, ...]:
    """Summary, title and questions about a conversation of that id."""
    return f"what {name} is about", f"title of {name}", f"who asked in {name}", f"what came of {name}"


def write_summaries(path: Path, planted: Iterable[Stored]) -> TableHandle:
    """Lines about all that is planted but test conversations."""
    with write_tables(path, {"summaries": SUMMARIES}) as writer:
        for p in planted:
            if p.split != "test":
                summary, title, *questions = lines_about(p.id)
                writer.add("summaries", (p.id, "made", p.split, "extractive", "p", summary, title, questions, 0, 0))
    return open_table(path, "summaries")


def rows(handle: TableHandle, order_by: str = "") -> Sequence[dict[str, Any]]:
    return list(handle.rows_as_dicts(order_by=order_by))
