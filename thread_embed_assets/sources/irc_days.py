"""Ubuntu's IRC channels since 2004, as the Common Pile publishes them: gzipped JSON Lines, a row for each channel's day.

``{"id": "2013-04-29-#channel", "text": "[10:19] <nick> words\\n[10:20]  * nick nods\\n...", "created": "2013-04-29",
"metadata": {"channel": "#channel", ...}}``. The publisher took out servers' lines and known bots. Lines that came through a
relay lost their time and nick there and begin with two control characters instead: a replacement pattern of the publisher's
cleaning that was taken literally (https://github.com/r-three/common-pile, ``sources/ubuntu/preprocess.py``). The folder
``raw`` beside the cleaned one has all lines whole, ``=== `` ones too; both can be read.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from thread_embed_assets.chat.model import Conversation, Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.irc_lines import Clock, People, conversations
from thread_embed_assets.sources.irc_log import BRACKETED_CLOCK, who

logger = logging.getLogger(__name__)

_SYSTEM = "=== "
_QUARTER_DAY, _HALF_DAY = 6 * 60, 12 * 60  # minutes
_LOG_EVERY = 20_000  # rows


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """The guessed threads of every row, row by row as the shards hold them: a day's channels one after another.

    Since a channel's days are not adjacent, threads end at midnight. Those who speak that day are the roster. Lines without
    a time are taken for system lines. Holds one row at a time.

    Raises:
        InputError: a shard is cut short or not gzip, or a row is not JSON or lacks a field; it names the line.
    """
    shards = sorted(folder.rglob("*.jsonl.gz"))
    if not shards:
        raise InputError(folder, "there is no .jsonl.gz in it", "Fetch the source again")
    zone = ZoneInfo(source.timezone)
    counts: Counter[str] = Counter()
    for shard in shards:
        for place, row in _rows(shard):
            counts["rows"] += 1
            if counts["rows"] % _LOG_EVERY == 0:
                logger.info("%s: %s", shard.name, dict(counts))
            yield from _day(place, row, zone, source, counts)
    logger.info("%s: %s", source.name, dict(counts))


def _rows(shard: Path) -> Iterator[tuple[str, Any]]:
    """(file and line, row) of a shard."""
    number = 0
    try:
        with gzip.open(shard, "rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield f"{shard}:{number}", json.loads(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{shard}:{number + 1}", f"the file is cut short or damaged ({error})", "Fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shard}:{number}", f"not a JSON row ({error})", "Fetch the file again") from error


def _day(place: str, row: Any, zone: ZoneInfo, source: Source, counts: Counter[str]) -> Iterator[Conversation]:
    name, text, created = (row.get(key) if isinstance(row, dict) else None for key in ("id", "text", "created"))
    if not isinstance(name, str) or not (text is None or isinstance(text, str)):
        raise InputError(place, "lacks the text fields 'id' and 'text'", "Fetch the file again")
    try:
        day = date.fromisoformat(str(created or name)[:10]).toordinal()
    except ValueError as error:
        raise InputError(place, "neither 'created' nor 'id' begins with a date", "Fetch the file again") from error
    metadata = row.get("metadata")
    channel = (metadata.get("channel") if isinstance(metadata, dict) else None) or name[11:] or "unknown"
    people = People()
    messages = list(_messages(name, (text or "").split("\n"), day, Clock(zone), people, counts))
    yield from conversations(messages, str(channel), source, people.roster, people.onlookers)


def _messages(
    name: str, lines: Sequence[str], day: int, clock: Clock, people: People, counts: Counter[str]
) -> Iterator[Message]:
    matches = [BRACKETED_CLOCK.fullmatch(line) for line in lines]
    minutes = iter(_on_24_hours([int(match["hour"]) * 60 + int(match["minute"]) for match in matches if match]))
    time = clock.local(day, 0)
    for number, (line, match) in enumerate(zip(lines, matches, strict=True), 1):
        if match is not None:
            time = clock.local(day, next(minutes))
            author, text, kind = who(match.groupdict())
        elif line.strip():
            author, text, kind = "", line.removeprefix(_SYSTEM), Kind.SYSTEM
            counts["lines without time"] += not line.startswith(_SYSTEM)
        else:
            continue
        people.meet(author, text, kind)
        counts["lines"] += 1
        yield Message(f"{name}:{number}", author, text, time, kind=kind)


def _on_24_hours(minutes: list[int]) -> list[int]:
    """Minutes of the day as told, or, where the clock is a 12-hour one without am and pm, as meant.

    Some logs of 2004 to 2007 have such a clock: no hour is 0 or above 12, and it falls by half a day at noon.
    """
    fell = any(before - after > _QUARTER_DAY for before, after in pairwise(minutes))
    if not fell or not all(1 <= minute // 60 <= 12 for minute in minutes):
        return minutes
    found: list[int] = []
    last = half = 0
    for minute in minutes:
        minute %= _HALF_DAY
        half = _HALF_DAY if last - minute > _QUARTER_DAY else half
        last = minute
        found.append(half + minute)
    return found
