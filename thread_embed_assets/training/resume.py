"""Which of the trainer's checkpoint folders are whole, and the lock that keeps a run folder to one process."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.storage.atomic import write_text

logger = logging.getLogger(__name__)

_WHOLE = "whole.json"


@dataclass(frozen=True)
class Resume:
    """A whole trainer checkpoint to go on from; tokens and seconds are those of all the steps before it."""

    folder: Path
    step: int
    tokens: int
    seconds: float


def mark_whole(folder: Path, fingerprint: str, step: int, tokens: int, seconds: float) -> None:
    """Write the mark that makes a trainer checkpoint count: the trainer itself writes its files one after another."""
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    mark = {"fingerprint": fingerprint, "step": step, "tokens": tokens, "seconds": seconds, "files": files}
    write_text(folder / _WHOLE, json.dumps(mark, indent=1, sort_keys=True))


def newest_whole(trainer_folder: Path, fingerprint: str) -> Resume | None:
    """The whole checkpoint with the most steps; half-written ones are deleted.

    Raises:
        InputError: a checkpoint of another configuration lies there.
    """
    found: list[Resume] = []
    for folder in sorted(trainer_folder.glob("checkpoint-*")):
        mark = _read_mark(folder)
        if mark is None:
            logger.info("deleting %s: it was not written to its end", folder)
            shutil.rmtree(folder)
            continue
        if mark["fingerprint"] != fingerprint:
            raise InputError(
                folder,
                f"this trainer state belongs to the configuration {mark['fingerprint']}, not to {fingerprint}",
                f"Delete {trainer_folder} and train again",
            )
        found.append(Resume(folder, int(mark["step"]), int(mark["tokens"]), float(mark["seconds"])))
    return max(found, key=lambda r: r.step, default=None)


def _read_mark(folder: Path) -> dict[str, Any] | None:
    try:
        mark: dict[str, Any] = json.loads((folder / _WHOLE).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in mark["files"].items())
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return mark if whole else None


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it when the process ends, however it ends.

    Raises:
        TransientError: another process holds it.
    """
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise TransientError(
                folder,
                f"process {owner} is training this very configuration",
                "Wait until it has finished, or end that process",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
