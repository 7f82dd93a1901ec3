"""A team's own IRC logs, as irssi, weechat, ZNC, HexChat, mIRC and bots that log write them.

A log says neither who answers whom nor, mostly, on which day: threads are guessed by the disentangler, dates come from each
line, from lines between (``--- Day changed Tue Jan 06 2026``) or from the file's name (``2026-01-05.log``).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.irc_lines import DAY, Clock, People, conversations, numbered_lines, said

logger = logging.getLogger(__name__)

_CLOCK = r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d|60))?"
_DATE = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_ZONE = r"(?:[.,]\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?"
_SAID = r"(?:<(?P<nick>[^<>]+)>(?:\s(?P<text>.*))?|\*\s+(?P<actor>\S+)(?:\s(?P<action>.*))?|(?P<notice>.*))"

# One pattern a layout; the first of those that read most of a file's first lines is its layout.
LAYOUTS = {
    name: re.compile(pattern, re.DOTALL)
    for name, pattern in {
        "weechat": rf"{_DATE}[ T]{_CLOCK}{_ZONE}\t(?P<nick>[^\t]*)\t(?P<text>.*)",
        "irssi": rf"{_CLOCK}\s+{_SAID}",
        "ZNC, mIRC": rf"(?:\x03?\d\d?)?\[{_CLOCK}\]\s*{_SAID}",
        "dated": rf"\[?{_DATE}[ T]{_CLOCK}{_ZONE}\]?\s+{_SAID}",
        "HexChat": rf"(?P<month>[A-Z][a-z]{{2}}) +(?P<day>\d\d?) {_CLOCK}\s+{_SAID}",
    }.items()
}
BRACKETED_CLOCK = LAYOUTS["ZNC, mIRC"]

_DATE_LINE = re.compile(
    r"(?:--- (?:Log opened|Log closed|Day changed)|\*{4} (?:BEGIN|ENDING) LOGGING AT|Session (?:Start|Time|Close):"
    r"|---) \S+ (?P<month>\S+) +(?P<day>\d{1,2})(?: (?P<time>\d\d:\d\d)\S*)? (?P<year>\d{4})\s*$"
)
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_CHANNEL_LINE = re.compile(r".{0,120}(?:[Nn]ow talking (?:in|on)|Irssi:|has joined) ([#&][^\s:]+)")
_SESSION = "Session "  # how mIRC's headings begin
_NAME_DATE = re.compile(r"[._-]?(?<!\d)((?:19|20)\d\d)([-/]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_DATE_PART = re.compile(r"\d\d|\d{4}(?:-\d\d){0,2}")
_ENDINGS = frozenset({".log", ".txt", ".weechatlog"})
_CHANNEL_MARKS = "#&!+"

_WEECHAT_PREFIXES = frozenset({"-->", "<--", "--", "=!=", ""})
_NOTICE_LEAD = re.compile(r"(?:-!-|\*\*\*|===?|-->|<--|---?|!)\s+")
# What HexChat and mIRC write as they write an action.
_EVENT = re.compile(
    r"\S+ (?:[\[(]\S*@\S*[\])] (?:has )?(?:joined|left|quit|Quit)\b|is now known as \S+$|sets mode: |was kicked by "
    r"|has (?:joined|left|quit|kicked|changed the topic|set channel|removed channel)\b|changes topic to "
    r"|(?:gives|removes) (?:channel|voice))"
    r"|(?:Now talking|Topic (?:is|for)|Set by|Joins:|Parts:|Quits:|Disconnected|Rejoined) "
)
_FIRST_LINES = 200
_MOST_UNREADABLE = 0.5
_HALF_DAY = 12 * 60  # minutes
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class _Log:
    """One file of a channel."""

    path: Path
    origin: str
    layout: re.Pattern[str]
    first_day: int  # proleptic Gregorian ordinal


@dataclass(slots=True)
class _Line:
    """One line as it is written.

    Attributes:
        day: proleptic Gregorian ordinal.
        offset: seconds east of Greenwich, where the line says so.
    """

    number: int
    day: int
    minute: int
    second: int
    offset: int | None
    author: str
    text: str
    kind: Kind


@dataclass
class _Counts:
    """What was met in one file."""

    lines: int = 0
    untimed: int = 0
    first_untimed: int = 0
    not_utf8: int = 0


@dataclass
class _Survey:
    """What one pass over all logs finds: the logs of each channel in the order of their days, and who is in them."""

    channels: dict[str, list[_Log]]
    people: People


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The guessed threads of each channel, channel by channel, in about the order of their first messages.

    Two passes: the first finds the channels and all who speak in any of them, since somebody who left is still talked about.
    Times are local to ``source.timezone`` where a line brings no offset, and never fall; what somebody says twice at one
    time, as a log tells it, counts once. A line without a time continues the one above it. Private queries (files not named
    by a channel, where others are) are left out unread. Holds little more than the conversations that are open.

    Raises:
        InputError: no layout fits a file, most of its lines cannot be read, or nothing says its date.
    """
    survey = _survey(folder)
    roster, onlookers = survey.people.roster, survey.people.onlookers
    for channel, logs in survey.channels.items():
        messages = _messages(logs, Clock(ZoneInfo(source.timezone)))
        for _, stretch in groupby(messages, key=itemgetter(0)):
            yield from conversations(map(itemgetter(1), stretch), channel, source, roster, onlookers)


