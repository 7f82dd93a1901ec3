"""Answers that were paid for, kept by content: of the prompt, of the form of the answer, of the model and of the text.

SQLite rather than DuckDB, since several partitions may ask at the same time: its files may be open for writing in more than
one process, and a commit either is there after a crash or is not.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.writers import Fault, Result, Task, Written
from thread_embed_assets.storage.atomic import readable_disk_errors

_TABLES = """
    CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY, written_by TEXT NOT NULL, task TEXT NOT NULL, answer TEXT, fault TEXT,
        input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, answered_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS batches (
        batch TEXT PRIMARY KEY, scope TEXT NOT NULL, sent_at TEXT NOT NULL, requests INTEGER NOT NULL
    ) WITHOUT ROWID;
"""
_WAIT_SECONDS = 60.0  # for another process that is writing


def key_of(writer: str, task: Task, text: str) -> str:
    """64 hexadecimal digits that name the text as this writer and this task see it."""
    return hashlib.sha256("\x1f".join((writer, task.fingerprint, text)).encode("utf-8", "replace")).hexdigest()


class AnswerCache:
    """Answers, and the batches that are still out, in one file.

    Raises:
        InputError: the file is no such cache, or its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with readable_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
            self._connection.executescript(f"PRAGMA synchronous=FULL; {_TABLES}")

    def close(self) -> None:
        self._connection.close()

    def get(self, key: str) -> Result | None:
        """What was answered, be it that there is no answer; None if nobody has been asked."""
        with self._readable():
            query = "SELECT answer, fault, input_tokens, output_tokens FROM answers WHERE key = ?"
            row = self._connection.execute(query, [key]).fetchone()
        if row is None:
            return None
        answer, fault, *tokens = row
        try:
            written = Written.model_validate_json(answer) if answer is not None else None
        except ValidationError as error:
            raise self._damaged(f"the answer {key[:8]} is none ({error})") from error
        if fault is not None and fault not in get_args(Fault):
            raise self._damaged(f"the answer {key[:8]} has an unknown fault {fault!r}")
        return Result(key, written, fault, *tokens)

    def put(self, result: Result, writer: str, task: Task) -> None:
        """Keep a result for good; it is on disk when this returns."""
        answer = result.answer.model_dump_json() if result.answer else None
        row = (result.key, writer, task.name, answer, result.fault, result.input_tokens, result.output_tokens, _now())
        with self._readable():
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def batches(self, scope: str) -> list[str]:
        """The batches of a scope that are out, oldest first."""
        with self._readable():
            query = "SELECT batch FROM batches WHERE scope = ? ORDER BY sent_at, batch"
            return [str(batch) for (batch,) in self._connection.execute(query, [scope]).fetchall()]

    def remember_batch(self, batch: str, scope: str, requests: int) -> None:
        with self._readable():
            self._connection.execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", [batch, scope, _now(), requests])

    def forget_batch(self, batch: str) -> None:
        """Its answers have been fetched and kept, or there will be none."""
        with self._readable():
            self._connection.execute("DELETE FROM batches WHERE batch = ?", [batch])

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, why: str) -> InputError:
        problem = f"the answers kept there cannot be read or written ({why})"
        return InputError(
            self._path, problem, "Free the disk or the file if that is it, else delete it: answers are asked anew"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
