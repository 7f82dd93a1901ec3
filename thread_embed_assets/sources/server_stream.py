"""A sample of Discord servers from one ``tar.zst`` that is never stored: its bytes pass once, and the sample stays.

Which servers are taken, and which days of their channels, is drawn from their ids: order does not enter but for where the
stream is closed, and neighbouring messages stay together. Members are ``<server id>.json`` with a message on each line,
written as Discord's API gives it (https://discord.com/developers/docs/resources/message) and a few fields more.
"""

from __future__ import annotations

import json
import logging
import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

import zstandard

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.archives import ShortHeader
from thread_embed_assets.sources.catalog import HubStreamOrigin
from thread_embed_assets.storage.fingerprint import fraction

LONGEST_LINE = 2**20
_MEMBER = re.compile(r"(\d{1,20})\.json")
_LARGEST_WINDOW = 2**31  # what `zstd --long=31` asks of a reader
_TAR_END = bytes(tarfile.BLOCKSIZE)  # of two such blocks, which may lie in two records
_MILLISECONDS_A_DAY = 86_400_000
_LOG_EVERY = 30.0  # seconds

_MESSAGE_FIELDS = ("id", "channel_id", "channel_name", "content", "timestamp", "edited_timestamp", "type", "is_bot")
_PERSON_FIELDS = ("id", "username", "global_name", "discriminator", "bot")
_REFERENCE_FIELDS = ("message_id", "channel_id")
_THREAD_FIELDS = ("id", "name", "parent_id")

logger = logging.getLogger(__name__)


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass
class Sampled:
    """What was met and what was kept; a malformed line or member is counted, and is no error."""

    servers_met: int = 0
    servers: int = 0
    messages: int = 0
    malformed_lines: int = 0
    other_members: int = 0


def sample_servers(archive: Readable, folder: Path, origin: HubStreamOrigin, source: str, place: Path | str) -> Sampled:
    """Write ``<server id>.jsonl`` for each server taken, its messages by channel and then by id, with the fields we read.

    Holds one server's sample at a time. Reads no further than the origin's bounds ask for.

    Args:
        archive: the compressed bytes.
        folder: an existing folder.
        origin: how much to take.
        source: the catalogue's name, from which servers and days are drawn.
        place: what errors name.

    Raises:
        InputError: the archive is truncated or damaged, or no message was taken.
    """
    found, reported = Sampled(), time.monotonic()
    with _readable_damage(place), _members(archive) as members:
        for name, content in members:
            match = _MEMBER.fullmatch(PurePosixPath(name).name)
            if not match:
                found.other_members += 1
                continue
            found.servers_met += 1
            if fraction("server", source, match[1]) < origin.server_share:
                _take(content, folder / f"{match[1]}.jsonl", origin, source, found)
            if time.monotonic() - reported >= _LOG_EVERY:
                reported = time.monotonic()
                logger.info("%s: %s", place, found)
            if found.servers >= origin.most_servers or found.messages >= origin.most_messages:
                break
    logger.info("%s: %s", place, found)
    if not found.messages:
        problem = f"no message was taken ({found})"
        raise InputError(place, problem, "Raise the shares of this source's origin in the catalogue, or correct its path")
    return found


@dataclass
class _ChannelDays:
    """Whole days of channels with the lowest draws, of at most ``most`` messages together.

    Each day that no longer fits lowers the bound that later ones must stay below, so that order does not matter. A single
    day that is too long keeps its first messages.
    """

    bound: float
    most: int
    held: int = 0
    _days: dict[tuple[str, str, int], list[tuple[int, int, str]]] = field(default_factory=dict)
    _highest: list[tuple[float, tuple[str, str, int]]] = field(default_factory=list)

    def add(self, key: tuple[str, str, int], channel: int, message: int, line: str) -> None:
        if key not in self._days:
            draw = fraction("channel day", *key)
            if draw >= self.bound:
                return
            self._days[key] = []
            heappush(self._highest, (-draw, key))
        self._days[key].append((channel, message, line))
        self.held += 1
        while self.held > self.most and len(self._days) > 1:
            draw, highest = heappop(self._highest)
            self.held -= len(self._days.pop(highest))
            self.bound = -draw
        if self.held > self.most:
            self._days[key].pop()
            self.held -= 1

    def lines(self) -> Iterator[str]:
        for _, _, line in sorted(entry for day in self._days.values() for entry in day):
            yield line


