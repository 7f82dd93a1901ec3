"""How fast the thread store answers and keeps a message when it is large; prints JSON.

    python -m thread_embed_assets_tests.performance.thread_store --messages 100000

One channel of that many messages, in threads of 12 on average that interleave, each thread with a vector, is loaded into a
store in a folder of its own. Then messages after the last are asked for and kept, one at a time, in this process, on one
core, after a warm-up. Texts are of words of the sample workspace, and a tenth of them name something; names are drawn. The
time of a vector of the message itself is not in it. ``cpu_ms`` leaves out what other processes took.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import Floats
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.reranker.store_file import SIZE
from thread_embed_assets_tests.performance.scale import Drawn
from thread_embed_assets_tests.performance.throughput import cpu_name

AIM_MS = 50.0
CHANNEL = "general"

_SEED = 6
_MEAN_THREAD = 12
_OPEN = 30  # threads that go on side by side
_PEOPLE = 40
_NAMES = 3_000
_STEP = 90.0  # seconds from one message to the next
_WARM_UP = 5


def drawn_messages(count: int) -> Iterator[tuple[int, Message]]:
    """Threads by their number, and their messages in the order of time."""
    draw = np.random.default_rng(_SEED)
    texts = Drawn(11.0).texts(count)
    going = list(range(_OPEN))
    started = _OPEN
    for place, text in enumerate(texts):
        at = int(draw.integers(_OPEN))
        if draw.random() < 1 / _MEAN_THREAD:
            going[at], started = started, started + 1
        if draw.random() < 0.1:
            text += f" Norvik{draw.zipf(1.3) % _NAMES}"
        author = f"p_{int(draw.integers(_PEOPLE)):010x}"
        yield going[at], Message(f"m{place}", author, text, place * _STEP)


def filled(store: ThreadStore, messages: Sequence[tuple[int, Message]]) -> dict[str, Any]:
    threads: dict[int, list[Message]] = {}
    for number, message in messages:
        threads.setdefault(number, []).append(message)
    start = time.perf_counter()
    store.load((CHANNEL, said) for said in threads.values())
    seconds = time.perf_counter() - start
    draw = np.random.default_rng(_SEED)
    start = time.perf_counter()
    store.set_vectors({thread: vector(draw) for thread in store.without_vector(len(threads))})
    return {
        "threads": len(threads),
        "load_seconds": round(seconds, 2),
        "vectors_seconds": round(time.perf_counter() - start, 2),
    }


def vector(draw: np.random.Generator) -> Floats:
    return draw.standard_normal(SIZE, dtype=np.float32)


def timed(steps: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of a step, by the clock and of this process alone."""
    clock, own = [], []
    for step in steps:
        start, used = time.perf_counter(), time.process_time()
        step()
        clock.append(1e3 * (time.perf_counter() - start))
        own.append(1e3 * (time.process_time() - used))
    p50, p95 = np.percentile(clock[_WARM_UP:], [50, 95])
    return {
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "cpu_p50_ms": round(float(np.median(own[_WARM_UP:])), 1),
    }


def measure(messages: int, asked: int) -> dict[str, Any]:
    kept = list(drawn_messages(messages + asked))
    draw = np.random.default_rng(_SEED)
    with tempfile.TemporaryDirectory() as folder, ThreadStore(Path(folder) / "threads.duckdb") as store:
        found = filled(store, kept[:messages])
        new = [message for _, message in kept[messages:]]
        found["retrieve"] = timed([lambda m=m: store.retrieve(m, CHANNEL, vector(draw)) for m in new])
        found["retrieve_without_vector"] = timed([lambda m=m: store.retrieve(m, CHANNEL) for m in new])
        found["add"] = timed([lambda m=m: store.add(m, CHANNEL) for m in new])
        start = time.perf_counter()
        store.close()
        found["close_seconds"] = round(time.perf_counter() - start, 2)
        found["file_mib"] = round((Path(folder) / "threads.duckdb").stat().st_size / 2**20, 1)
    found["reached"] = {name: found["retrieve"][name] < AIM_MS for name in ("p50_ms", "cpu_p50_ms")}
    return found


def report(messages: int, asked: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "load": round(load, 1), "system": platform.platform()},
        "versions": {name: version(name) for name in ("duckdb", "numpy")},
        "messages": messages,
        "asked": asked,
        "aim_ms": AIM_MS,
        **measure(messages, asked),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--asked", type=int, default=100, help="messages that are asked for")
    given = parser.parse_args(arguments)
    print(json.dumps(report(given.messages, given.asked)))


if __name__ == "__main__":
    main()
