"""Discord channels as DiscordChatExporter writes them to JSON: a file for a channel, thread or forum post, or parts of it.

Format: https://github.com/Tyrrrz/DiscordChatExporter, ``JsonMessageWriter``. Public and private channels are read, direct
messages never. A forwarded message, a file or a sticker without a word of its own is no text.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.discord_channels import People, Room, conversations, named_mentions, sent_at
from thread_embed_assets.sources.member_names import name_parts, sole_owners
from thread_embed_assets.sources.text_files import stream_json

logger = logging.getLogger(__name__)

_TEXT_TYPES = frozenset({"Default", "Reply", None})
_REPLY = "Reply"
_THREAD = "Thread"  # ends the type of a thread's channel and of a forum post's
_DIRECT = "Direct"  # begins the type of direct messages
_ATTACHMENTS = "_Files"  # ends the folder into which the exporter downloads what was attached
_LOG_EVERY = 100_000


@dataclass(frozen=True)
class _File:
    """One file and what it says of its channel; ``version`` is its size and the time of its last change."""

    path: Path
    channel_id: str
    kind: str
    name: str
    parent_id: str
    parent: str
    version: tuple[int, int]

    @property
    def is_thread(self) -> bool:
        return self.kind.endswith(_THREAD)

    @property
    def home_id(self) -> str:
        """The channel's id; for a thread that of the channel it was opened in."""
        return (self.is_thread and self.parent_id) or self.channel_id

    @property
    def home(self) -> str:
        return (self.is_thread and self.parent) or self.name


@dataclass
class _Home:
    """A channel's files, and by thread those of the threads opened in it."""

    files: list[_File] = field(default_factory=list)
    threads: dict[str, list[_File]] = field(default_factory=dict)


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The conversations of each channel and its threads, by time; times may jump, since messages are sorted by them.

    Reads every file twice, first for the names in it. Holds one channel with its threads at a time.

    Raises:
        InputError: a file is truncated or not what the exporter writes; it names the file and the message.
    """
    files = _files(folder)
    people = _people(files)
    reader = _Reader(folder, people.authors(), ZoneInfo(source.timezone))
    roster = frozenset(name for names in _all_names(people).values() for name in names)
    for channel, home in _homes(files).values():
        main = reader.room(home.files[0].channel_id if home.files else "", channel, home.files)
        threads = [reader.room(thread, channel, parts) for thread, parts in home.threads.items()]
        yield from conversations(main, threads, source, roster)


def aliases(folder: Path) -> dict[str, str]:
    """User ids and every other name of a user to the author name; names that two users share lead to neither."""
    people = _people(_files(folder))
    authors = people.authors()
    return sole_owners({authors[user]: {user, *names} for user, names in _all_names(people).items()})


def _files(folder: Path) -> tuple[_File, ...]:
    paths = sorted(path for path in folder.rglob("*.json") if not _is_attachment(path.relative_to(folder)))
    files = [_head(path) for path in paths]
    kept = tuple(file for file in files if not file.kind.startswith(_DIRECT))
    if len(kept) < len(files):
        logger.info("%s: left out %d files of direct messages", folder, len(files) - len(kept))
    return kept


def _is_attachment(path: Path) -> bool:
    return any(part.endswith(_ATTACHMENTS) for part in path.parts[:-1])


def _head(path: Path) -> _File:
    channel = next(stream_json(path, "channel"), None)
    if not isinstance(channel, dict) or not isinstance(channel.get("id"), str):
        problem = "has no 'channel' with an 'id', as every file of DiscordChatExporter has"
        raise InputError(path, problem, "Export the channel again as JSON, or move this file out of the folder")
    kind, name, parent_id, parent = (str(channel.get(key) or "") for key in ("type", "name", "categoryId", "category"))
    status = path.stat()
    version = status.st_size, status.st_mtime_ns
    return _File(path, channel["id"], kind, name or channel["id"], parent_id, parent, version)


def _homes(files: tuple[_File, ...]) -> dict[str, tuple[str, _Home]]:
    """By id, the channels: name and files. Two channels of one name are told apart by their ids."""
    names = {file.home_id: file.home for file in files} | {
        file.channel_id: file.name for file in files if not file.is_thread
    }
    shared = Counter(names.values())
    homes: dict[str, tuple[str, _Home]] = {}
    for file in files:
        name = names[file.home_id]
        label = name if shared[name] == 1 else f"{name} [{file.home_id}]"
        _, home = homes.setdefault(file.home_id, (label, _Home()))
        (home.threads.setdefault(file.channel_id, []) if file.is_thread else home.files).append(file)
    return homes


@lru_cache(maxsize=1)  # `aliases` and `parse` are called one after the other, and the files may be large
def _people(files: tuple[_File, ...]) -> People:
    """Everybody who wrote, was mentioned or reacted."""
    people = People()
    for file in files:
        for entry in stream_json(file.path, "messages.item"):
            if isinstance(entry, dict):
                people.learn(entry.get("author"))
                for user in entry.get("mentions") or ():
                    people.learn(user)
                for reaction in entry.get("reactions") or ():
                    for user in reaction.get("users") or ():
                        people.learn(user)
    return people


def _all_names(people: People) -> dict[str, set[str]]:
    """User id to all names, and to the first and last name where one is written as people's are: ``Ada Lowe``."""
    return {
        user: {*names, *name_parts(name for name in names if all(word[0].isupper() for word in name.split()))}
        for user, names in people.names.items()
    }


