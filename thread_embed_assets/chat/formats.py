"""How messages become the text a model reads: declared here, chosen on dev, kept with the model.

A model's package holds a copy of this file as ``chat_text.py``, so it needs nothing but Python::

    sys.path.append("thread-embed")  # the package's folder
    from chat_text import chat_text

    text = chat_text([{"author": "ann", "text": "is the build red?"}, {"author": "bo", "text": "@ann yes, since noon"}])
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

SETTINGS = "config_sentence_transformers.json"  # a package says there, under "text_format", how its model reads

MENTION = re.compile(r"<@(p_[0-9a-f]{10})>")
_MENTION_AND_SPACE = re.compile(rf" ?{MENTION.pattern}")
_LEADING_MENTIONS = re.compile(r"^(?:<@p_[0-9a-f]{10}>[\s,:;]*)+")


class Said(Protocol):
    """A message, as :class:`thread_embed_assets.chat.model.Message` is one."""

    @property
    def author(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def time(self) -> float | None: ...


@dataclass(frozen=True)
class TextFormat:
    """One way to write a window of messages.

    Attributes:
        speaker: start each line with ``speaker_k:``, k counted inside this text.
        mention: what a mention becomes: left out, or ``@speaker_k``.
        time: start each line with the time since the line before, such as ``[+5m]``.
    """

    name: str
    speaker: bool = False
    mention: Literal["drop", "speaker"] = "drop"
    time: bool = False

    def renderer(self, messages: Sequence[Said]) -> Callable[[Sequence[int]], str]:
        """:meth:`render` for many windows of the same messages, each given by the positions of its messages."""
        if self._plain:
            lines = [_without_mentions(m.text) for m in messages]
            return lambda window: "\n".join([lines[i] for i in window])
        return lambda window: self.render([messages[i] for i in window])

    def render(self, messages: Sequence[Said]) -> str:
        """The messages as one text, a line each; the same people in another window get other numbers."""
        if self._plain:
            return "\n".join(_without_mentions(m.text) for m in messages)
        numbers: dict[str, int] = {}

        def number(person: str) -> str:
            return f"speaker_{numbers.setdefault(person, len(numbers) + 1)}"

        lines: list[str] = []
        previous: float | None = None
        for message in messages:
            head = ""
            if self.time:
                head += _gap(previous, message.time)
                previous = message.time if message.time is not None else previous
            if self.speaker:
                head += f"{number(message.author)}: "
            if self.mention == "drop":
                text = _without_mentions(message.text)
            else:
                text = MENTION.sub(lambda found: "@" + number(found[1]), message.text)
            lines.append(head + text)
        return "\n".join(lines)

    @property
    def _plain(self) -> bool:
        """Whether a message is written the same in every window."""
        return not (self.speaker or self.time) and self.mention == "drop"


def _without_mentions(text: str) -> str:
    if "<@p_" not in text:
        return text
    return _MENTION_AND_SPACE.sub("", _LEADING_MENTIONS.sub("", text)).strip()


def _gap(previous: float | None, time: float | None) -> str:
    if previous is None or time is None:
        return ""
    seconds = max(0.0, time - previous)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"[+{int(seconds // size)}{unit}] "
    return "[+0m] "


FORMATS: dict[str, TextFormat] = {
    f.name: f
    for f in (
        TextFormat("plain"),
        TextFormat("speakers", speaker=True, mention="speaker"),
        TextFormat("times", time=True),
        TextFormat("speakers_times", speaker=True, mention="speaker", time=True),
    )
}
DEFAULT_FORMAT = "plain"


@dataclass(frozen=True)
class _Line:
    author: str
    text: str
    time: float | None


def chat_text(messages: Iterable[Mapping[str, Any]], text_format: str | None = None, people: Iterable[str] = ()) -> str:
    """Messages of a chat as the one text that a model reads, people masked as they were in training.

    Masked are authors, and where these or ``people`` are spoken to: ``<@name>``, ``@name``, and ``name:`` or ``name,`` at
    the start of a line. Names in running text stay.

    Args:
        messages: in the order they were sent; each has ``author`` and ``text``, and ``time``, in seconds or as a datetime,
            for formats that tell times. A query is a list of one.
        text_format: a name in ``FORMATS``; by default that of the package this file lies in, and elsewhere ``plain``.
        people: names of others who may be spoken to.

    Raises:
        ValueError: an unknown format, or a message without author or text.
    """
    name = text_format or _format_of(Path(__file__).with_name(SETTINGS))
    if name not in FORMATS:
        raise ValueError(f"unknown text format {name!r}. Known formats: {', '.join(FORMATS)}")
    given = list(messages)
    for place, message in enumerate(given):
        if not (isinstance(message.get("author"), str) and isinstance(message.get("text"), str)):
            raise ValueError(f"message {place} has no 'author' or no 'text', two strings")
    known = sorted({*(m["author"] for m in given), *people} - {""}, key=lambda one: (-len(one), one))
    spoken_to = "|".join(map(re.escape, known)) or r"(?!)"
    address = re.compile(
        rf"<@({spoken_to})>|(?<![\w@])@({spoken_to})(?![\w-])|^({spoken_to})(?=[:,])", re.IGNORECASE | re.MULTILINE
    )

    def masked(text: str) -> str:
        return address.sub(lambda found: f"<@{_masked_name(found[found.lastindex or 0])}>", text)

    return FORMATS[name].render(
        [_Line(_masked_name(m["author"]), masked(m["text"]), _seconds(m.get("time"))) for m in given]
    )


def _masked_name(name: str) -> str:
    return "p_" + sha256(name.casefold().encode()).hexdigest()[:10]


def _seconds(time: datetime | float | None) -> float | None:
    return time.timestamp() if isinstance(time, datetime) else time


def _format_of(settings: Path) -> str:
    told = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    return str(told.get("text_format", DEFAULT_FORMAT))
