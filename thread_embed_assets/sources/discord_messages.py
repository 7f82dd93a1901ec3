"""Discord messages as the API gives them: ``<server id>.jsonl``, a message on each line, in any order.

Format: https://discord.com/developers/docs/resources/message, with ``channel_name`` and ``is_bot`` beside its fields. Which
channels are threads is told by their ids: a thread has that of the message it was opened on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.discord_channels import People, Room, conversations, named_mentions, sent_at
from thread_embed_assets.sources.text_files import read_json_lines

logger = logging.getLogger(__name__)

_REPLY = 19
_TEXT_TYPES = frozenset({0, _REPLY, None})
_LOG_EVERY = 100  # servers

_Entries = list[tuple[str, dict[str, Any]]]
"""(file:line, message) of one server."""


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The conversations of each server, channel by channel, with their threads, by time.

    An author is known by a name that is unique in the server, so one person on two servers may be two. Messages without an
    id or a channel are left out, and counted in the log. Holds one server at a time.

    Raises:
        InputError: a file is truncated or a line is not JSON; it names the line.
    """
    zone = ZoneInfo(source.timezone)
    for number, path in enumerate(sorted(folder.rglob("*.jsonl")), start=1):
        yield from _server(path, path.relative_to(folder).as_posix(), zone, source)
        if number % _LOG_EVERY == 0:
            logger.info("%s: %d servers read", folder, number)


def _server(path: Path, origin: str, zone: ZoneInfo, source: Source) -> Iterator[Conversation]:
    people, by_channel = People(), _by_channel(path)
    for entries in by_channel.values():
        for _, entry in entries:
            for user in (entry.get("author"), *(entry.get("mentions") or ())):
                people.learn(user)
    authors, roster = people.authors(), people.roster()
    threads, labels = _threads(by_channel), _labels(by_channel, path.stem)
    homes: dict[str, list[str]] = {}
    for channel in by_channel:
        homes.setdefault(threads.get(channel, channel), []).append(channel)
    for home, channels in homes.items():
        rooms = {channel: Room(channel, labels[home], origin) for channel in channels}
        for channel, room in rooms.items():
            for place, entry in by_channel[channel]:
                message, edited = _message(entry, authors, zone, place), entry.get("edited_timestamp")
                room.add(message, edited and sent_at(edited, message.id, zone, place))
        main = Room(home, labels[home], origin) if home in threads else rooms.pop(home)
        yield from conversations(main, rooms.values(), source, roster)


def _by_channel(path: Path) -> dict[str, _Entries]:
    found: dict[str, _Entries] = {}
    left_out = 0
    for place, entry in read_json_lines(path):
        if isinstance(entry, dict) and entry.get("id") and entry.get("channel_id"):
            found.setdefault(str(entry["channel_id"]), []).append((place, entry))
        else:
            left_out += 1
    if left_out:
        logger.warning("%s: left out %d messages without an id or a channel", path, left_out)
    return found


def _threads(by_channel: dict[str, _Entries]) -> dict[str, str]:
    """Channels that are threads, to the channel in which each was opened: a forum post to itself."""
    found: dict[str, str] = {}
    for channel, entries in by_channel.items():
        for _, entry in entries:
            opened = entry.get("thread")
            for thread in (str(entry["id"]), str(opened.get("id")) if isinstance(opened, dict) else ""):
                if thread in by_channel:
                    found[thread] = channel
    return found


def _labels(by_channel: dict[str, _Entries], server: str) -> dict[str, str]:
    """``server/channel name`` by channel id; two channels of one name are told apart by their ids."""
    given = {
        channel: next((str(entry["channel_name"]) for _, entry in entries if entry.get("channel_name")), channel)
        for channel, entries in by_channel.items()
    }
    shared = Counter(given.values())
    return {
        channel: f"{server}/{name}" if shared[name] == 1 else f"{server}/{name} [{channel}]"
        for channel, name in given.items()
    }


def _message(entry: dict[str, Any], authors: dict[str, str], zone: ZoneInfo, place: str) -> Message:
    found, reference = entry.get("author"), entry.get("message_reference")
    author: dict[str, Any] = found if isinstance(found, dict) else {}
    user, message_id = str(author.get("id") or "unknown"), str(entry["id"])
    text = named_mentions(entry.get("content") or "", authors)
    answered = reference.get("message_id") if entry.get("type") == _REPLY and isinstance(reference, dict) else None
    if entry.get("is_bot") or author.get("bot"):
        kind = Kind.BOT
    else:
        kind = Kind.TEXT if entry.get("type") in _TEXT_TYPES and text.strip() else Kind.SYSTEM
    return Message(
        id=message_id,
        author=authors.get(user, user),
        text=text,
        time=sent_at(entry.get("timestamp"), message_id, zone, place),
        parents=(str(answered),) if answered else (),
        kind=kind,
    )
