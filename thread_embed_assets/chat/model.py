"""Messages and conversations, as parsers yield them and as the tables hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa


class Truth(StrEnum):
    """Who said that these messages form one thread."""

    ANNOTATED = "annotated"
    EXPLICIT = "explicit"
    PREDICTED = "predicted"
    GUESSED = "guessed"  # by chat/disentangle.py; trains, and is never benchmark truth


class Split(StrEnum):
    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


class Kind(StrEnum):
    """What a message is; only ``TEXT`` survives cleaning."""

    TEXT = "text"
    BOT = "bot"
    SYSTEM = "system"


@dataclass(slots=True)
class Message:
    """One message.

    Attributes:
        id: unique within its source.
        author: the name as the platform gives it; after anonymising, the person's opaque id.
        text: the text as the platform gives it; after cleaning, plain text with ``<@person id>`` mentions.
        time: seconds since 1970-01-01 UTC, or None where the source has no times.
        parents: ids of the messages this one replies to, of the same conversation; may be several.
        kind: what the parser knows it to be.
    """

    id: str
    author: str
    text: str
    time: float | None = None
    parents: tuple[str, ...] = ()
    kind: Kind = Kind.TEXT


@dataclass(slots=True)
class Conversation:
    """The messages of one thread, in the order in which they were sent.

    Attributes:
        id: unique within its source, and the same in every build.
        channel: the room it took place in; unique within its source.
        published_split: the split its publisher put it in, where there is one.
        origin: file it was read from, relative to the source's raw folder.
        roster: names of the people who speak around it; masked wherever they stand.
        onlookers: names of people who were only seen to be there; masked where they are addressed (``name: ...``), since as
            bare words they mostly mean something else.
    """

    id: str
    source: str
    platform: str
    channel: str
    truth: Truth
    messages: list[Message]
    published_split: Split | None = None
    origin: str = ""
    roster: frozenset[str] = field(default=frozenset(), repr=False)
    onlookers: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def start(self) -> float | None:
        times = [m.time for m in self.messages if m.time is not None]
        return min(times) if times else None

    @property
    def end(self) -> float | None:
        times = [m.time for m in self.messages if m.time is not None]
        return max(times) if times else None


_TIME = pa.timestamp("us", tz="UTC")

CONVERSATIONS = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("source", pa.string()),
        ("platform", pa.string()),
        ("channel", pa.string()),
        ("truth", pa.string()),
        ("split", pa.string()),
        ("started_at", _TIME),
        ("ended_at", _TIME),
        ("message_count", pa.int32()),
        ("participant_count", pa.int32()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("origin", pa.string()),
    ]
)

MESSAGES = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("position", pa.int32()),
        ("message_id", pa.string()),
        ("person_id", pa.string()),
        ("text", pa.string()),
        ("sent_at", _TIME),
        ("parents", pa.list_(pa.string())),
    ]
)


def microseconds(time: float | None) -> int | None:
    """Seconds to the whole microseconds an Arrow timestamp holds."""
    return None if time is None else round(time * 1_000_000)
