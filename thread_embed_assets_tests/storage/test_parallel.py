from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import process_lives
from thread_embed_assets.storage.parallel import WORKERS_VARIABLE, ordered_map, pack, unpack, worker_count

from . import work


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_results_keep_the_order_and_few_items_are_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = ordered_map(work.square, items(), workers=2, in_flight=5)
    for done, result in enumerate(results, start=1):
        assert result == (done - 1) ** 2
        assert len(read) <= done + 5
    assert read == list(range(100))


def test_the_first_are_done_here_and_a_small_source_starts_no_worker() -> None:
    here = os.getpid()
    assert list(ordered_map(work.process, range(5), workers=2, inline=5)) == [here] * 5
    assert list(ordered_map(work.process, range(5), workers=1)) == [here] * 5
    assert list(ordered_map(work.process, [], workers=2)) == []
    found = list(ordered_map(work.process, range(25), workers=2, inline=5))
    assert found[:5] == [here] * 5
    assert here not in found[5:]


def test_each_worker_has_one_copy_of_the_work_and_it_remembers() -> None:
    mine = work.Counting(100)
    found = list(ordered_map(mine, range(30), workers=2, inline=3))
    assert [count for _, count in found[:3]] == [101, 102, 103]
    calls: dict[int, list[int]] = {}
    for process, count in found[3:]:
        calls.setdefault(process, []).append(count)
    assert 1 <= len(calls) <= 2
    assert all(counts == list(range(104, 104 + len(counts))) for counts in calls.values())
    assert mine.calls == 3


def test_what_the_work_raises_comes_through_after_the_results_before_it() -> None:
    done: list[int] = []
    with pytest.raises(InputError) as caught:
        done.extend(ordered_map(work.refuse_seven, range(100), workers=2))
    assert (caught.value.place, caught.value.problem, caught.value.remedy) == ("file:7", "is no good", "Mend line 7")
    results = ordered_map(work.refuse_seven, range(100), workers=2)
    assert list(islice(results, 7)) == list(range(7))
    with pytest.raises(InputError, match="Mend line 7"):
        next(results)


def test_what_the_items_raise_comes_through() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise InputError("file:8", "is cut short", "Fetch it again")

    with pytest.raises(InputError, match="file:8"):
        list(ordered_map(work.square, broken(), workers=2))


def test_a_killed_worker_is_told() -> None:
    with pytest.raises(InputError, match=rf"a worker process ended.*{WORKERS_VARIABLE}=1"):
        list(ordered_map(work.end_at_seven, range(100), workers=2))


def test_workers_end_when_nobody_wants_their_results() -> None:
    results = ordered_map(work.process, iter(int, 1), workers=2)
    workers = {next(results) for _ in range(20)}
    results.close()  # type: ignore[attr-defined]
    assert workers
    assert not any(map(process_lives, workers))


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A process with two workers, which wait for work most of the time, and the workers' numbers."""
    folder = tmp_path / "workers"
    folder.mkdir()
    code = f"from {work.__name__} import work_for_ever; work_for_ever({str(folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert until((folder / "waiting").exists), "the workers did not start"
    yield process, {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_no_worker_outlives_a_killed_parent(endless: tuple[subprocess.Popen[str], set[int]]) -> None:
    process, workers = endless
    assert len(workers) == 2
    assert all(map(process_lives, workers))
    process.kill()
    process.wait()
    assert until(lambda: not any(map(process_lives, workers)), 10)


def test_ctrl_c_ends_all_and_only_the_parent_speaks(endless: tuple[subprocess.Popen[str], set[int]]) -> None:
    process, workers = endless
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert told.count("KeyboardInterrupt") == 1
    assert told.count("Traceback") == 1
    assert not any(map(process_lives, workers))


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    code = (
        "print('run')\n"
        "from thread_embed_assets.storage.parallel import ordered_map\n"
        f"from {work.__name__} import square\n"
        "print(*ordered_map(square, range(4), workers=2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for command, given_code in (([str(script)], None), (["-"], code)):
        done = subprocess.run(
            [sys.executable, *command], input=given_code, capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout == "run\n0 1 4 9\n"


def test_a_step_of_a_process_of_its_own_can_have_workers(tmp_path: Path) -> None:
    """As a Dagster step has one, which is itself spawned."""
    path = tmp_path / "squares"
    process = multiprocessing.get_context("spawn").Process(target=work.squares_in_workers, args=(str(path),))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert path.read_text().split() == [str(n * n) for n in range(20)]


def test_the_number_of_workers_is_that_of_the_cores_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 7})
        assert worker_count() == 3
    monkeypatch.setenv(WORKERS_VARIABLE, "5")
    assert worker_count() == 5
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv(WORKERS_VARIABLE, wrong)
        with pytest.raises(InputError, match=r"THREAD_EMBED_WORKERS.*not a whole number above 0"):
            worker_count()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.lists(st.integers(0, 9)))), st.integers(0, 20), st.integers(0, 20))
def test_a_packed_slice_is_the_slice_and_nothing_more(rows: list[tuple[str, list[int]]], start: int, length: int) -> None:
    schema = pa.schema([("text", pa.string()), ("numbers", pa.list_(pa.int64()))])
    whole = pa.RecordBatch.from_pylist([{"text": text, "numbers": numbers} for text, numbers in rows], schema=schema)
    part = whole.slice(start, length)
    assert unpack(pickle.loads(pickle.dumps(pack(part)))).equals(part)
    large = pa.RecordBatch.from_pydict({"text": ["x" * 100] * 10_000})
    assert len(pack(large.slice(5, 3))) < 2_000
