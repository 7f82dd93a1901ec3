"""Files and folders that are either whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thread_embed_assets.errors import InputError

_TEMPORARY = re.compile(r"^\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.part$")
_FOREIGN_SECONDS = 7 * 86_400


def temporary_beside(target: Path) -> Path:
    """A fresh name in ``target``'s own folder, so that the final rename never crosses a file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    return target.with_name(f".{target.name}.{this_host()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def remove_abandoned(target: Path) -> None:
    """Delete what killed processes left behind for ``target``; a living process keeps its own.

    Which processes of another machine that shares the disk are alive nobody here knows: what it wrote goes after a week.
    """
    for path in target.parent.glob(f".{target.name}.*.part*"):
        match = _TEMPORARY.match(path.name.removesuffix(".wal"))
        if match is None or match["target"] != target.name:
            continue
        if not process_lives(int(match["pid"])) if match["host"] == this_host() else _is_old(path):
            _delete(path)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _FOREIGN_SECONDS
    except FileNotFoundError:  # its own machine was faster
        return False


def this_host() -> str:
    """8 hex digits that stand for this machine in names."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def process_lives(pid: int) -> bool:
    """Whether this machine runs a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block succeeds it becomes ``target``, else ``target`` stays as it was.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    with readable_disk_errors(target):
        part = temporary_beside(target)
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            _delete(part)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces ``target`` when the block succeeds."""
    with temporary_folder(target) as part:
        yield part
        if target.exists():
            old = temporary_beside(target)
            target.replace(old)
            part.replace(target)
            _delete(old)
        else:
            part.replace(target)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that is gone after the block; a killed process's goes with the next."""
    with readable_disk_errors(target):
        part = temporary_beside(target)
        part.mkdir()
        try:
            yield part
        finally:
            _delete(part)


@contextmanager
def readable_disk_errors(target: Path) -> Iterator[None]:
    """Turn a full disk or a folder without permission into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(target) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise not_writable(target) from error
        raise


def disk_full(target: Path) -> InputError:
    return InputError(
        target,
        "the disk is full, so nothing was replaced and the last good data is still there",
        "Free space on that file system, or set THREAD_EMBED_ROOT to a folder on another one, and run again",
    )


def not_writable(target: Path) -> InputError:
    remedy = "Give this user write permission there, or set THREAD_EMBED_ROOT to another folder"
    return InputError(target, "the folder cannot be written", remedy)


def write_text(target: Path, text: str) -> None:
    with atomic_file(target) as part:
        part.write_text(text, encoding="utf-8")
