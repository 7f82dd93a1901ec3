"""Discord's channels and threads as conversations, for every format that holds Discord messages.

In an ordinary channel nobody says which messages belong together, apart from reply marks, so its conversations are guessed;
one that reply marks hold together from end to end is explicit, and so is a thread or a forum post.
Format: https://discord.com/developers/docs/resources/message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.disentangle import disentangle
from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.member_names import author_names

_EPOCH = 1_420_070_400.0  # an id's upper bits count milliseconds since then: the first second of 2015
_MENTION = re.compile(r"<@!?(\d+)>")
_IN_MENTIONS = re.compile(r"[<>|`\n]")  # what a name must not hold to stand in <@NAME>
_NO_NAME = re.compile(r"deleted[ _]user(?:[ _][0-9a-f]+)?|unknown(?: user)?", re.IGNORECASE)
_IDENTITY = ("id", "username", "name", "nickname", "global_name", "discriminator")
_NEVER = float("-inf")


@dataclass
class People:
    """Everybody met in an export: user id to the names, handle first."""

    names: dict[str, dict[str, None]] = field(default_factory=dict)
    _met: set[tuple[Any, ...]] = field(default_factory=set)

    def learn(self, user: Any) -> None:
        """Take the names of a user object, as Discord's API or DiscordChatExporter writes it."""
        if not isinstance(user, dict) or not user.get("id"):
            return
        described = tuple(map(user.get, _IDENTITY))
        if described in self._met:
            return
        self._met.add(described)
        handle, number = user.get("username") or user.get("name"), user.get("discriminator")
        tag = f"{handle}#{number}" if handle and number and str(number).strip("0") else None
        known = self.names.setdefault(str(user["id"]), {})
        for name in (handle, user.get("nickname"), user.get("global_name"), tag):
            if isinstance(name, str) and name.strip() and not _NO_NAME.fullmatch(name.strip()):
                known[name.strip()] = None

    def authors(self) -> dict[str, str]:
        """User id to the name that stands for the user, as author and in mentions."""
        return author_names({user: [n for n in names if not _IN_MENTIONS.search(n)] for user, names in self.names.items()})

    def roster(self) -> frozenset[str]:
        return frozenset(name for names in self.names.values() for name in names)


@dataclass
class Room:
    """A channel or a thread while its messages are gathered; a reply's parent is the message it marks, met or not.

    Attributes:
        channel: the name of the channel, for a thread that of the channel it was opened in; unique within the source.
    """

    id: str
    channel: str
    origin: str
    _posts: dict[str, tuple[float, Message]] = field(default_factory=dict)

    def add(self, message: Message, edited: float | None = None) -> None:
        """Keep a message; of two with one id, as overlapping exports have, the one that was edited last."""
        before, _ = self._posts.get(message.id, (_NEVER, message))
        if (edited or _NEVER) >= before:
            self._posts[message.id] = edited or _NEVER, message

    def release(self, message_id: str) -> Message | None:
        """Take a message out, if it is there."""
        return self._posts.pop(message_id, (_NEVER, None))[1]

    def messages(self) -> list[Message]:
        """All messages by time, with those parents only that are among them and were sent before."""
        messages = sorted((message for _, message in self._posts.values()), key=_sent)
        met: set[str] = set()
        for message in messages:
            message.parents = tuple(parent for parent in message.parents if parent in met)
            met.add(message.id)
        return messages


def conversations(channel: Room, threads: Iterable[Room], source: Source, roster: frozenset[str]) -> Iterator[Conversation]:
    """The conversations of a channel and of the threads opened in it, by the time of their first messages.

    The message that a thread was opened on stands in the channel, under the thread's id: it moves into the thread. What is
    no text stands alone. Holds the channel.
    """
    found: list[tuple[list[Message], str, Truth, Room]] = []
    for thread in threads:
        if (starter := channel.release(thread.id)) is not None:
            thread.add(starter)
        if messages := thread.messages():
            found.append((messages, thread.id, source.truth, thread))
    for messages, truth in _guessed(channel.messages(), source.truth):
        found.append((messages, f"{channel.id}:{messages[0].id}", truth, channel))
    for messages, name, truth, room in sorted(found, key=lambda entry: _sent(entry[0][0])):
        yield Conversation(
            id=name,
            source=source.name,
            platform=source.platform,
            channel=room.channel,
            truth=truth,
            messages=messages,
            origin=room.origin,
            roster=roster,
        )


def _guessed(messages: list[Message], explicit: Truth) -> Iterator[tuple[list[Message], Truth]]:
    texts = [message for message in messages if message.kind is Kind.TEXT]
    spoken = {message.id for message in texts}
    for message in texts:
        message.parents = tuple(parent for parent in message.parents if parent in spoken)
    marked = {message.id: message.parents[0] for message in texts if message.parents}
    for thread in _joined(list(disentangle(texts)), marked):
        openings = sum(1 for message in thread if message.id not in marked)
        yield thread, explicit if len(thread) > 1 and openings == 1 else Truth.GUESSED
    for message in messages:
        if message.kind is not Kind.TEXT:
            yield [message], Truth.GUESSED


def _joined(threads: list[list[Message]], marked: Mapping[str, str]) -> list[list[Message]]:
    """Threads joined where a reply mark leads from one to another: to what was said too long ago to be guessed."""
    home = {message.id: number for number, thread in enumerate(threads) for message in thread}
    into = list(range(len(threads)))

    def find(number: int) -> int:
        while into[number] != number:
            into[number] = number = into[into[number]]
        return number

    for child, parent in marked.items():
        first, second = sorted((find(home[child]), find(home[parent])))
        into[second] = first
    joined: dict[int, list[Message]] = {}
    for number, thread in enumerate(threads):
        joined.setdefault(find(number), []).extend(thread)
    return [sorted(thread, key=_sent) for thread in joined.values()]


def named_mentions(text: str, authors: Mapping[str, str]) -> str:
    """The text with ``<@ID>`` and ``<@!ID>`` as ``<@NAME>``, where the user is known."""
    return _MENTION.sub(lambda found: f"<@{authors.get(found[1], found[1])}>", text) if "<@" in text else text


def sent_at(value: Any, message_id: str, zone: ZoneInfo, place: str) -> float:
    """Seconds since 1970 UTC of an ISO time; where there is none, those that Discord put into the message's id.

    Raises:
        InputError: the id is no number, or the time is not ISO.
    """
    if not message_id.isdecimal():
        raise InputError(place, f"'id' is {message_id!r}, not a number of Discord's", "Make the export again")
    if value is None:
        return _EPOCH + (int(message_id) >> 22) / 1000
    try:
        time = datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise InputError(
            place, f"the time is {value!r}, not such as 2025-03-01T10:00:00+00:00", "Make the export again"
        ) from error
    return (time if time.tzinfo is not None else time.replace(tzinfo=zone)).timestamp()


def _sent(message: Message) -> tuple[float, int]:
    return message.time or 0.0, int(message.id)
