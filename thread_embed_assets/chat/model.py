"""Messages and conversations, as parsers yield them and as the tables hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from thread_embed_assets.storage.columns import described


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

CONVERSATIONS = described(
    [
        ("conversation_id", pa.string(), "unique within its source, and the same in every build"),
        ("source", pa.string(), "the catalogue's name of the source"),
        ("platform", pa.string(), "whose markup was resolved: slack, irc, discord, zulip, dialogue"),
        ("channel", pa.string(), "the room it took place in"),
        ("truth", pa.string(), "who said that these messages form a thread: annotated, explicit, predicted, guessed"),
        ("split", pa.string(), "train, dev or test"),
        ("started_at", _TIME, "of the first message; null where the source has no times"),
        ("ended_at", _TIME, "of the last message"),
        ("message_count", pa.int32(), "messages that cleaning left"),
        ("participant_count", pa.int32(), "people who wrote them"),
        ("language", pa.string(), "ISO 639-1 code of the most likely language"),
        ("language_score", pa.float32(), "how likely, in [0, 1]"),
        ("origin", pa.string(), "file it was read from, relative to the source's raw folder"),
    ]
)

MESSAGES = described(
    [
        ("conversation_id", pa.string(), "the conversation it belongs to"),
        ("position", pa.int32(), "place in the conversation, from 0"),
        ("message_id", pa.string(), "unique within its source"),
        ("person_id", pa.string(), "the author as an opaque id, salted per installation"),
        ("text", pa.string(), "cleaned; people are ids, private data is masked"),
        ("sent_at", _TIME, "null where the source has no times"),
        ("parents", pa.list_(pa.string()), "message_ids that it replies to, of the same conversation"),
    ]
)


def microseconds(time: float | None) -> int | None:
    """Seconds to the whole microseconds an Arrow timestamp holds."""
    return None if time is None else round(time * 1_000_000)
