"""How long a first index of a workspace takes, a second, and a search in it; prints JSON.

    python -m thread_embed_assets_tests.performance.search_index --messages 100000

That many simulated messages in threads of 12 on average, in five channels, are written as conversations; a first index is
made of them with the model that search takes, in one process. Then a hundredth of the threads goes on by a message and the
index is brought up to date, and once more where nothing has changed. Searches are sentences of the same words, after a
warm-up. ``cpu_`` leaves out what other processes took. Peak memory is that of this process, the model included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import Encoder
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.release.current_model import encoder_of, model_for_search
from thread_embed_assets.search.index import index_file
from thread_embed_assets.search.names import Names
from thread_embed_assets.search.rooms import Room
from thread_embed_assets.search.searcher import Searcher
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import NOON, Thread, write_conversations
from thread_embed_assets_tests.performance.scale import Drawn
from thread_embed_assets_tests.performance.throughput import cpu_name

_SEED = 11
_MEAN_THREAD = 12
_PEOPLE = 40
_CHANNELS = 5
_WARM_UP = 3


def drawn_threads(messages: int) -> list[Thread]:
    """Threads of 2 to some 60 messages of 11 words on average, one after the other."""
    draw = np.random.default_rng(_SEED)
    texts = iter(Drawn(11.0).texts(messages))
    threads: list[Thread] = []
    left = messages
    while left:
        size = min(left, 1 + int(draw.geometric(1 / (_MEAN_THREAD - 1))))
        lines = [(f"p_{int(draw.integers(_PEOPLE)):010x}", next(texts)) for _ in range(size)]
        channel = f"channel_{int(draw.integers(_CHANNELS))}"
        threads.append(Thread(f"t{len(threads):07d}", lines, channel=channel, start=NOON + 3_600.0 * len(threads)))
        left -= size
    return threads


def timed(work: Callable[[], object]) -> dict[str, float]:
    start, used = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - start, 4),
        "cpu_seconds": round(time.process_time() - used, 4),
    }


def measure(messages: int, searches: int, encoder: Encoder, text_format: str) -> dict[str, Any]:
    threads = drawn_threads(messages)
    queries = list(Drawn(8.0).texts(searches + _WARM_UP))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = Normalised(*write_conversations(folder / "threads.duckdb", threads))
        room = [Room("simulated", folder / "index", stored, Names())]
        opened: list[Searcher] = []
        encoder.encode(queries[:1], "query")  # loading the model is not indexing
        first = timed(lambda: opened.append(Searcher(lambda: room[0], encoder, text_format)))
        [searcher] = opened
        embedded = searcher.updated.embedded
        grown = [
            replace(thread, lines=[*thread.lines, thread.lines[0]]) if place % 100 == 0 else thread
            for place, thread in enumerate(threads)
        ]
        room[0] = replace(room[0], stored=Normalised(*write_conversations(folder / "grown.duckdb", grown)))
        second = timed(searcher.refresh)
        changed = searcher.updated.embedded
        nothing = timed(searcher.refresh)
        spent = [timed(lambda query=query: searcher.search(query)) for query in queries][_WARM_UP:]  # type: ignore[misc]
        size = index_file(room[0].folder, encoder).stat().st_size
    clock = [1_000 * one["seconds"] for one in spent]
    return {
        "messages": messages,
        "threads": len(threads),
        "first_index": {**first, "threads_embedded": embedded},
        "second_index": {**second, "threads_embedded": changed},
        "unchanged": nothing,
        "search": {
            "p50_ms": round(float(np.median(clock)), 1),
            "p95_ms": round(float(np.percentile(clock, 95)), 1),
            "cpu_p50_ms": round(float(np.median([1_000 * one["cpu_seconds"] for one in spent])), 1),
        },
        "index_mib": round(size / 2**20, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def report(messages: int, searches: int, model: str | None) -> dict[str, Any]:
    folder = model_for_search(Layout.from_environment(), model)
    load = os.getloadavg()[0]
    encoder = encoder_of(folder)
    found = measure(messages, searches, encoder, text_format_of(folder))
    per = found["first_index"]["cpu_seconds"] / messages
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "load": round(load, 1), "system": platform.platform()},
        "versions": {name: version(name) for name in ("duckdb", "numpy", "torch", "sentence-transformers")},
        "model": folder.name,
        "precision": encoder.precision,
        "threads_of_torch": os.environ.get("OMP_NUM_THREADS", "all"),
        **found,
        "first_index_cpu_minutes_per_100000": round(100_000 * per / 60, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=30)
    parser.add_argument("--model", help="a model folder, a released model's name or an id (default: models/thread-embed)")
    given = parser.parse_args(arguments)
    print(json.dumps(report(given.messages, given.searches, given.model)))


if __name__ == "__main__":
    main()
