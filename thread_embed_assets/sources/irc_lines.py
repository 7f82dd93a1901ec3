"""What IRC logs have in common, whoever wrote them: encodings, times, bots, nick changes; and how lines become threads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.disentangle import disentangle
from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import irc
from thread_embed_assets.sources.catalog import Source

DAY = 86_400.0  # seconds
_SET_RIGHT = 60.0  # seconds: by so much a clock may be set back where no summer time ends
_MOST_ASIDE = 2_000  # lines
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

# People like to call themselves bots, so only these nicks are taken for a program's.
BOTS = re.compile(
    rf"(?:{irc.BOTS.pattern}|ubuntulog\d?|ubot\d+|ukbot|uvirtbot|queuebot|meetingology|kompewter|(?:chan|nick|memo|bot)serv"
    r"|supybot|limnoria|zodbot|lambdabot|jenkins|travis-ci|github|gitlab"
    r"|[\w-]*(?:log|meet|meeting|build|deploy|jenkins|ci|git|github|gitlab|jira|bugs?|rss|feed|title|url)[_-]?bot[\d_]*)",
    re.IGNORECASE,
)
_RELAYS = re.compile(
    r"(?:matterbridge|ircsomebot|twobottux|[\w|-]*(?:slack|discord|matrix|telegram|gitter|mattermost|xmpp)[\w|-]*"
    r"(?:bot|bridge|relay)[\w|-]*)",
    re.IGNORECASE,
)
_RELAYED = re.compile(r"(?:\[\w+\] )?<([^<>]{1,64})>:? ?(.*)", re.DOTALL)
# Relays put a zero-width space into a nick, so that nobody is called; colours are control codes.
_UNPRINTED = re.compile(r"[\u200b-\u200d\u2060\ufeff]|\x03(?:\d{1,2}(?:,\d{1,2})?)?|[\x00-\x1f\x7f]")
_RENAMED = re.compile(r"(\S+) is now known as (\S+)$")
_JOINED = re.compile(r"Joins: (\S+)|(\S+) (?:\[\S*\] )?[\[(<].*[\])>] (?:has )?joined\b")
_LETTER = re.compile(r"[^\W\d_]")


def decode(raw: bytes) -> tuple[str, bool]:
    """A line's text without its end and without NULs, and whether it was UTF-8; if not, it is taken for Windows-1252.

    One log may hold both, since IRC leaves the encoding to each speaker.
    """
    raw = raw.rstrip(b"\r\n")
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"")
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), False
    except UnicodeDecodeError:
        return raw.decode("latin-1"), False


def numbered_lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(number from 1, text, whether it was UTF-8) of every line; only a newline ends one.

    Raises:
        InputError: the file is UTF-16.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                if raw.startswith(_UTF16):
                    raise InputError(path, "the file is UTF-16", "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield (number, *decode(raw))


class _Voice(Enum):
    PERSON = "person"
    BOT = "bot"
    RELAY = "relay"


@lru_cache(maxsize=65_536)
def _voice(nick: str) -> _Voice:
    if _RELAYS.fullmatch(nick):
        return _Voice.RELAY
    return _Voice.BOT if BOTS.fullmatch(nick) else _Voice.PERSON


def said(author: str, text: str) -> tuple[str, str, Kind]:
    """Author, text and kind of what a nick said: a program's lines are told, and a relay's given to who wrote them."""
    voice = _voice(author)
    if voice is _Voice.PERSON:
        return author, text, Kind.TEXT
    if voice is _Voice.RELAY and (relayed := _RELAYED.fullmatch(text)):
        name = _UNPRINTED.sub("", relayed[1]).strip().lstrip("@")
        if name:
            return name, relayed[2], Kind.TEXT
    return author, text, Kind.BOT


def _seconds(zone: ZoneInfo, day: int, minute: int, fold: int) -> float:
    hour, rest = divmod(minute, 60)
    start = _hour(zone, day, hour, fold)
    return _exact(zone, day, minute, fold) if start is None else start + rest * 60


@lru_cache(maxsize=1_024)
def _hour(zone: ZoneInfo, day: int, hour: int, fold: int) -> float | None:
    """Seconds UTC of the hour's start; None if the zone changes its offset within the hour."""
    start = _exact(zone, day, hour * 60, fold)
    return start if _exact(zone, day, hour * 60 + 59, fold) - start == 59 * 60 else None


def _exact(zone: ZoneInfo, day: int, minute: int, fold: int) -> float:
    local = datetime.combine(date.fromordinal(day), time.min) + timedelta(minutes=minute)
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC).timestamp()


