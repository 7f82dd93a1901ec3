"""One function over a stream of items on all cores, its results in the order of the items.

Workers are fresh processes (spawn): a fork would copy the threads' locks of DuckDB and torch in whatever state they are.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

import pyarrow as pa

from thread_embed_assets.errors import InputError

WORKERS_VARIABLE = "THREAD_EMBED_WORKERS"

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count() -> int:
    """How many worker processes a step may have: ``THREAD_EMBED_WORKERS``, else the cores that this process may run on.

    Raises:
        InputError: the variable is not a whole number above 0.
    """
    named = os.environ.get(WORKERS_VARIABLE, "").strip()
    if not named:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not named.isdecimal() or int(named) < 1:
        raise InputError(
            WORKERS_VARIABLE, f"{named!r} is not a whole number above 0", "Set it to the cores to use, or unset it"
        )
    return int(named)


def ordered_map(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    inline: int = 0,
    in_flight: int | None = None,
) -> Iterator[Result]:
    """``map(work, items)`` in worker processes.

    Args:
        work: a module's function, or an object with ``__call__`` that pickles; each worker gets one copy, at its start, and
            what the copy remembers stays in the worker.
        items: read in this process, by the thread that asks for results.
        workers: how many processes; None means :func:`worker_count`, and 1 means that all is done in this process.
        inline: this many first items are done in this process, and the workers start only if there are more: a small source
            does not wait for processes to start.
        in_flight: how many items are read ahead of the result that is asked for; None means four for each worker.

    Raises:
        InputError: a worker was killed from outside. What ``work`` or ``items`` raises comes through as it is; no worker
            outlives this generator, nor this process, however it ends.
    """
    count = worker_count() if workers is None else workers
    left = iter(items)
    yield from map(work, left if count == 1 else islice(left, inline))
    first = list(islice(left, 1))
    if not first:
        return
    most = in_flight or 4 * count
    waiting: deque[Future[Result]] = deque()
    with _pool(work, count) as pool:
        for item in chain(first, left):
            waiting.append(pool.submit(_do, item))
            while len(waiting) >= most or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _pool(work: Callable[[Any], Any], count: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(count, mp_context=_Context(), initializer=_start, initargs=(work,))
    try:
        yield pool
    except BrokenProcessPool as error:
        problem = "a worker process ended in the middle of its work, most often because memory ran out"
        remedy = f"Free memory, or set {WORKERS_VARIABLE}=1 to work in one process, and run again"
        raise InputError("worker process", problem, remedy) from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: Callable[[Any], Any]


def _start(work: Callable[[Any], Any]) -> None:
    """Set a worker up. Ctrl-C reaches every process of the terminal; it is the parent's to act on.

    Items come and go by thousands of objects without cycles: looking for cycles among them took a tenth of the time.
    """
    global _work
    gc.freeze()
    gc.set_threshold(100_000)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _work = work


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)  # an idle worker waits for ever: it holds both ends of the queue of items


def _do(item: Any) -> Any:
    return _work(item)


class _Worker(SpawnProcess):
    """A process that does not run the parent's main script again, which may be the whole of Dagster, or unguarded."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:  # noqa: N802
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Worker


def pack(batch: pa.RecordBatch) -> bytes:
    """The batch's own rows, to be sent to another process; pickled, a slice takes along all that it was cut from."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: bytes) -> pa.RecordBatch:
    """What :func:`pack` was given."""
    return pa.ipc.open_stream(packed).read_next_batch()
