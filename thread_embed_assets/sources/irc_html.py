"""The logs of #duraspace, 2009 to 2018 (https://github.com/duraspace/irclogs): a file a day, a line of HTML a message.

``<span class="irc-date">[H:MM]</span> <span class="irc-black">&lt;nick&gt; text</span><br />`` is what the logging bot
wrote; the colour tells what a line is. On six days the bot failed for a while, and people put in what their own clients had
logged, each in another way, some of it without times.

The bot ran in New York's time until June 2010 and in UTC from then on: when it joins, it tells the topic's date in its own
zone (``Set by nick on Tue Jun 30 16:32:05 EDT 2009``), and a weekly meeting moved from 16:00 to 20:00 with it.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.irc_lines import Clock, People, conversations, numbered_lines, said

logger = logging.getLogger(__name__)

CHANNEL = "duraspace"

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.log")
_TAG = re.compile(r"</?(?:a|b|br|em|font|h3|h4|hr|pre|span)\b[^<>]*>")
_BOT_LINE = re.compile(r'<span class="irc-date">\[(\d\d?):(\d\d)\]</span> <span class="irc-(\w+)">')
_SAID = r"<(?P<nick>[^\s<>]+)> ?(?P<text>.*)"
_DONE = r"\* (?P<actor>\S+) ?(?P<action>.*)"
_COLOURS = {"black": re.compile(_SAID, re.DOTALL), "brick": re.compile(_DONE, re.DOTALL)}  # all others are servers' lines
_NAMED = r"(?P<nick>\S+): ?(?P<text>.*)"
_CLIENT_CLOCK = r"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d) (?P<half>[AP])M"
_PRESENCE = r"\S+ (?:\[[^]]*\] )?(?:entered|left) the room.*|\S+ is now known as \S+|\S+: \(notice\) .*"
# What clients wrote, once the tags are gone; tried in this order.
_CLIENT_LINES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rf"\({_CLIENT_CLOCK}\) ?(?:(?P<notice>{_PRESENCE})|\*\*\*(?P<actor>\S+) (?P<action>.*)|{_NAMED})",
        rf"{_CLIENT_CLOCK} (?P<zone>[A-Z]{{3}}) +(?:(?P<notice>{_PRESENCE})|{_NAMED})",
        rf"\[(?P<hour>\d\d):(?P<minute>\d\d)\] (?:== (?P<notice>.*)|{_SAID}|{_DONE})",
        _SAID,
        _DONE,
        r"(?:-->|<--|---) (?P<notice>.*)",
    )
)
_TOLD_ZONE = re.compile(r".*(?:Set by \S+ on .* (?P<bot>[A-Z]{3}) \d{4}$|[Aa]ll [Tt]imes below are (?P<client>[A-Z]{3})\b)")
_ZONES = {
    "UTC": "UTC",
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "CST": "America/Chicago",
    "CDT": "America/Chicago",
}
_HALF_DAY = 12 * 60  # minutes
_MOST_UNREADABLE = 0.5


@dataclass(slots=True)
class _Line:
    """One line: ``minute`` of the day is None where it has no time, ``zone`` an abbreviation where it names one."""

    number: int
    minute: int | None
    second: int
    zone: str | None
    author: str
    text: str
    kind: Kind


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The guessed threads of the channel, in about the order of their first messages.

    Two passes, the first for the names of all who ever speak: in a day's lines, one name in fifteen is of somebody who says
    nothing that day. Times are local to ``source.timezone`` until a line tells another zone, have the log's resolution, a
    minute, and never fall; a line without one has that of the line above it, or midnight. Files whose name is more than a
    date are people's drafts of another, and left out.

    Raises:
        InputError: there is no log, or most lines of one cannot be read; it names the first such line.
    """
    days = _days(folder)
    people = _people(days)
    clock = Clock(ZoneInfo(source.timezone))
    yield from conversations(_messages(days, folder, clock), CHANNEL, source, people.roster, people.onlookers)


