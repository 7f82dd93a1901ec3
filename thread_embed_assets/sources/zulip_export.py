"""Zulip channels as zulip-archive stores them: ``stream_index.json`` and ``<id>-<channel>/<topic>.json``.

Format: https://github.com/zulip/zulip-archive, ``lib/populate.py``: of each message its id, sender's full name, time, and
the HTML that Zulip rendered; in older archives the API's other fields too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.member_names import name_parts, sole_owners
from thread_embed_assets.sources.text_files import read_json

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 7 * 86_400.0
"""Seconds. A topic such as 'general' lives for years, and holds one discussion after another: after a week of silence what
follows is taken for another one, unless it quotes what was said before."""

_INDEX = "stream_index.json"
_RESOLVED = "✔ "
_SYSTEM = frozenset({"Notification Bot", "Welcome Bot"})
_BOT_NAME = re.compile(r"(?:.*[\s_-])?bot", re.IGNORECASE)
_BOT_ADDRESS = re.compile(r"-bot@", re.IGNORECASE)
_QUOTED_REPLY = re.compile(r'/near/(\d+)"[^<>]*>[^<>]*</a>:?</p>\s*<blockquote>')
_MENTION = re.compile(r'<span class="user-mention[^"<>]*" data-user-id="\d+">@?([^<>]+)</span>')


@dataclass(frozen=True)
class _Channel:
    """A channel's folders: more than one, where it was renamed."""

    id: int
    name: str
    folders: list[Path] = field(default_factory=list)


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The topics of each channel, by time, cut at long pauses.

    The parents of a message are those it quotes with Zulip's own "NAME said". A topic that was marked as resolved goes on
    under another name, and is one topic here. Messages are sorted by their times. Reads every file twice, first for the
    names in it; holds one channel at a time.

    Raises:
        InputError: the index is missing, or a file is truncated or not what the archive holds; it names file and message.
    """
    roster = frozenset(name for names in _names(folder).values() for name in names)
    met: set[int] = set()
    for channel in _channels(folder):
        pieces = [piece for topic in _topics(channel, folder, met) for piece in _cut(topic)]
        for origin, messages in sorted(pieces, key=lambda piece: _sent(piece[1][0])):
            yield Conversation(
                id=f"{channel.id}:{messages[0].id}",
                source=source.name,
                platform=source.platform,
                channel=channel.name,
                truth=source.truth,
                messages=messages,
                origin=origin,
                roster=roster,
            )
        logger.info("%s: %d messages read", folder, len(met))


def aliases(folder: Path) -> dict[str, str]:
    """First and last names to the full names; names that two people share lead to neither."""
    return sole_owners(_names(folder))


def _names(folder: Path) -> dict[str, tuple[str, ...]]:
    """Full name of everybody who wrote or was mentioned, to all names of that person."""
    people: set[str] = set()
    for channel in _channels(folder):
        for path in _files(channel):
            for _, entry in _entries(path):
                if isinstance(name := entry.get("sender_full_name"), str):
                    people.add(name.strip())
                if isinstance(content := entry.get("content"), str) and "user-mention" in content:
                    people.update(unescape(name).strip() for name in _MENTION.findall(content))
    return {name: tuple(sorted({name, *name_parts([name])})) for name in sorted(people) if name}


def _channels(folder: Path) -> list[_Channel]:
    index = next(iter(sorted(folder.rglob(_INDEX))), None)
    if index is None:
        problem = f"there is no {_INDEX}, so this is no archive of Zulip's"
        raise InputError(folder, problem, "Name the folder that holds it: zulip_json in most archives")
    content = read_json(index)
    streams = content.get("streams") if isinstance(content, dict) else None
    if not isinstance(streams, dict):
        raise InputError(index, "has no 'streams'", "Make the archive again")
    for name, stream in streams.items():
        if not isinstance(stream, dict) or not isinstance(stream.get("id"), int):
            raise InputError(f"{index}, channel {name!r}", "has no 'id'", "Make the archive again")
    channels: dict[int, _Channel] = {}
    # Under its new name a renamed channel is archived from its beginning, so the name used last comes first.
    for name, stream in sorted(streams.items(), key=lambda entry: -(entry[1].get("latest_id") or 0)):
        channel = channels.setdefault(stream["id"], _Channel(stream["id"], name))
        channel.folders.extend(path for path in _folders(index.parent, stream["id"], name) if path.is_dir())
    return sorted(channels.values(), key=lambda channel: channel.name)


def _folders(root: Path, stream: int, name: str) -> tuple[Path, Path]:
    """Where the archive's versions put a channel."""
    plain = name.encode("ascii", "ignore").decode("ascii")
    return root / f"{stream}-{plain.replace(' ', '-')}", root / f"{stream}{''.join(filter(str.isalnum, plain))}"


def _files(channel: _Channel) -> Iterator[Path]:
    for folder in channel.folders:
        yield from sorted(folder.glob("*.json"))


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, message) of one topic's file."""
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(path, "is not a list of messages", "Make the archive again")
    for position, entry in enumerate(content):
        place = f"{path}, message {position}"
        if not isinstance(entry, dict):
            raise InputError(place, "is not a message", "Make the archive again")
        yield place, entry


def _topics(channel: _Channel, folder: Path, met: set[int]) -> Iterator[tuple[str, list[Message]]]:
    """The file and the messages of each topic, by time; ``met`` are the ids of those read before."""
    topics: dict[str, tuple[str, list[Message]]] = {}
    for path in _files(channel):
        title = unquote(path.name.removesuffix(".json").replace(".", "%")).removeprefix(_RESOLVED)
        _, messages = topics.setdefault(title, (path.relative_to(folder).as_posix(), []))
        for place, entry in _entries(path):
            message = _message(entry, place)
            if int(message.id) not in met:
                met.add(int(message.id))
                messages.append(message)
    for origin, messages in topics.values():
        yield origin, sorted(messages, key=_sent)


def _message(entry: dict[str, Any], place: str) -> Message:
    number, time = entry.get("id"), entry.get("timestamp")
    for name, value in (("id", number), ("timestamp", time)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(place, f"{name!r} is {value!r}, not a number", "Make the archive again")
    author, text = str(entry.get("sender_full_name") or "unknown").strip(), entry.get("content") or ""
    return Message(
        id=str(number),
        author=author,
        text=text,
        time=float(time or 0),
        parents=tuple(dict.fromkeys(_QUOTED_REPLY.findall(text))) if "<blockquote>" in text else (),
        kind=_kind(author, str(entry.get("sender_email") or ""), text),
    )


def _kind(author: str, address: str, text: str) -> Kind:
    if author in _SYSTEM or not text.strip():
        return Kind.SYSTEM
    return Kind.BOT if _BOT_NAME.fullmatch(author) or _BOT_ADDRESS.search(address) else Kind.TEXT


def _cut(topic: tuple[str, list[Message]]) -> Iterator[tuple[str, list[Message]]]:
    """The pieces of a topic between long pauses, with those parents only that are of the same piece."""
    origin, messages = topic
    piece: list[Message] = []
    met: set[str] = set()
    for message in messages:
        message.parents = tuple(parent for parent in message.parents if parent in met)
        if piece and not message.parents and (message.time or 0.0) - (piece[-1].time or 0.0) > LONGEST_PAUSE:
            yield origin, piece
            piece, met = [], set()
        piece.append(message)
        met.add(message.id)
    if piece:
        yield origin, piece


def _sent(message: Message) -> tuple[float, int]:
    return message.time or 0.0, int(message.id)