def aliases(folder: Path) -> dict[str, str]:
    """Other nicks of those who speak to the nick under which they speak most, as far as nick changes tell."""
    return _survey(folder).people.aliases()


def _survey(folder: Path) -> _Survey:
    rooms: dict[tuple[str, str], list[_Log]] = {}
    people = People()
    for path, (where, channel) in _log_files(folder):
        layout = _layout(path)
        if layout is None:
            logger.info("%s: nobody says anything in it", path)
            continue
        counts, first_day = _Counts(), 0
        origin = path.relative_to(folder).as_posix()
        for line in _read(path, origin, layout, counts):
            first_day = first_day or line.day
            people.meet(line.author, line.text, line.kind)
            if not channel and (heading := _CHANNEL_LINE.match(line.text)) and line.kind is Kind.SYSTEM:
                channel = heading[1]
        _judge(path, counts)
        rooms.setdefault((where, channel or _plain_name(path)), []).append(_Log(path, origin, layout, first_day))
    shared = Counter(channel for _, channel in rooms)
    named = {
        channel if shared[channel] == 1 else f"{where}/{channel}".lstrip("/"): sorted(logs, key=lambda log: log.first_day)
        for (where, channel), logs in rooms.items()
    }
    return _Survey(dict(sorted(named.items())), people)


