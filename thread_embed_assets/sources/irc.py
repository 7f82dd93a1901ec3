"""IRC logs with reply links annotated by people (Kummerfeld et al. 2019, https://aclanthology.org/P19-1374).

Beside each ``NAME.ascii.txt`` lies ``NAME.annotation.txt`` with lines ``A B -``: line B of the log, counted from 0, answers
line A; ``A A`` starts a conversation. The first 1,000 lines of a log are context and enter only where a link reaches them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from thread_embed_assets.chat.model import Conversation, Kind, Message, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.text_files import read_text

ROOM = "ubuntu"
# People like to call themselves bots, so these are the nicks whose lines in these logs are a program's.
BOTS = re.compile(r"l?ubot+u\d?|ubot\d|floodbot\d*|netflambot", re.IGNORECASE)

_ANNOTATIONS = ".annotation.txt"
_LOG = ".ascii.txt"
_LINE = re.compile(r"\[(\d\d):(\d\d)\](?: <([^>]+)> ?(.*)|  \* (\S+) ?(.*))?", re.DOTALL)
_JOINED = re.compile(r"=== (\S+) \[")
_RENAMED = re.compile(r"=== (\S+) is now known as (\S+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SPLITS = {"train": Split.TRAIN, "dev": Split.DEV, "test": Split.TEST}
_HALF_DAY = 12 * 60  # minutes


@dataclass(slots=True)
class _Line:
    minute: int | None  # of the day, as printed
    author: str
    text: str
    kind: Kind


@dataclass(frozen=True)
class AnnotatedLog:
    """A log with its annotation.

    Attributes:
        name: ``SPLIT/NAME``; ids of messages are ``SPLIT/NAME:LINE``, lines counted from 0.
        origin: the log's file, relative to the source's folder.
        messages: all its lines, those of the context and of the server too, without parents.
        parents: line of every annotated message to the lines it answers; none if it starts a conversation.
        roster, onlookers: as in a conversation.
    """

    name: str
    split: Split | None
    origin: str
    messages: list[Message]
    parents: dict[int, set[int]]
    roster: frozenset[str]
    onlookers: frozenset[str]


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The connected components of the reply links of each annotated log, log by log.

    A message keeps all its annotated parents. Times have the log's resolution, a minute; lines of the same minute keep their
    order. Holds one log at a time.

    Raises:
        InputError: an annotation has no log, is not a pair of numbers, or points outside its log; a log has no date.
    """
    for log in annotated_logs(folder):
        yield from _conversations(log, source)


def annotated_logs(folder: Path, split: Split | None = None) -> Iterator[AnnotatedLog]:
    """The logs below a folder in the order of their names, of one split or all; raises as :func:`parse`."""
    for annotation in sorted(folder.rglob(f"*{_ANNOTATIONS}")):
        if split is None or _SPLITS.get(annotation.parent.name) == split:
            yield _read_log(annotation, folder)


def _conversations(log: AnnotatedLog, source: Source) -> Iterator[Conversation]:
    for component in components(log.parents):
        messages = [
            replace(
                log.messages[line], parents=tuple(log.messages[parent].id for parent in sorted(log.parents.get(line, ())))
            )
            for line in component
        ]
        yield Conversation(
            id=messages[0].id,
            source=source.name,
            platform=source.platform,
            channel=ROOM,
            truth=source.truth,
            messages=messages,
            published_split=log.split,
            origin=log.origin,
            roster=log.roster,
            onlookers=log.onlookers,
        )


def _read_log(annotation: Path, folder: Path) -> AnnotatedLog:
    path = annotation.with_name(annotation.name.removesuffix(_ANNOTATIONS) + _LOG)
    raw = read_text(path).split("\n")
    if raw[-1] == "":
        raw.pop()
    parents = _read_links(annotation, len(raw))
    lines = [_read_line(line) for line in raw]
    times = _times(lines, anchor=min(parents, default=0), day=_day(path))
    roster = _people(raw, lines)
    name = f"{annotation.parent.name}/{path.name.removesuffix(_LOG)}"
    return AnnotatedLog(
        name=name,
        split=_SPLITS.get(annotation.parent.name),
        origin=path.relative_to(folder).as_posix(),
        messages=[
            Message(id=f"{name}:{number}", author=line.author, text=line.text, time=time, kind=line.kind)
            for number, (line, time) in enumerate(zip(lines, times, strict=True))
        ],
        parents=parents,
        roster=roster,
        onlookers=frozenset(match[1] for match in map(_JOINED.match, raw) if match) - roster,
    )


