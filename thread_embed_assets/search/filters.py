"""What a search is narrowed to before anything is ranked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from thread_embed_assets.errors import InputError
from thread_embed_assets.search.names import Names

_AGO = re.compile(r"(\d{1,5})\s*([hdwmy])")
_UNITS = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Filters:
    """Which threads may be found.

    Attributes:
        channels: in one of these; a ``#`` before a name and upper or lower case do not count.
        people: each of these took part, by any of their names or the beginning of one.
        since, until: something was said in it from then on, and up to then; seconds since 1970.
    """

    channels: Sequence[str] = ()
    people: Sequence[str] = ()
    since: float | None = None
    until: float | None = None


def time_of(text: str, option: str, *, end: bool = False, now: datetime | None = None) -> float:
    """Seconds since 1970 of ``2026-03-01``, ``2026-03-01T09:30`` (UTC if no zone is named), or ``7d`` (h, d, w, m, y) ago.

    Args:
        option: what an error names.
        end: a date alone means the end of that day, not its start.
        now: what ``7d`` counts back from; by default the present.

    Raises:
        InputError: it is none of them.
    """
    written = text.strip()
    present = now or datetime.now(UTC)
    try:
        if ago := _AGO.fullmatch(written.lower()):
            return (present - timedelta(days=int(ago[1]) * _UNITS[ago[2]])).timestamp()
        moment = datetime.fromisoformat(written)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if end and _DATE.fullmatch(written):
            moment += timedelta(days=1, microseconds=-1)
        return moment.timestamp()
    except (ValueError, OverflowError) as error:
        problem, remedy = "this is no time", "Write it as 2026-03-01, 2026-03-01T09:30, or 7d for seven days ago"
        raise InputError(f"{option} {text}", problem, remedy) from error


def allowed(
    filters: Filters,
    channels: Sequence[str],
    people: Sequence[Collection[str]],
    started: npt.NDArray[np.float64],
    ended: npt.NDArray[np.float64],
    names: Names,
) -> npt.NDArray[np.bool_]:
    """Whether each thread may be found [threads]; one without times never, where a time is asked for.

    Raises:
        InputError: there is no such channel or person, or the times leave nothing between them.
    """
    keep = np.ones(len(channels), dtype=np.bool_)
    if filters.channels:
        wanted = {_channel(name, channels) for name in filters.channels}
        keep &= np.array([_plain(name) in wanted for name in channels], dtype=np.bool_)
    for name in filters.people:
        ids = _person(name, names)
        keep &= np.array([not ids.isdisjoint(some) for some in people], dtype=np.bool_)
    if filters.since is not None and filters.until is not None and filters.since > filters.until:
        raise InputError("--since", "it is later than --until", "Exchange the two")
    if filters.since is not None:
        keep &= ended >= filters.since  # NaN is neither before nor after
    if filters.until is not None:
        keep &= started <= filters.until
    return keep


def _plain(channel: str) -> str:
    return channel.strip().removeprefix("#").casefold()


def _channel(wanted: str, channels: Sequence[str]) -> str:
    name = _plain(wanted)
    known = {_plain(channel) for channel in set(channels)}
    if name in known:
        return name
    near = difflib.get_close_matches(name, sorted(known), 5, 0.5) or sorted(known)[:10]
    raise InputError(f"--channel {wanted}", "there is no such channel", f"Name another, such as {', '.join(near)}")


def _person(wanted: str, names: Names) -> frozenset[str]:
    ids = names.people(wanted)
    if ids:
        return ids
    raise InputError(f"--person {wanted}", "nobody is called that", "Write the name, or its beginning, as the chat shows it")