def _log_files(folder: Path) -> list[tuple[Path, tuple[str, str]]]:
    """Each log's path and place, in the order of their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path.relative_to(folder))]
    places = {path: _place(path.relative_to(folder)) for path in files}
    if any(channel for _, channel in places.values()):
        kept = [path for path in files if places[path][1]]
    else:
        kept = [path for path in files if path.suffix.lower() in _ENDINGS]
    if len(kept) < len(files):
        left = len(files) - len(kept)
        logger.info("%s: left out %d of %d files: private, or no logs by their names", folder, left, len(files))
    if not kept:
        remedy = f"Name logs '#channel.log'; known endings are {', '.join(sorted(_ENDINGS))}"
        raise InputError(folder, "there is no log in it", remedy)
    return [(path, places[path]) for path in kept]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _place(path: Path) -> tuple[str, str]:
    """What a log's path says about its network, and its channel if it has one.

    ``ada/libera/#dev/2026-01-05.log``, ``libera/#dev.log``, ``irc.libera.#dev.weechatlog`` and ``libera_#dev_20260105.log``
    are all channel ``#dev``.
    """
    name = path.name.removesuffix(path.suffix) if path.suffix.lower() in _ENDINGS else path.name
    folders = [part for part in path.parts[:-1] if not _DATE_PART.fullmatch(part)]
    network, mark, rest = _NAME_DATE.sub("", name).partition("#")
    if mark:
        return "/".join([*folders, network]).strip("/_."), (mark + rest).rstrip("_.-")
    for depth, part in reversed(list(enumerate([*folders, network]))):
        if part and part[0] in _CHANNEL_MARKS:
            return "/".join(folders[:depth]), part
    return "/".join(folders), ""


def _plain_name(path: Path) -> str:
    return _NAME_DATE.sub("", path.stem) or path.parent.name


def _layout(path: Path) -> re.Pattern[str] | None:
    """The layout that reads most of the first lines; None if the file holds none but headings."""
    fits: Counter[str] = Counter()
    first = 0
    said_lines = ((n, text) for n, text, _ in numbered_lines(path) if text.strip() and not _DATE_LINE.match(text))
    for number, text in islice(said_lines, _FIRST_LINES):
        first = first or number
        fits.update(name for name, layout in LAYOUTS.items() if layout.fullmatch(text))
    if not first:
        return None
    if not fits:
        remedy = f"Known are those of {'; '.join(LAYOUTS)}. Move the file elsewhere if it is no log"
        raise InputError(f"{path}:{first}", "no known layout of IRC logs fits this line or those after it", remedy)
    return max(LAYOUTS.items(), key=lambda item: fits[item[0]])[1]


def _judge(path: Path, counts: _Counts) -> None:
    if counts.untimed > _MOST_UNREADABLE * counts.lines:
        problem = f"{counts.untimed:,} of {counts.lines:,} lines have no time that can be read, first of them this"
        raise InputError(f"{path}:{counts.first_untimed}", problem, "Mend the file, or move it elsewhere if it is no log")
    if counts.untimed or counts.not_utf8:
        logger.info(
            "%s: of %d lines, %d have no time and continue those above, and %d are not UTF-8 and read as Windows-1252",
            *(path, counts.lines, counts.untimed, counts.not_utf8),
        )


class _Calendar:
    """Which day a line is of, from what the file's name and the lines so far said."""

    def __init__(self, path: Path, origin: str) -> None:
        self._path = path
        found = _NAME_DATE.search(path.name) or _NAME_DATE.search(origin)
        self._day = _ordinal(int(found[1]), int(found[3]), int(found[4])) if found else None
        self._minute = 0

    def turn(self, number: int, heading: re.Match[str]) -> None:
        """Take the date from a line that is nothing but a date."""
        month = _MONTHS.get(heading["month"])
        if month is None:
            problem = f"the month {heading['month']!r} is not an English abbreviation such as Jan"
            raise InputError(f"{self._path}:{number}", problem, "Write the months of such lines in English")
        day = _ordinal(int(heading["year"]), month, int(heading["day"]))
        if day is None:
            raise InputError(f"{self._path}:{number}", "there is no such date", "Mend the line")
        self._day = day
        hour, _, minute = (heading["time"] or "0:0").partition(":")
        self._minute = int(hour) * 60 + int(minute[:2])

    def day(self, number: int, fields: Mapping[str, str | None], minute: int) -> int | None:
        """The line's day; None if it gives a date that does not exist."""
        if fields.get("year"):
            return _ordinal(int(fields["year"] or 0), int(fields["month"] or 0), int(fields["day"] or 0))
        if self._day is None:
            problem = "the log has clock times only: neither its name nor a line above this says the date"
            remedy = "Name the file after its first day (2026-01-05.log), or write '--- Day changed Mon Jan 05 2026' above"
            raise InputError(f"{self._path}:{number}", problem, remedy)
        if name := fields.get("month"):
            found = self._in_year(_MONTHS.get(name, 0), int(fields["day"] or 0))
            self._day = found or self._day
            return found
        if self._minute - minute > _HALF_DAY:
            self._day += 1
        self._minute = minute
        return self._day

    def _in_year(self, month: int, day: int) -> int | None:
        """The day of that name which is nearest to the last one."""
        last = self._day or 0
        year = date.fromordinal(last).year
        near = [found for found in (_ordinal(year + step, month, day) for step in (-1, 0, 1)) if found]
        return min(near, key=lambda found: abs(found - last), default=None)


