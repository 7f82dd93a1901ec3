"""Invented English conversations, and their stored form, for the tests of cleaning, pairs and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES, Conversation, Message, Split, Truth, microseconds
from thread_embed_assets.chat.normalise import Normalised, open_normalised
from thread_embed_assets.storage.tables import write_tables

NOON = 1_600_000_000.0
DAY = 86_400.0


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


_ADJECTIVES = _words("green slow broken heavy quiet spare wooden empty bright second rusty warm narrow hidden shallow")
_NOUNS = _words(
    "printer garden engine letter bridge window kettle ladder harbour market ticket blanket bottle camera carpet "
    "cabinet basket hammer mirror pillow saddle tunnel violin wagon orchard barrel castle desert forest island"
)
_VERBS = _words("finds breaks moves paints sells follows needs covers holds reaches opens drops fills misses builds")
_PLACES = _words("before the,after all this,under your,right beside every,without another,near our,behind his", ",")


def sentence(draw: Random) -> str:
    """Everyday words; two draws, or two after each other, hardly ever share five in a row."""
    noun = [draw.choice(_NOUNS) for _ in range(4)]
    adjective = [draw.choice(_ADJECTIVES) for _ in range(3)]
    return (
        f"the {adjective[0]} {noun[0]} {draw.choice(_VERBS)} my {adjective[1]} {noun[1]} and the {noun[2]} "
        f"{draw.choice(_VERBS)} that {adjective[2]} {noun[3]} {draw.choice(_PLACES)} {draw.choice(_NOUNS)}"
    )


def sentences(count: int, seed: object) -> list[str]:
    draw = Random(str(seed))
    return [sentence(draw) for _ in range(count)]


def parsed(number: int, texts: Sequence[str] | None = None, *, messages: int = 4, **fields: object) -> Conversation:
    """A conversation as a parser yields it: two people take turns, each message answers the one before, one a minute."""
    start = NOON + DAY * number
    lines = sentences(messages, number) if texts is None else texts
    said = [
        Message(
            f"m{number}-{n}", "zorkle" if n % 2 else "quandor", text, start + 60.0 * n, (f"m{number}-{n - 1}",) if n else ()
        )
        for n, text in enumerate(lines)
    ]
    defaults: dict[str, object] = {
        "id": f"c{number:03}",
        "source": "made",
        "platform": "slack",
        "channel": "general",
        "truth": Truth.EXPLICIT,
        "messages": said,
        "origin": f"file {number}",
        "roster": frozenset({"zorkle", "quandor"}),
        "published_split": Split.TRAIN,
    }
    return Conversation(**(defaults | fields))  # type: ignore[arg-type]


@dataclass
class Stored:
    """A conversation as the tables hold it; planting a fault is replacing a field."""

    id: str
    texts: Sequence[str]
    split: str = "train"
    channel: str = "general"
    start: float | None = NOON
    step: float = 60.0
    people: Sequence[str] = ("p_00000000aa", "p_00000000bb")
    parents: Sequence[Sequence[int]] = ()
    ids: Sequence[str] = ()

    def message(self, position: int) -> Message:
        return Message(
            self.ids[position] if self.ids else f"{self.id}-{position}",
            self.people[position % len(self.people)],
            self.texts[position],
            None if self.start is None else self.start + self.step * position,
            tuple(f"{self.id}-{p}" for p in self.parents[position]) if self.parents else (),
        )


def store(path: Path, conversations: Sequence[Stored], counts: dict[str, int] | None = None) -> Normalised:
    """Write the two tables without any of the filters."""
    with write_tables(path, {"conversations": CONVERSATIONS, "messages": MESSAGES}) as writer:
        writer.counts.update(counts or {})
        for c in conversations:
            said = [c.message(n) for n in range(len(c.texts))]
            times = [microseconds(m.time) for m in said] or [None]
            head = (c.id, "made", "slack", c.channel, "explicit", c.split, times[0], times[-1])
            writer.add("conversations", (*head, len(said), len({m.author for m in said}), "en", 0.9, "made up"))
            for n, m in enumerate(said):
                row = (c.id, n, m.id, m.author, m.text, microseconds(m.time), list(m.parents))
                writer.add("messages", row)
    return open_normalised(path)
