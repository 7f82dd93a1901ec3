"""A team's own Slack export: ``channels.json``, ``users.json`` and ``<channel>/<YYYY-MM-DD>.json``.

Threads are those of Slack itself (``thread_ts``), over any number of days. Of a reply Slack says only in which thread it is,
so its parent is the thread's first message. Public and private channels are read, direct messages never. Markup stays in the
text.
Format: https://slack.com/help/articles/220556107.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.text_files import read_json

logger = logging.getLogger(__name__)

_TEXT_SUBTYPES = frozenset({"", "thread_broadcast", "reply_broadcast", "me_message", "file_share"})
_TIMESTAMP = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
_DIRECT_MESSAGES = re.compile(r"D[A-Z0-9]{8,}|mpdm-.*")
_SLACKBOT = "USLACKBOT"
_SHORTEST_FIRST_NAME = 3
_DATED = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].json"


@dataclass(frozen=True)
class _People:
    """The members of a workspace: author name and bot flag by user id, and every name by author name."""

    authors: Mapping[str, str]
    bots: frozenset[str]
    names: Mapping[str, tuple[str, ...]]


@dataclass
class _Channel:
    """One channel while its days are read; keys are timestamps as Slack writes them."""

    messages: dict[str, Message] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    edits: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    duplicates: int = 0


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The threads of each channel, channel by channel, in the order of their first messages.

    A message outside any thread is a conversation of one. Holds one channel at a time, since a thread may be answered at any
    later day.

    Raises:
        InputError: a file is missing, truncated or not what an export holds; it names the file and the entry.
    """
    people = _read_people(folder)
    roster = frozenset(name for names in people.names.values() for name in names) | frozenset(people.names)
    for directory in _channel_folders(folder):
        channel = _read_channel(directory, people)
        if channel.duplicates:
            logger.info("%s: left out %d messages with a timestamp met before", directory, channel.duplicates)
        threads: dict[str, list[str]] = {}
        for ts in sorted(channel.messages, key=_exact):
            threads.setdefault(channel.threads[ts], []).append(ts)
        for root, members in threads.items():
            yield Conversation(
                id=f"{directory.name}:{root}",
                source=source.name,
                platform=source.platform,
                channel=directory.name,
                truth=source.truth,
                messages=[_with_parent(channel, ts, root) for ts in members],
                origin=directory.relative_to(folder).as_posix(),
                roster=roster,
            )


def members(folder: Path) -> dict[str, tuple[str, ...]]:
    """Author name of every member to all names of that member: user id, handle, real, display and first name."""
    return dict(_read_people(folder).names)


def aliases(folder: Path) -> dict[str, str]:
    """Every other name of a member to the author name; names that two members share lead to neither, and are left out."""
    names = _read_people(folder).names
    owners = Counter(key for known in names.values() for key in {name.casefold() for name in known})
    return {
        alias: author
        for author, known in names.items()
        for alias in known
        if alias != author and owners[alias.casefold()] == 1
    }


def _read_people(folder: Path) -> _People:
    path = folder / "users.json"
    if not path.exists():
        problem = "the export has no users.json, so names in its texts could not be masked"
        raise InputError(path, problem, "Unpack the whole export, with channels.json and users.json at its top")
    users: dict[str, tuple[str, ...]] = {}
    bots = {_SLACKBOT}
    for position, user in enumerate(_read_list(path)):
        if not isinstance(user, dict) or not isinstance(user.get("id"), str):
            raise InputError(f"{path}, entry {position}", "the member has no 'id'", "Make the export again")
        users[user["id"]] = _author_names(user)
        if user.get("is_bot"):
            bots.add(user["id"])
    shared = Counter(key for names in users.values() for key in {name.casefold() for name in names})
    authors = {user: next((name for name in names if shared[name.casefold()] == 1), user) for user, names in users.items()}
    known = {authors[user]: _all_names(user, names) for user, names in users.items()}
    return _People(authors, frozenset(bots), known)


def _author_names(user: dict[str, Any]) -> tuple[str, ...]:
    """Display name, real name and handle, as far as given: the first that nobody shares becomes the author name."""
    found = user.get("profile")
    profile: dict[str, Any] = found if isinstance(found, dict) else {}
    given = (profile.get("display_name"), user.get("real_name"), profile.get("real_name"), user.get("name"))
    return tuple(dict.fromkeys(name.strip() for name in given if isinstance(name, str) and name.strip()))


