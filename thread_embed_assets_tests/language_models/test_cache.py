from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.cache import AnswerCache, key_of
from thread_embed_assets.language_models.writers import Result, Task, Written, read_task

TASK = read_task("summarise")
WRITTEN = Written(title="t", summary="ein Satz – one line", questions=("a", "b"))


def test_what_is_put_is_there_in_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.sqlite"
    results = [Result("a" * 64, WRITTEN, None, 7, 8), Result("b" * 64, None, "refused", 9, 0)]
    cache = AnswerCache(path)
    assert cache.get("a" * 64) is None
    for result in results:
        cache.put(result, "w", TASK)
    again = AnswerCache(path)  # without closing the first, as after a kill
    assert [again.get(result.key) for result in results] == results
    again.put(Result("b" * 64, WRITTEN), "w", TASK)
    assert cache.get("b" * 64) == Result("b" * 64, WRITTEN), "the last one counts"


def test_the_key_tells_writers_tasks_and_texts_apart() -> None:
    keys = [
        key_of("w", TASK, "text"),
        key_of("w", TASK, "text "),
        key_of("v", TASK, "text"),
        key_of("w", Task(TASK.name, "other words"), "text"),
    ]
    assert len(set(keys)) == 4
    assert all(len(key) == 64 and key.isalnum() for key in keys)
    assert key_of("w", TASK, "text") == keys[0]


def test_batches_are_known_until_they_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    AnswerCache(path).remember_batch("one", "scope", 3)
    cache = AnswerCache(path)
    cache.remember_batch("two", "scope", 3)
    cache.remember_batch("three", "another", 3)
    assert cache.batches("scope") == ["one", "two"]
    cache.forget_batch("one")
    assert AnswerCache(path).batches("scope") == ["two"]


def _put_many(path: Path, letter: str) -> None:
    cache = AnswerCache(path)
    for n in range(30):
        cache.put(Result(f"{letter}{n}", WRITTEN), "w", TASK)


def test_two_processes_write_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_put_many, args=(path, "a"))
    other.start()
    _put_many(path, "b")
    other.join()
    assert other.exitcode == 0
    cache = AnswerCache(path)
    assert all(cache.get(f"{letter}{n}") is not None for letter in "ab" for n in range(30))


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=r"answers.sqlite.*cannot be read"):
        AnswerCache(path)
    path.unlink()
    cache = AnswerCache(path)
    cache.put(Result("a", WRITTEN), "w", TASK)
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE answers SET answer = '{"title": 1}'""")
    with pytest.raises(InputError, match="the answer a is none"):
        cache.get("a")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET answer = NULL, fault = 'bored'")
    with pytest.raises(InputError, match="unknown fault 'bored'"):
        cache.get("a")