@dataclass
class _Reader:
    folder: Path
    authors: Mapping[str, str]
    zone: ZoneInfo
    _count: int = 0

    def room(self, room_id: str, channel: str, files: list[_File]) -> Room:
        room = Room(room_id, channel, files[0].path.relative_to(self.folder).as_posix() if files else "")
        for file in files:
            for position, entry in enumerate(stream_json(file.path, "messages.item")):
                self._take(entry, room, f"{file.path}, message {position}")
        return room

    def _take(self, entry: Any, room: Room, place: str) -> None:
        if not isinstance(entry, dict):
            raise InputError(place, "is not a message", "Make the export again")
        found = entry.get("author")
        author: dict[str, Any] = found if isinstance(found, dict) else {}
        user = str(author.get("id") or "unknown")
        text = self._text(entry)
        message_id = str(entry.get("id"))
        message = Message(
            id=message_id,
            author=self.authors.get(user, user),
            text=text,
            time=sent_at(entry.get("timestamp"), message_id, self.zone, place),
            parents=_answered(entry),
            kind=_kind(entry, author, text),
        )
        edited = entry.get("timestampEdited")
        room.add(message, edited and sent_at(edited, message_id, self.zone, place))
        self._count += 1
        if self._count % _LOG_EVERY == 0:
            logger.info("%s: %d messages read", self.folder, self._count)

    def _text(self, entry: dict[str, Any]) -> str:
        """The content, with mentions as ``<@NAME>``: by default the exporter has written them as ``@nickname``."""
        text = named_mentions(entry.get("content") or "", self.authors)
        mentioned = [user for user in entry.get("mentions") or () if isinstance(user, dict)] if "@" in text else []
        names = {
            name: self.authors[user["id"]]
            for user in mentioned
            for name in (user.get("name"), user.get("nickname"))
            if name and user.get("id") in self.authors
        }
        if not names:
            return text
        longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        return re.sub(rf"(?<![\w<])@({longest_first})(?!\w)", lambda found: f"<@{names[found[1]]}>", text)


def _answered(entry: dict[str, Any]) -> tuple[str, ...]:
    """The message that a reply marks; in pins, forwards and news of threads, a reference is no reply."""
    reference = entry.get("reference")
    if entry.get("type") != _REPLY or not isinstance(reference, dict) or not reference.get("messageId"):
        return ()
    return (str(reference["messageId"]),)


def _kind(entry: dict[str, Any], author: dict[str, Any], text: str) -> Kind:
    if author.get("isBot"):
        return Kind.BOT
    return Kind.TEXT if entry.get("type") in _TEXT_TYPES and text.strip() else Kind.SYSTEM