def aliases(folder: Path) -> dict[str, str]:
    """Other nicks of those who speak to the nick under which they speak most, as far as nick changes tell."""
    return _people(_days(folder)).aliases()


def _days(folder: Path) -> list[tuple[date, Path]]:
    paths = sorted(folder.rglob("*.log"))
    try:
        days = [(date.fromisoformat(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))]
    except ValueError as error:
        raise InputError(folder, f"a log's name is no date ({error})", "Fetch the source again") from error
    if not days:
        raise InputError(folder, "there is no log YYYY-MM-DD.log in it", "Fetch the source again")
    if len(days) < len(paths):
        logger.info("%s: left out %d drafts of other logs", folder, len(paths) - len(days))
    return sorted(days)


def _people(days: list[tuple[date, Path]]) -> People:
    people = People()
    for _, path in days:
        for line in _lines(path):
            people.meet(line.author, line.text, line.kind)
    return people


def _messages(days: list[tuple[date, Path]], folder: Path, clock: Clock) -> Iterator[Message]:
    zone = clock.zone  # of the logging bot
    for day, path in days:
        origin, ordinal, local = path.relative_to(folder).as_posix(), day.toordinal(), zone
        clock.zone = zone
        time = clock.local(ordinal, 0)
        for line in _lines(path):
            told = _TOLD_ZONE.match(line.text) if line.kind is Kind.SYSTEM else None
            if told:
                local = ZoneInfo(_ZONES.get(told["bot"] or told["client"], zone.key))
                zone = local if told["bot"] else zone
            if line.minute is not None:
                clock.zone = ZoneInfo(_ZONES.get(line.zone, zone.key)) if line.zone else local
                time = clock.local(ordinal, line.minute, line.second)
            yield Message(f"{origin}:{line.number}", line.author, line.text, time, kind=line.kind)


def _lines(path: Path) -> Iterator[_Line]:
    above = _Line(0, None, 0, None, "", "", Kind.SYSTEM)
    unreadable: list[int] = []
    number = 0
    for number, raw, _ in numbered_lines(path):
        line = _bot_line(number, raw)
        if line is None:
            text = _plain(raw)
            if not text.strip():
                continue
            line = _client_line(number, text, above)
            if line is None:
                unreadable.append(number)
                line = _Line(number, None, 0, None, "", text, Kind.SYSTEM)
        above = line
        yield line
    if len(unreadable) > _MOST_UNREADABLE * number:
        problem = f"{len(unreadable):,} of {number:,} lines are of no known form, first of them this"
        raise InputError(f"{path}:{unreadable[0]}", problem, "Fetch the source again; it may have changed its format")


def _bot_line(number: int, raw: str) -> _Line | None:
    match = _BOT_LINE.match(raw)
    if match is None:
        return None
    hour, minute, colour = match.groups()
    body = _plain(raw[match.end() :])
    saying = _COLOURS.get(colour)
    words = saying.fullmatch(body) if saying else None
    who = said(words[1], words[2]) if words else ("", body.removeprefix("* "), Kind.SYSTEM)
    return _Line(number, int(hour) * 60 + int(minute), 0, None, *who)


def _client_line(number: int, text: str, above: _Line) -> _Line | None:
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _CLIENT_LINES)), None)
    if match is None and text.startswith(" "):  # one more of the nick or the kind above
        return _Line(number, None, 0, None, above.author, text[1:], above.kind)
    if match is None:
        return None
    told = match.groupdict()
    minute = int(told["hour"]) * 60 + int(told["minute"]) if told.get("hour") else None
    if minute is not None and told.get("half"):
        minute = minute % _HALF_DAY + (_HALF_DAY if told["half"] == "P" else 0)
    who = "", told.get("notice") or "", Kind.SYSTEM
    if nick := told.get("nick") or told.get("actor"):
        who = said(nick, told.get("text") or told.get("action") or "")
    return _Line(number, minute, int(told.get("second") or 0), told.get("zone"), *who)


def _plain(text: str) -> str:
    if "<" in text:
        text = _TAG.sub("", text)
    return html.unescape(text) if "&" in text else text
