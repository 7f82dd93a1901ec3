"""Slack channels as XML with threads found by an automatic disentangler (Chatterjee et al. 2020).

``<slack><team_domain/><channel_name/>...<message conversation_id="N"><ts/><user/><text/></message>...``; the conversations
of a file are interleaved, and their numbers start again in each file. Slack's markup is left in the text, and with it
``&lt;`` and ``&amp;``, by which Slack tells characters from markup: cleaning resolves both, in that order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.parsers import expat

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source

_YEAR = re.compile(r"\d{4}")
# No bots post in these channels. "None" is what the publishers' export wrote for a post that has no text of its own.
_SYSTEM = re.compile(
    r"None$|<@[^>]+> (?:(?:has )?(?:joined|left|archived|unarchived) the channel"
    r"|(?:set|cleared) the channel (?:topic|purpose))"
)


@dataclass(slots=True)
class _Row:
    line: int
    conversation: str
    fields: dict[str, list[str]] = field(default_factory=dict)


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The conversations of each file, in the order of their first messages; a file is held at a time.

    The channel is ``team/channel``, the same for every year's file of it. Naive timestamps are taken as UTC. No reply links
    exist.

    Raises:
        InputError: a file is truncated or not XML, declares a DTD or entity, or a message lacks a field; it names the line.
    """
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.xml")):
        reader = _Reader(path)
        year = path.parent.name if _YEAR.fullmatch(path.parent.name) else path.stem
        qualifier = f"{reader.head('team_domain')}/{year}/{reader.head('channel_name')}"
        if qualifier in seen:
            remedy = "Give each year's file of a channel a folder named by its year"
            raise InputError(path, f"holds {qualifier}, as {seen[qualifier]} does", remedy)
        seen[qualifier] = path
        yield from _conversations(reader, qualifier, path.relative_to(folder).as_posix(), source)


def _conversations(reader: _Reader, qualifier: str, origin: str, source: Source) -> Iterator[Conversation]:
    grouped: dict[str, list[Message]] = {}
    for position, row in enumerate(reader.rows):
        text = "\n".join(row.fields.get("text", ()))
        message = Message(
            id=f"{qualifier}:{row.conversation}/{position}",
            author=reader.one(row, "user"),
            text=text,
            time=_seconds(reader, row),
            kind=Kind.SYSTEM if _SYSTEM.match(text) else Kind.TEXT,
        )
        grouped.setdefault(row.conversation, []).append(message)
    roster = frozenset(message.author for messages in grouped.values() for message in messages)
    for conversation, messages in grouped.items():
        yield Conversation(
            id=f"{qualifier}:{conversation}",
            source=source.name,
            platform=source.platform,
            channel=f"{reader.head('team_domain')}/{reader.head('channel_name')}",
            truth=source.truth,
            messages=sorted(messages, key=lambda message: message.time or 0.0),
            origin=origin,
            roster=roster,
        )


def _seconds(reader: _Reader, row: _Row) -> float:
    text = reader.one(row, "ts")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        problem = f"<ts> {text!r} is not an ISO time"
        raise InputError(f"{reader.path}:{row.line}", problem, "Mend it, or fetch the source again") from error


class _Reader:
    """Reads one file with expat, which fetches nothing; declarations that could make it expand entities are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[_Row] = []
        self._head: dict[str, str] = {}
        self._open: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        try:
            with path.open("rb") as file:
                self._parser.ParseFile(file)
        except expat.ExpatError as error:
            problem = f"not well-formed XML ({expat.ErrorString(error.code)})"
            remedy = "The file may be cut short: fetch the source again"
            raise InputError(f"{path}:{error.lineno}", problem, remedy) from error

    def head(self, name: str) -> str:
        """The text of an element that stands before the messages."""
        text = self._head.get(name, "").strip()
        if not text:
            raise InputError(self.path, f"has no <{name}>", "Mend it, or fetch the source again")
        return text

    def one(self, row: _Row, name: str) -> str:
        """The text of a message's one element of that name."""
        texts = row.fields.get(name, [])
        if len(texts) != 1 or not texts[0].strip():
            problem = f"the message has {len(texts) or 'no'} <{name}>, or an empty one"
            raise InputError(f"{self.path}:{row.line}", problem, "Mend it, or fetch the source again")
        return texts[0].strip()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "message":
            line = self._parser.CurrentLineNumber
            if "conversation_id" not in attributes:
                remedy = "Mend it, or fetch the source again"
                raise InputError(f"{self.path}:{line}", "the message has no conversation_id", remedy)
            self.rows.append(_Row(line, attributes["conversation_id"]))
        self._open.append(name)
        self._text.clear()

    def _end(self, name: str) -> None:
        self._open.pop()
        inside = self._open[-1] if self._open else ""
        if inside == "message":
            self.rows[-1].fields.setdefault(name, []).append("".join(self._text))
        elif inside == "slack" and name != "message":
            self._head[name] = "".join(self._text)
        self._text.clear()

    def _refuse(self, *_: object) -> None:
        place = f"{self.path}:{self._parser.CurrentLineNumber}"
        remedy = "No published file has one; remove the declaration, and ask where this file comes from"
        raise InputError(place, "declares a document type or an entity, which is refused", remedy)