def _read_links(annotation: Path, line_count: int) -> dict[int, set[int]]:
    """Line number of every annotated message to the lines it answers."""
    parents: dict[int, set[int]] = {}
    for position, line in enumerate(read_text(annotation).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{annotation}:{position}"
        fields = line.split()
        if len(fields) < 2 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise InputError(
                place, f"expected 'PARENT CHILD -' with two line numbers, found {line!r}", "Mend or remove that line"
            )
        parent, child = sorted((int(fields[0]), int(fields[1])))
        if child >= line_count:
            problem = f"points to line {child} (counted from 0), but the log has {line_count} lines"
            raise InputError(place, problem, f"The log ({_LOG}) may be cut short: fetch the source again")
        answered = parents.setdefault(child, set())
        if parent != child:
            answered.add(parent)
    return parents


def _read_line(line: str) -> _Line:
    match = _LINE.match(line)
    if match is None:
        return _Line(None, "", line.removeprefix("=== "), Kind.SYSTEM)
    minute = int(match[1]) * 60 + int(match[2])
    author = match[3] or match[5]
    if author is None:
        return _Line(minute, "", line[match.end() :].strip(), Kind.SYSTEM)
    text = match[4] if match[3] else match[6]
    return _Line(minute, author, text, Kind.BOT if BOTS.fullmatch(author) else Kind.TEXT)


def _day(log: Path) -> datetime:
    found = _DATE.match(log.name)
    problem, remedy = (
        "the file name does not start with a date",
        "Name the file YYYY-MM-DD..., the day of its first annotated line",
    )
    if found is None:
        raise InputError(log, problem, remedy)
    try:
        return datetime.fromisoformat(found[0]).replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(log, problem, remedy) from error


def _times(lines: list[_Line], anchor: int, day: datetime) -> list[float]:
    """Seconds UTC of every line, never falling.

    The file name's day is that of the first annotated line, as the hours in the names of dev and test files are; the context
    before it may lie on the day before. A clock that falls by more than 12 hours has passed midnight. Some logs of 2004 to
    2007 have a 12-hour clock without am and pm: it falls by just under 12 hours when the next half day begins.
    """
    minutes: list[int] = []
    offset, last = 0, next((line.minute for line in lines if line.minute is not None), 0)
    for line in lines:
        if line.minute is not None:
            fall = last - line.minute
            if fall > _HALF_DAY:
                offset += 2 * _HALF_DAY
            elif fall > _HALF_DAY // 2:
                offset += _HALF_DAY
            last = line.minute
        now = offset + last
        minutes.append(max(now, minutes[-1]) if minutes else now)
    days_before = minutes[anchor] // (2 * _HALF_DAY) if minutes else 0
    midnight = day.timestamp() - days_before * 86_400
    return [midnight + minute * 60.0 for minute in minutes]


def _people(raw: list[str], lines: list[_Line]) -> frozenset[str]:
    """Everybody who speaks in the log, under each nick taken there.

    Those who only join are onlookers: of 1,832 words equal to such a nick in the annotated texts nearly all are no mention
    ("ubuntu", "the", "root", "kernel").
    """
    speakers = {line.author for line in lines if line.author}
    renames = (match.groups() for match in map(_RENAMED.match, raw) if match)
    return frozenset(speakers.union(*(pair for pair in renames if not speakers.isdisjoint(pair))))


def components(parents: Mapping[int, Collection[int]]) -> Iterable[list[int]]:
    """Connected components over all links, each ascending, in the order of their first lines."""
    root: dict[int, int] = {}

    def find(line: int) -> int:
        top = line
        while (above := root.setdefault(top, top)) != top:
            top = above
        while root[line] != top:
            root[line], line = top, root[line]
        return top

    for child, answered in parents.items():
        for parent in answered or (child,):
            first, second = sorted((find(child), find(parent)))
            root[second] = first
    members: dict[int, list[int]] = {}
    for line in sorted(root):
        members.setdefault(find(line), []).append(line)
    return members.values()