@dataclass
class Clock:
    """A log's local times as seconds UTC that never fall.

    A clock that was set back stands still until it has caught up. The hour that summer time's end repeats is told by the
    clock's fall. A fall of more than a day is none: there a new ``stretch`` of the log begins, such as another person's log
    of the same days.

    Attributes:
        zone: where the log was written.
        stretch: counts the stretches, each in time order.
    """

    zone: ZoneInfo
    stretch: int = 0
    _last: float = float("-inf")

    def local(self, day: int, minute: int, second: int = 0) -> float:
        """Args: day as proleptic Gregorian ordinal, minute of that day."""
        found = _seconds(self.zone, day, minute, 0) + second
        if self._last - found > _SET_RIGHT:
            found = max(found, _seconds(self.zone, day, minute, 1) + second)
        return self.at(found)

    def at(self, told: float) -> float:
        """``told``, in seconds UTC, or the last time if that is later."""
        if self._last - told > DAY:
            self.stretch += 1
        elif told < self._last:
            return self._last
        self._last = told
        return told


@dataclass
class People:
    """Who is met in a log."""

    lines: Counter[str] = field(default_factory=Counter)  # spoken, by nick
    seen: set[str] = field(default_factory=set)
    renames: set[tuple[str, str]] = field(default_factory=set)

    def meet(self, author: str, text: str, kind: Kind) -> None:
        if kind is not Kind.SYSTEM:
            self.lines[author] += 1
        elif " is now known as " in text:
            if renamed := _RENAMED.match(text):
                self.renames.add((renamed[1], renamed[2]))
        elif ("joined" in text or "Joins" in text) and (joined := _JOINED.match(text)):
            self.seen.add(joined[1] or joined[2])

    def meet_all(self, others: People) -> None:
        self.lines += others.lines
        self.seen |= others.seen
        self.renames |= others.renames

    @property
    def roster(self) -> frozenset[str]:
        """Everybody who speaks, under each nick taken there."""
        return frozenset(self.lines).union(*(pair for pair in self.renames if not self.lines.keys().isdisjoint(pair)))

    @property
    def onlookers(self) -> frozenset[str]:
        return frozenset(self.seen) - self.roster

    def aliases(self) -> dict[str, str]:
        """Other nicks of a person to the one under which that person speaks most.

        A nick change makes one person of two nicks only if one is the other with something added that is no letter, such as
        ``anna_`` or ``anna|away``: over the years other changes chain strangers together.
        """
        home: dict[str, str] = {}

        def find(nick: str) -> str:
            while (above := home.setdefault(nick, nick)) != nick:
                nick = above
            return nick

        for old, new in sorted(self.renames):
            if _decorated(old, new):
                home[find(old)] = find(new)
        groups: dict[str, list[str]] = {}
        for nick in sorted(home):
            groups.setdefault(find(nick), []).append(nick)
        found: dict[str, str] = {}
        for nicks in groups.values():
            author = max(nicks, key=lambda nick: (self.lines[nick], -len(nick)))
            if author in self.lines:
                found |= {nick: author for nick in nicks if nick != author}
        return found


def _decorated(old: str, new: str) -> bool:
    short, long = sorted((old.casefold(), new.casefold()), key=len)
    if not _LETTER.search(short):
        return False
    before, found, after = long.partition(short)
    return bool(found) and not _LETTER.match(after[:1]) and not _LETTER.match(before[-1:])


def conversations(
    messages: Iterable[Message], channel: str, source: Source, roster: frozenset[str], onlookers: frozenset[str]
) -> Iterator[Conversation]:
    """The threads of one channel, in about the order of their first messages.

    What programs and servers said is yielded too, some thousand lines together, so that it is counted where it is removed.

    Args:
        messages: in time order; their ids are ``ORIGIN:LINE``.
    """
    aside: list[Message] = []

    def spoken() -> Iterator[Message]:
        for message in messages:
            if message.kind is Kind.TEXT:
                yield message
            else:
                aside.append(message)

    def conversation(found: list[Message], name: str) -> Conversation:
        return Conversation(
            id=name,
            source=source.name,
            platform=source.platform,
            channel=channel,
            truth=Truth.GUESSED,
            messages=found,
            origin=found[0].id.rpartition(":")[0],
            roster=roster,
            onlookers=onlookers,
        )

    for thread in disentangle(spoken()):
        yield conversation(thread, thread[0].id)
        if len(aside) >= _MOST_ASIDE:
            yield conversation(aside.copy(), f"{aside[0].id}:aside")
            aside.clear()
    if aside:
        yield conversation(aside, f"{aside[0].id}:aside")