@lru_cache(maxsize=1_024)
def _ordinal(year: int, month: int, day: int) -> int | None:
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return None


def _read(path: Path, origin: str, layout: re.Pattern[str], counts: _Counts) -> Iterator[_Line]:
    """The file's lines that have a time, each with those that continue it."""
    calendar = _Calendar(path, origin)
    open_line: _Line | None = None
    more: list[str] = []
    for number, text, is_utf8 in numbered_lines(path):
        if not text or text.isspace():
            continue
        match = layout.fullmatch(text)
        fields = match.groupdict() if match else {"notice": text}
        if (notice := fields.get("notice")) and (heading := _DATE_LINE.match(notice)):
            calendar.turn(number, heading)
            continue
        if match is None and text.startswith(_SESSION):
            continue
        counts.lines += 1
        counts.not_utf8 += not is_utf8
        line = _read_line(number, fields, calendar) if match else None
        if line is None:
            counts.untimed += 1
            counts.first_untimed = counts.first_untimed or number
            more.append(text)
            continue
        if open_line is not None:
            yield _continued(open_line, more)
        open_line, more = line, []
    if open_line is not None:
        yield _continued(open_line, more)


def _continued(line: _Line, more: list[str]) -> _Line:
    if more and line.kind is not Kind.SYSTEM:
        line.text = "\n".join((line.text, *more))
    return line


def _read_line(number: int, fields: Mapping[str, str | None], calendar: _Calendar) -> _Line | None:
    minute = int(fields["hour"] or 0) * 60 + int(fields["minute"] or 0)
    day = calendar.day(number, fields, minute)
    if day is None:
        return None
    zone = fields.get("zone")
    return _Line(number, day, minute, int(fields["second"] or 0), _offset(zone) if zone else None, *who(fields))


def _offset(zone: str) -> int:
    if zone == "Z":
        return 0
    size = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -size if zone[0] == "-" else size


def who(fields: Mapping[str, str | None]) -> tuple[str, str, Kind]:
    """Author, text and kind of a line, from what one of :data:`LAYOUTS` found in it."""
    nick, text, actor = fields["nick"], fields["text"] or "", fields.get("actor")
    notice = fields.get("notice") or text
    if nick is not None and nick.strip() == "*":
        actor, _, text = text.partition(" ")
    elif nick is not None and nick not in _WEECHAT_PREFIXES:
        return said(nick.strip().lstrip("@+%&~!") or nick, text)
    elif actor:
        text = fields.get("action") or ""
        notice = f"{actor} {text}"
    if actor and not _EVENT.match(notice):
        return said(actor, text)
    return "", _NOTICE_LEAD.sub("", notice, count=1), Kind.SYSTEM


def _messages(logs: Iterable[_Log], clock: Clock) -> Iterator[tuple[int, Message]]:
    """(stretch of the clock, message) of every line of a channel's logs."""
    for log in logs:
        now = (0, 0, 0)
        heard: set[tuple[str, str]] = set()
        repeated = 0
        for line in _read(log.path, log.origin, log.layout, _Counts()):
            if (line.day, line.minute, line.second) != now:
                now = (line.day, line.minute, line.second)
                heard.clear()
            if line.kind is not Kind.SYSTEM:
                if (line.author, line.text) in heard:
                    repeated += 1
                    continue
                heard.add((line.author, line.text))
            if line.offset is None:
                time = clock.local(*now)
            else:
                time = clock.at((line.day - _EPOCH) * DAY + line.minute * 60 + line.second - line.offset)
            message = Message(f"{log.origin}:{line.number}", line.author, line.text, time, kind=line.kind)
            yield clock.stretch, message
        if repeated:
            logger.info("%s: left out %d lines that repeat what the same nick said at the same time", log.path, repeated)
