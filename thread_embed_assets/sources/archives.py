"""Unpacking archives that somebody else made: only plain files, only below the target, only so much."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from thread_embed_assets.errors import InputError

MAX_BYTES = 20 * 2**30
# Chat in JSON or XML shrinks 5 to 20 times; a bomb shrinks about 1,000 times. Small archives are let through.
MAX_RATIO = 200
RATIO_APPLIES_FROM = 64 * 2**20
_BLOCK = 2**20
_DRIVE = re.compile(r"[A-Za-z]:/")
_UNSAFE = "Nothing was unpacked; do not trust this archive, and ask its maker for a plain one"


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
    with _readable_damage(archive), gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
        for member in tar:
            path = PurePosixPath(*_safe_parts(archive, member.name)[1:])
            matched = [pattern for pattern in include if _matches(path, pattern)]
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


def unpack_zip(archive: Path, target: Path) -> None:
    """Unpack a ``.zip`` into an existing folder, without hidden files, and without a top folder that holds everything.

    Raises:
        InputError: as for :func:`unpack_tar`, or the archive is encrypted.
    """
    budget = _Budget(archive)
    with _readable_damage(archive), zipfile.ZipFile(archive) as opened:
        members = [(info, _safe_parts(archive, info.filename)) for info in opened.infolist() if not info.is_dir()]
        members = [(info, parts) for info, parts in members if not any(part.startswith((".", "__MACOSX")) for part in parts)]
        for info, _ in members:
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise InputError(_place(archive, info.filename), "is a link or a device, not a plain file", _UNSAFE)
            if info.flag_bits & 1:
                raise InputError(_place(archive, info.filename), "is encrypted", "Make the zip without a password")
        tops = {parts[0] for _, parts in members}
        strip = len(tops) == 1 and all(len(parts) > 1 for _, parts in members)
        for info, parts in members:
            with opened.open(info) as content:
                _write(content, target.joinpath(*parts[strip:]), budget, info.filename)


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


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    slashed = name.replace("\\", "/")
    path = PurePosixPath(slashed)
    if path.is_absolute() or _DRIVE.match(slashed) or ".." in path.parts or "\0" in name:
        raise InputError(_place(archive, name), "would be written outside its folder", _UNSAFE)
    return path.parts


def _matches(path: PurePosixPath, pattern: str) -> bool:
    wanted = pattern.split("/")
    return len(wanted) == len(path.parts) and all(map(fnmatchcase, path.parts, wanted))


def _place(archive: Path, member: str) -> str:
    return f"{archive}, member {member!r}"


@contextmanager
def _readable_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        remedy = "Fetch it again; if it is your own file, make the export again"
        raise InputError(archive, f"the archive is truncated or damaged ({error})", remedy) from error
