"""A team's own Slack export: ``channels.json``, ``users.json`` and ``<channel>/<YYYY-MM-DD>.json``.

Threads are those of Slack itself (``thread_ts``), over any number of days. Of a reply Slack says only in which thread it is,
so its parent is the thread's first message. Public and private channels are read, direct messages never. Markup stays in the
text. Of a post with a file the comment is read, of a huddle what was written in its thread, of a canvas nothing.
Format: https://slack.com/help/articles/220556107; messages: https://docs.slack.dev/reference/events/message.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.member_names import author_names, name_parts, sole_owners
from thread_embed_assets.sources.text_files import read_json, read_text

logger = logging.getLogger(__name__)

_FILE_SUBTYPES = frozenset({"file_share", "file_comment"})
_TEXT_SUBTYPES = frozenset({"", "thread_broadcast", "reply_broadcast", "me_message"}) | _FILE_SUBTYPES
# Of the small elements of a rich text: the field that names what they stand for, and how that is written in a text.
_LEAVES = {
    "link": ("url", "<{}>"),
    "user": ("user_id", "<@{}>"),
    "channel": ("channel_id", "<#{}>"),
    "usergroup": ("usergroup_id", "<!subteam^{}>"),
    "broadcast": ("range", "<!{}>"),
    "emoji": ("name", ":{}:"),
}
_TIMESTAMP = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
_DIRECT_MESSAGES = re.compile(r"D[A-Z0-9]{8,}|mpdm-.*")
_SLACKBOT = "USLACKBOT"
_WRITER = re.compile(r'"user"\s*:\s*"([UW][A-Z0-9]+)"')
# What Slack wrote of a file until 2018, in the name of the member.
_UPLOADED = re.compile(r"<@[^<>]+> (?:uploaded|shared) a file: <[^<>]*>(?: and commented: (.*))?$", re.DOTALL)
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
    later day. A channel that was renamed has the name it has now, and all its folders are read.

    Raises:
        InputError: a file is missing, truncated or not what an export holds; it names the file and the entry.
    """
    people = _read_people(folder)
    roster = frozenset(name for names in people.names.values() for name in names) | frozenset(people.names)
    for name, directories in _channel_folders(folder).items():
        channel = _read_channel(name, directories, people)
        if channel.duplicates:
            logger.info("%s: left out %d messages with a timestamp met before", name, channel.duplicates)
        threads: dict[str, list[str]] = {}
        for ts in sorted(channel.messages, key=_exact):
            threads.setdefault(channel.threads[ts], []).append(ts)
        for root, members in threads.items():
            yield Conversation(
                id=f"{name}:{root}",
                source=source.name,
                platform=source.platform,
                channel=name,
                truth=source.truth,
                messages=[_with_parent(channel, ts, root) for ts in members],
                origin=directories[0].relative_to(folder).as_posix(),
                roster=roster,
            )


def members(folder: Path) -> dict[str, tuple[str, ...]]:
    """Author name of every member to all names of that member: user id, handle, real, display, first and last name."""
    return dict(_read_people(folder).names)


def aliases(folder: Path) -> dict[str, str]:
    """Every other name of a member to the author name; names that two members share lead to neither, and are left out."""
    return sole_owners(_read_people(folder).names)


def _read_people(folder: Path) -> _People:
    lists = [path for path in (folder / "users.json", folder / "org_users.json") if path.exists()]
    if not lists:
        problem = "the export has no users.json, so names in its texts could not be masked"
        raise InputError(
            folder / "users.json", problem, "Unpack the whole export, with channels.json and users.json at its top"
        )
    users: dict[str, tuple[str, ...]] = {}
    bots = {_SLACKBOT}
    for path in lists:
        for position, user in enumerate(_read_list(path)):
            if not isinstance(user, dict) or not isinstance(user.get("id"), str):
                raise InputError(f"{path}, entry {position}", "the member has no 'id'", "Make the export again")
            users[user["id"]] = _given_names(user)
            if user.get("is_bot"):
                bots.add(user["id"])
    for user in _guests(folder, users.keys() | bots):
        known = users.get(user["id"], ())
        users[user["id"]] = tuple(dict.fromkeys((*known, *_given_names(user))))
    authors = author_names(users)
    names = {authors[user]: tuple(sorted({user, *given, *name_parts(given)})) for user, given in users.items()}
    return _People(authors, frozenset(bots), names)