def _take(content: IO[bytes], path: Path, origin: HubStreamOrigin, source: str, found: Sampled) -> None:
    most = min(origin.most_messages_per_server, origin.most_messages - found.messages)
    days, malformed = _ChannelDays(origin.channel_day_share, most), 0
    for line in _lines(content):
        reduced = _reduce(line)
        if reduced is None:
            malformed += 1
            continue
        channel, message = int(reduced["channel_id"]), int(reduced["id"])
        days.add((source, str(channel), _day(message)), channel, message, json.dumps(reduced, ensure_ascii=False))
    if malformed:
        found.malformed_lines += malformed
        logger.warning("%s: left out %d malformed lines", path.name, malformed)
    if days.held:
        found.servers += 1
        found.messages += days.held
        with path.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{line}\n" for line in days.lines())


def _day(message: int) -> int:
    """Days since Discord's epoch: an id's upper bits count milliseconds, so no timestamp has to be read."""
    return (message >> 22) // _MILLISECONDS_A_DAY


def _lines(content: IO[bytes]) -> Iterator[bytes]:
    """Lines without those that are blank; of one that is too long, a piece that is not JSON."""
    while line := content.readline(LONGEST_LINE):
        rest = line
        while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            rest = content.readline(LONGEST_LINE)
        if rest is not line:
            yield b"{"
        elif line.strip():
            yield line


def _reduce(line: bytes) -> dict[str, Any] | None:
    """The fields we read, the ids as text; None for what is no message."""
    try:
        message = json.loads(line)
        kept = {name: message[name] for name in _MESSAGE_FIELDS if message.get(name) is not None}
        kept |= {name: str(int(message[name])) for name in ("id", "channel_id")}
        kept["author"] = _of(message["author"], _PERSON_FIELDS)
        for name, fields in (("message_reference", _REFERENCE_FIELDS), ("thread", _THREAD_FIELDS)):
            if isinstance(message.get(name), dict):
                kept[name] = _of(message[name], fields)
        mentions = message.get("mentions") or []
        kept["mentions"] = [_of(person, _PERSON_FIELDS) for person in mentions if isinstance(person, dict)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return kept


def _of(content: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: content[name] for name in names if content.get(name) is not None}


@contextmanager
def _members(archive: Readable) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    with decompressor.stream_reader(cast("IO[bytes]", archive), read_across_frames=True, closefd=False) as reader:
        watched = _Watched(reader)
        with tarfile.open(fileobj=watched, mode="r|", tarinfo=ShortHeader) as tar:  # type: ignore[call-overload]
            yield _files(tar, watched)


def _files(tar: tarfile.TarFile, watched: _Watched) -> Iterator[tuple[str, IO[bytes]]]:
    for member in tar:
        content = tar.extractfile(member) if member.isreg() else None
        if content is not None:
            yield member.name, content
    if watched.last != _TAR_END:
        raise tarfile.ReadError("the archive ends before its end mark")


@dataclass
class _Watched:
    """Remembers the last bytes read: tarfile takes an archive that stops between two members for a whole one."""

    reader: Readable
    last: bytes = b""

    def read(self, size: int, /) -> bytes:
        block = self.reader.read(size)
        self.last = (self.last + block)[-len(_TAR_END) :]
        return block


@contextmanager
def _readable_damage(place: Path | str) -> Iterator[None]:
    try:
        yield
    except (EOFError, tarfile.TarError, zstandard.ZstdError) as error:
        raise InputError(place, f"the archive is truncated or damaged ({error})", "Fetch it again") from error
