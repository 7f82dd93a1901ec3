"""The store after a kill: between any two of its statements, and at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker import store as module
from thread_embed_assets.reranker.entities import entities, keywords
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.reranker.store_file import SIZE, code

_CHANNELS = ("general", "random")


class DiesAt:
    """A connection whose process is killed instead of its nth statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, statements: int) -> None:
        self._connection, self._left = connection, statements

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in ("execute", "begin", "commit"):
            return found

        def counted(*arguments: Any) -> Any:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return found(*arguments)

        return counted


def in_child(work: Callable[[], object]) -> int:
    """Start it in a process of its own, and say which."""
    child = os.fork()
    if not child:
        done = 1
        try:
            work()
            done = 0
        finally:
            os._exit(done)
    return child


def how_it_ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def message(number: int) -> Message:
    return Message(f"m{number}", f"p_{number % 3:010x}", f"Norvik{number % 7} needs invoice {number}", float(number))


def steps(store: ThreadStore, first: int, acknowledge: Callable[[int], object] = lambda number: None) -> None:
    """One of each: a new thread, one that goes on, a title, vectors, and several threads at once."""
    thread = store.add(message(first), "general")
    acknowledge(first)
    store.add(message(first + 1), "general", thread)
    acknowledge(first + 1)
    store.rename(thread, f"thread of {first}")
    store.set_vector(thread, np.ones(SIZE, dtype=np.float32))
    store.set_vector(thread, np.arange(SIZE, dtype=np.float32))
    store.load([(channel, [message(first + 2 + 2 * n), message(first + 3 + 2 * n)]) for n, channel in enumerate(_CHANNELS)])
    for number in range(first + 2, first + 6):
        acknowledge(number)


def kept(path: Path) -> set[str]:
    """The ids of all messages, after everything in the file has been compared with them."""
    with duckdb.connect(str(path)) as connection:
        threads = dict(connection.execute("SELECT thread, channel FROM threads").fetchall())
        named = connection.execute("SELECT count(DISTINCT thread_id), count(*) FROM threads").fetchall()[0]
        rows = connection.execute("SELECT message_id, channel, turn, thread, text, sent_at FROM messages").fetchall()
        words = connection.execute("SELECT thread, turn, sent_at, code, word, is_entity FROM words").fetchall()
        vectors = connection.execute("SELECT thread, vector FROM vectors").fetchall()
        log = connection.execute("SELECT sum(messages), count(*) FROM thread_log").fetchall()[0]
    assert named[0] == named[1] == len(threads)
    assert len({row[0] for row in rows}) == len(rows)
    assert all(threads[row[3]] == row[1] for row in rows), "a message is in no thread of its channel"
    assert {row[3] for row in rows} == set(threads), "a thread has no message"
    for channel in _CHANNELS:
        assert sorted(row[2] for row in rows if row[1] == channel) == list(range(sum(row[1] == channel for row in rows)))
    wanted = [
        (thread, turn, sent_at, code(word), word, is_entity)
        for _, _, turn, thread, text, sent_at in rows
        for found, is_entity in ((entities(text), True), (keywords(text), False))
        for word in found
    ]
    assert sorted(words) == sorted(wanted), "the words are not those of the messages"
    assert len({thread for thread, _ in vectors}) == len(vectors) and {thread for thread, _ in vectors} <= set(threads)
    assert all(np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5) for _, vector in vectors)
    assert log == ((len(rows), len(threads)) if rows else (None, 0))
    return {row[0] for row in rows}


def test_a_kill_between_any_two_statements_leaves_whole_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    opened = module.open_file
    empty = tmp_path / "empty.duckdb"
    ThreadStore(empty).close()
    for number in range(200):
        path = tmp_path / f"{number}.duckdb"
        shutil.copy(empty, path)

        def work(path: Path = path, number: int = number) -> None:
            monkeypatch.setattr(module, "open_file", lambda path: DiesAt(opened(path), number))
            with ThreadStore(path) as store:
                steps(store, 0)

        ended = how_it_ended(in_child(work))
        sizes.append(len(kept(path)))
        if not ended:
            break
        assert ended == -signal.SIGKILL
        if number % 3:
            continue
        with ThreadStore(path) as store:
            steps(store, 0)
        assert kept(path) == {f"m{n}" for n in range(6)}, "doing it again does not end as if it had not been cut off"
    assert sizes[0] == 0 and sizes[-1] == 6 and len(sizes) > 20
    assert set(sizes) == {0, 1, 2, 6} and sizes == sorted(sizes), "a step is there by half"


def test_a_kill_while_a_store_is_made_leaves_none_or_an_empty_one(tmp_path: Path) -> None:
    draw = random.Random(7)
    for number in range(8):
        path = tmp_path / str(number) / "threads.duckdb"
        child = in_child(lambda path=path: ThreadStore(path))
        time.sleep(draw.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        how_it_ended(child)
        with ThreadStore(path):
            pass
        assert kept(path) == set()


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path, told = tmp_path / "threads.duckdb", tmp_path / "told"
    draw = random.Random(6)
    known: set[str] = set()
    for turn in range(8):

        def work(turn: int = turn) -> None:
            with ThreadStore(path) as store, told.open("a", encoding="utf-8", buffering=1) as file:
                for first in range(turn * 10_000, turn * 10_000 + 6_000, 6):
                    steps(store, first, lambda number: file.write(f"m{number}\n"))

        child = in_child(work)
        deadline, before = time.monotonic() + 20, told.stat().st_size if told.exists() else 0
        while time.monotonic() < deadline and (not told.exists() or told.stat().st_size == before):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        assert how_it_ended(child) == -signal.SIGKILL
        found = kept(path)
        assert known <= found and set(told.read_text(encoding="utf-8").split()) <= found
        assert found - known, "nothing was added before the kill"
        known = found