def _guests(folder: Path, members: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Who wrote without being a member, such as people of other workspaces; each of their messages has their profile."""
    known = frozenset(members)
    for directories in _channel_folders(folder).values():
        for path in _days(directories):
            if known.issuperset(_WRITER.findall(read_text(path))):
                continue
            for entry in _read_list(path):
                if isinstance(entry, dict) and isinstance(user := entry.get("user"), str) and user not in known:
                    profile = entry.get("user_profile")
                    yield {**profile, "profile": profile, "id": user} if isinstance(profile, dict) else {"id": user}


def _given_names(user: dict[str, Any]) -> tuple[str, ...]:
    """Display name, real name and handle, as far as given: the first that nobody shares becomes the author name."""
    found = user.get("profile")
    profile: dict[str, Any] = found if isinstance(found, dict) else {}
    given = (profile.get("display_name"), user.get("real_name"), profile.get("real_name"), user.get("name"))
    return tuple(dict.fromkeys(name.strip() for name in given if isinstance(name, str) and name.strip()))


def _channel_folders(folder: Path) -> dict[str, list[Path]]:
    """A channel's present name to its folders: that of this name, and those of names it had before."""
    directories = sorted(path for path in folder.iterdir() if path.is_dir())
    if not (folder / "channels.json").exists():
        private = _names_in(folder / "dms.json", "id") | _names_in(folder / "mpims.json", "name")
        return {d.name: [d] for d in directories if d.name not in private and not _DIRECT_MESSAGES.fullmatch(d.name)}
    present = _present_names(folder)
    found: dict[str, list[Path]] = {}
    for directory in directories:
        if directory.name in present:
            found.setdefault(present[directory.name], []).append(directory)
    return dict(sorted(found.items()))


def _present_names(folder: Path) -> dict[str, str]:
    """Every name that a listed channel has, or had and no other has now, to its present name."""
    lists = [path for path in (folder / "channels.json", folder / "groups.json") if path.exists()]
    channels = [c for path in lists for c in _read_list(path) if isinstance(c, dict) and isinstance(c.get("name"), str)]
    before = {old: c["name"] for c in channels for old in c.get("previous_names") or () if isinstance(old, str)}
    return before | {c["name"]: c["name"] for c in channels}


def _names_in(path: Path, key: str) -> set[str]:
    if not path.exists():
        return set()
    return {entry[key] for entry in _read_list(path) if isinstance(entry, dict) and isinstance(entry.get(key), str)}


def _read_list(path: Path) -> list[Any]:
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(path, "is not a list", "Make the export again")
    return content


def _days(directories: Iterable[Path]) -> list[Path]:
    return sorted((path for directory in directories for path in directory.glob(_DATED)), key=lambda path: (path.name, path))


def _read_channel(name: str, directories: list[Path], people: _People) -> _Channel:
    channel = _Channel()
    for path in _days(directories):
        for position, entry in enumerate(_read_list(path)):
            if not isinstance(entry, dict):
                raise InputError(f"{path}, entry {position}", "is not a message", "Make the export again")
            _take(channel, entry, name, people, f"{path}, entry {position}")
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
            channel.edits[edited["ts"]] = _text(edited)
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
    if subtype == "file_comment" and isinstance(comment := entry.get("comment"), dict):
        entry = entry | {"text": comment.get("comment"), "user": comment.get("user")}
    text, user = _text(entry), entry.get("user") or ""
    kind = _kind(entry, subtype, text, user, people)
    author = people.authors.get(user, user) or entry.get("username") or entry.get("bot_id") or "unknown"
    channel.messages[ts] = Message(id=f"{name}:{ts}", author=author, text=text, time=float(ts), kind=kind)
    channel.threads[ts] = str(entry.get("thread_ts") or ts)


def _kind(entry: dict[str, Any], subtype: str, text: str, user: str, people: _People) -> Kind:
    if subtype == "bot_message" or entry.get("bot_id") or entry.get("bot_profile") or user in people.bots:
        return Kind.BOT
    if subtype not in _TEXT_SUBTYPES or entry.get("type", "message") != "message" or entry.get("is_hidden_by_limit"):
        return Kind.SYSTEM
    return Kind.SYSTEM if subtype in _FILE_SUBTYPES and not text.strip() else Kind.TEXT


def _text(entry: dict[str, Any]) -> str:
    """The text, or what its blocks say where it has none, in the same markup; of a file what was said of it."""
    text = entry.get("text") or ""
    if not text:
        blocks = entry.get("blocks") or ()
        return "".join(_rich_text(b) for b in blocks if isinstance(b, dict) and b.get("type") == "rich_text").strip()
    uploaded = _UPLOADED.match(text) if entry.get("subtype") == "file_share" else None
    return (uploaded[1] or "") if uploaded else text


def _rich_text(element: Any) -> str:
    if not isinstance(element, dict):
        return ""
    inside = "".join(map(_rich_text, element.get("elements") or ()))
    kind = element.get("type")
    if kind == "rich_text_preformatted":
        return f"```\n{inside}\n```\n"
    if kind == "rich_text_quote":
        return "".join(f"&gt; {line}\n" for line in inside.splitlines())
    if kind == "rich_text_section":
        return f"{inside}\n"
    if kind == "text":
        text = html.escape(element.get("text") or "", quote=False)
        return f"`{text}`" if (element.get("style") or {}).get("code") else text
    key, written = _LEAVES.get(str(kind), ("", "{}"))
    return written.format(element[key]) if element.get(key) else inside


def _exact(ts: str) -> tuple[int, str]:
    """A sort key that keeps every digit: as floats, timestamps lose what lies below a quarter of a microsecond."""
    seconds, _, fraction = ts.partition(".")
    return int(seconds), fraction.ljust(9, "0")


def _with_parent(channel: _Channel, ts: str, root: str) -> Message:
    message = channel.messages[ts]
    if ts != root and root in channel.messages:
        message.parents = (channel.messages[root].id,)
    return message