def _all_names(user: str, names: tuple[str, ...]) -> tuple[str, ...]:
    first = [name.split()[0] for name in names]
    firsts = [name for name in first if sum(map(str.isalpha, name)) >= _SHORTEST_FIRST_NAME]
    return tuple(sorted({user, *names, *firsts}))


def _channel_folders(folder: Path) -> list[Path]:
    directories = sorted(path for path in folder.iterdir() if path.is_dir())
    if (folder / "channels.json").exists():
        listed = _names_in(folder / "channels.json", "name") | _names_in(folder / "groups.json", "name")
        return [path for path in directories if path.name in listed]
    private = _names_in(folder / "dms.json", "id") | _names_in(folder / "mpims.json", "name")
    return [path for path in directories if path.name not in private and not _DIRECT_MESSAGES.fullmatch(path.name)]


def _names_in(path: Path, key: str) -> set[str]:
    if not path.exists():
        return set()
    return {entry[key] for entry in _read_list(path) if isinstance(entry, dict) and isinstance(entry.get(key), str)}


def _read_list(path: Path) -> list[Any]:
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(path, "is not a list", "Make the export again")
    return content


def _read_channel(directory: Path, people: _People) -> _Channel:
    channel = _Channel()
    for path in sorted(directory.glob(_DATED)):
        for position, entry in enumerate(_read_list(path)):
            if not isinstance(entry, dict):
                raise InputError(f"{path}, entry {position}", "is not a message", "Make the export again")
            _take(channel, entry, directory.name, people, f"{path}, entry {position}")
    for ts, text in channel.edits.items():
        if ts in channel.messages:
            channel.messages[ts].text = text
    for ts in channel.deleted & channel.messages.keys():
        del channel.messages[ts]
    return channel


def _take(channel: _Channel, entry: dict[str, Any], name: str, people: _People, place: str) -> None:
    subtype = entry.get("subtype") or ""
    if subtype == "message_changed":
        edited = entry.get("message")
        if isinstance(edited, dict) and isinstance(edited.get("ts"), str):
            channel.edits[edited["ts"]] = edited.get("text") or ""
            channel.deleted.update({edited["ts"]} if edited.get("subtype") == "tombstone" else ())
        return
    if subtype == "message_deleted":
        channel.deleted.add(str(entry.get("deleted_ts")))
        return
    ts = entry.get("ts")
    if not isinstance(ts, str) or not _TIMESTAMP.fullmatch(ts):
        raise InputError(place, f"'ts' is {ts!r}, not seconds such as \"1741079520.000200\"", "Make the export again")
    if subtype == "tombstone":
        return
    if ts in channel.messages:
        channel.duplicates += 1
        return
    text, user = entry.get("text") or "", entry.get("user") or ""
    kind = _kind(entry, subtype, text, user, people)
    author = people.authors.get(user, user) or entry.get("username") or entry.get("bot_id") or "unknown"
    channel.messages[ts] = Message(id=f"{name}:{ts}", author=author, text=text, time=float(ts), kind=kind)
    channel.threads[ts] = str(entry.get("thread_ts") or ts)


def _kind(entry: dict[str, Any], subtype: str, text: str, user: str, people: _People) -> Kind:
    if subtype == "bot_message" or entry.get("bot_id") or user in people.bots:
        return Kind.BOT
    if subtype not in _TEXT_SUBTYPES or entry.get("type", "message") != "message":
        return Kind.SYSTEM
    return Kind.SYSTEM if subtype == "file_share" and not text.strip() else Kind.TEXT


def _exact(ts: str) -> tuple[int, str]:
    """A sort key that keeps every digit: as floats, timestamps lose what lies below a quarter of a microsecond."""
    seconds, _, fraction = ts.partition(".")
    return int(seconds), fraction.ljust(9, "0")


def _with_parent(channel: _Channel, ts: str, root: str) -> Message:
    message = channel.messages[ts]
    if ts != root and root in channel.messages:
        message.parents = (channel.messages[root].id,)
    return message
