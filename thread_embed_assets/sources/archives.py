"""Unpacking archives that somebody else made: only plain files, only below the target, only so much."""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Self

from thread_embed_assets.errors import InputError

MAX_BYTES = 20 * 2**30
# Chat in JSON or XML shrinks 5 to 20 times; a bomb shrinks about 1,000 times. Small archives are let through.
MAX_RATIO = 200
RATIO_APPLIES_FROM = 64 * 2**20
LONGEST_TAR_HEADER = 2**16  # bytes of a long name or of further fields
_LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_BLOCK = 2**20
_DRIVE = re.compile(r"[A-Za-z]:/")
_UNSAFE = "Nothing was unpacked; do not trust this archive, and ask its maker for a plain one"


class ShortHeader(tarfile.TarInfo):
    """For ``tarfile.open(..., tarinfo=ShortHeader)``: ReadError where a header is a bomb, for all of it goes into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        head = super().frombuf(buf, encoding, errors)
        if head.type in _LONG_HEADERS and head.size > LONGEST_TAR_HEADER:
            raise tarfile.ReadError(f"a member's header takes {head.size:,} bytes")
        return head


def unpack_tar(archive: Path, target: Path, include: Sequence[str]) -> None:
    """Unpack the files of a ``.tar.gz`` that match ``include``, without its top folder.

    Args:
        archive: a gzipped tar with one top folder, as GitHub makes it.
        target: an existing folder that gets the files.
        include: glob patterns below the top folder; ``*`` never crosses a slash. Each must match a file.

    Raises:
        InputError: the archive is truncated or damaged; a member's path is absolute or holds ``..``; a member that matches
            is a link or a device; the files are too large; a pattern matches nothing.
    """
    budget, missing = _Budget(archive), list(include)
    with _readable_damage(archive), gzip.open(archive) as unzipped, _open_tar(unzipped) as tar:
        for member in tar:
            path = PurePosixPath(*safe_parts(archive, member.name)[1:])
            matched = [pattern for pattern in include if matches(path, pattern)]
            if not matched or member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise InputError(_place(archive, member.name), "is a link or a device, not a plain file", _UNSAFE)
            _write(content, target / path, budget, member.name)
            missing = [pattern for pattern in missing if pattern not in matched]
    if missing:
        remedy = "Correct `include` of this source in the catalogue, or take an archive that holds these files"
        raise InputError(archive, f"no file matches {missing[0]!r}", remedy)


def _open_tar(unzipped: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=unzipped, mode="r|", tarinfo=ShortHeader)


def unpack_zip(archive: Path, target: Path) -> None:
    """Unpack a ``.zip`` into an existing folder, without hidden files, and without a top folder that holds everything.

    Raises:
        InputError: as for :func:`unpack_tar`, or the archive is encrypted.
    """
    budget = _Budget(archive)
    with open_zip(archive) as opened:
        for info, parts in visible_members(archive, opened):
            with opened.open(info) as content:
                _write(content, target.joinpath(*parts), budget, info.filename)
            _set_time(target.joinpath(*parts), info)


def _set_time(path: Path, info: zipfile.ZipInfo) -> None:
    with suppress(ValueError, OverflowError):  # a zip can hold the month 0
        changed = time.mktime((*info.date_time, 0, 0, -1))
        os.utime(path, (changed, changed))


@contextmanager
def open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose names are UTF-8 even where it does not say so, as macOS writes them; else the old DOS encoding.

    Raises:
        InputError: it is truncated or damaged, be it found only while a member is read.
    """
    with _readable_damage(archive), _zip_file(archive) as opened:
        yield opened


def _zip_file(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(archive)


def visible_members(archive: Path, opened: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """The files with the parts of their paths: without hidden ones, and without a top folder that holds everything.

    Raises:
        InputError: a path leads outside, or a member is encrypted, a link or a device.
    """
    composed = partial(unicodedata.normalize, "NFC")  # channels.json has names composed, a zip made by macOS may not
    members = [(info, safe_parts(archive, composed(info.filename))) for info in opened.infolist() if not info.is_dir()]
    members = [(info, parts) for info, parts in members if not any(part.startswith((".", "__MACOSX")) for part in parts)]
    for info, _ in members:
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise InputError(_place(archive, info.filename), "is a link or a device, not a plain file", _UNSAFE)
        if info.flag_bits & 1:
            raise InputError(_place(archive, info.filename), "is encrypted", "Make the zip without a password")
    tops = {parts[0] for _, parts in members}
    strip = len(tops) == 1 and all(len(parts) > 1 for _, parts in members)
    return [(info, parts[strip:]) for info, parts in members]


@dataclass
class _Budget:
    """How much may still be unpacked, in proportion to the archive's own size."""

    archive: Path
    written: int = 0

    def spend(self, count: int, member: str) -> None:
        self.written += count
        limit = min(MAX_BYTES, max(RATIO_APPLIES_FROM, MAX_RATIO * self.archive.stat().st_size))
        if self.written > limit:
            problem = f"the files unpacked up to here are larger than the {limit:,} bytes allowed for this archive"
            raise InputError(
                _place(self.archive, member), problem, "If you trust it, unpack it by hand and name the folder instead"
            )


def _write(content: IO[bytes], path: Path, budget: _Budget, member: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise InputError(_place(budget.archive, member), "is in the archive twice", _UNSAFE)
    with path.open("xb") as file:
        while block := content.read(_BLOCK):
            budget.spend(len(block), member)
            file.write(block)


def safe_parts(archive: Path | str, name: str) -> tuple[str, ...]:
    """The parts of a relative path that stays in its folder; InputError for any other."""
    slashed = name.replace("\\", "/")
    path = PurePosixPath(slashed)
    if path.is_absolute() or _DRIVE.match(slashed) or ".." in path.parts or "\0" in name:
        raise InputError(_place(archive, name), "would be written outside its folder", _UNSAFE)
    return path.parts


def matches(path: PurePosixPath, pattern: str) -> bool:
    """Whether a glob pattern fits a path; ``*`` never crosses a slash."""
    wanted = pattern.split("/")
    return len(wanted) == len(path.parts) and all(map(fnmatchcase, path.parts, wanted))


def _place(archive: Path | str, member: str) -> str:
    return f"{archive}, member {member!r}"


@contextmanager
def _readable_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        remedy = "Fetch it again; if it is your own file, make the export again"
        raise InputError(archive, f"the archive is truncated or damaged ({error})", remedy) from error
