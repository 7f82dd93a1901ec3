"""How much embedding the shared index and the cache save over a new pool for each query, and search at full size; JSON.

    python -m thread_embed_assets_tests.performance.embedding_work data/benchmark/tasks/irc_disentangle.duckdb
    python -m thread_embed_assets_tests.performance.embedding_work data/benchmark/tasks/*.duckdb --measure 200
    python -m thread_embed_assets_tests.performance.embedding_work --search

Counts are of texts and characters that one model has to embed for all tasks of each file, dev and test, in the plain format:
once through ``EmbeddingCache``, whose own count is taken, and once with a pool of 100 documents (the relevant ones, and
others drawn from the index) embedded anew for each query. With ``--measure N`` both are also run and timed on N queries of
each task and the same share of its documents, with an encoder far faster than any model; the fewer queries, the less their
pools overlap, and the less is saved. ``--search`` scores 10,000 queries on 50,000 documents of random unit vectors in a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from thread_embed_assets_tests.performance.throughput import cpu_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thread_embed_assets.benchmark.embeddings import Role
    from thread_embed_assets.benchmark.tasks import Task

AIM = 20.0
POOL = 100
DOCUMENTS, QUERIES, SIZE = 50_000, 10_000, 384

_FORMAT = "plain"
_SEED = 3
_HIDDEN = 128


@dataclass
class Work:
    """What went through a model."""

    texts: int = 0
    characters: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.texts + other.texts, self.characters + other.characters)


class CountingEncoder:
    """Counts what it embeds. A text costs a small matrix product for every eighth byte, so time grows with its length."""

    fingerprint = "counting"

    def __init__(self, size: int) -> None:
        draw = np.random.default_rng(_SEED)
        self.done = Work()
        self._bytes = draw.standard_normal((256, _HIDDEN), dtype=np.float32)
        self._layer = draw.standard_normal((_HIDDEN, size), dtype=np.float32)

    def role_key(self, role: Role) -> str:
        return ""

    def encode(self, texts: Sequence[str], role: Role) -> NDArray[np.float32]:
        self.done += Work(len(texts), sum(map(len, texts)))
        vectors = [np.tanh(self._bytes[np.frombuffer(text.encode(), np.uint8)[::8]] @ self._layer) for text in texts]
        return np.stack([of_text.sum(axis=0) for of_text in vectors])


@dataclass(frozen=True)
class Slice:
    """Queries of a task and their index; ``pools`` holds the places of 100 documents for each query."""

    queries: list[str]
    documents: list[str]
    pools: list[list[int]]


def slice_of(task: Task, most_queries: int | None = None) -> Slice:
    """The task, or as many of its queries as asked for with the same share of its documents."""
    queries, documents = task.query_texts(_FORMAT), task.document_texts(_FORMAT)
    draw = Random(f"{_SEED}/{task.name}/{task.split}")
    count = len(queries) if most_queries is None else min(most_queries, len(queries))
    chosen = sorted(draw.sample(range(len(queries)), count))
    place = {name: number for number, name in enumerate(task.document_ids)}
    relevant = [[place[name] for name in task.relevant[task.query_ids[number]]] for number in chosen]
    kept = {number for numbers in relevant for number in numbers}
    wanted = max(len(kept), round(len(documents) * count / len(queries)))
    others = [number for number in range(len(documents)) if number not in kept]
    kept.update(draw.sample(others, wanted - len(kept)))
    index = {number: new for new, number in enumerate(sorted(kept))}
    pools = [_pool([index[number] for number in numbers], len(index), draw) for numbers in relevant]
    return Slice([queries[number] for number in chosen], [documents[number] for number in index], pools)


def _pool(relevant: list[int], documents: int, draw: Random) -> list[int]:
    drawn = draw.sample(range(documents), min(POOL, documents))
    return list(dict.fromkeys([*relevant, *drawn]))[: min(POOL, documents)]


def shared(slices: Sequence[Slice], size: int = 2) -> Work:
    """Embed and search all of a file as the benchmark does."""
    from thread_embed_assets.benchmark.embeddings import EmbeddingCache
    from thread_embed_assets.benchmark.retrievers import Dense, search

    encoder = CountingEncoder(size)
    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder))
        for part in slices:
            vectors = cache.embed(encoder, part.queries, "query"), cache.embed(encoder, part.documents, "document")
            search(Dense(*vectors), _ids(len(part.queries)), _ids(len(part.documents)))
        assert cache.embedded == encoder.done.texts
    return encoder.done


def pool_by_pool(slices: Sequence[Slice], size: int = 2) -> Work:
    """Embed each query and its pool anew, and rank the pool."""
    encoder = CountingEncoder(size)
    for part in slices:
        for query, pool in zip(part.queries, part.pools, strict=True):
            vectors = encoder.encode([part.documents[number] for number in pool], "document")
            (-(vectors @ encoder.encode([query], "query")[0])).argsort()
    return encoder.done


def counted_pools(slices: Sequence[Slice]) -> Work:
    """The work of :func:`pool_by_pool`, without doing it."""
    done = Work()
    for part in slices:
        lengths = np.array([len(text) for text in part.documents])
        done += Work(len(part.queries), sum(map(len, part.queries)))
        for pool in part.pools:
            done += Work(len(pool), int(lengths[pool].sum()))
    return done


def _ids(count: int) -> list[str]:
    return [f"{number:08}" for number in range(count)]


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Texts and characters to embed for all tasks of each file, and of all files together."""
    found: dict[str, Any] = {}
    ours, theirs = Work(), Work()
    for name, slices in _files(paths):
        once, pools = shared(slices), counted_pools(slices)
        found[name] = _compared(slices, once, pools)
        ours, theirs = ours + once, theirs + pools
    total = _factors(ours, theirs)
    return {"files": found, "total": total, "aim": AIM, "reached": min(total["times_less"].values()) >= AIM}


def measure(paths: Sequence[Path], most_queries: int) -> dict[str, Any]:
    """Both ways run and timed on a slice of each file."""
    found = {}
    for name, slices in _files(paths, most_queries):
        start = time.perf_counter()
        once = shared(slices, SIZE)
        middle = time.perf_counter()
        pools = pool_by_pool(slices, SIZE)
        seconds = {"shared": middle - start, "pool_by_pool": time.perf_counter() - middle}
        assert pools == counted_pools(slices)
        found[name] = {
            **_compared(slices, once, pools),
            "seconds": {way: round(value, 3) for way, value in seconds.items()},
            "times_faster": round(seconds["pool_by_pool"] / seconds["shared"], 1),
        }
    return found


def _files(paths: Sequence[Path], most_queries: int | None = None) -> Iterator[tuple[str, list[Slice]]]:
    from thread_embed_assets.benchmark.tasks import load_tasks

    for path in paths:
        yield path.stem, [slice_of(task, most_queries) for task in load_tasks(path)]


def _compared(slices: Sequence[Slice], once: Work, pools: Work) -> dict[str, Any]:
    sizes = {"queries": sum(len(part.queries) for part in slices), "documents": sum(len(part.documents) for part in slices)}
    return {"tasks": len(slices), **sizes, **_factors(once, pools)}


def _factors(once: Work, pools: Work) -> dict[str, Any]:
    return {
        "shared": vars(once),
        "pool_by_pool": vars(pools),
        "times_less": {
            "texts": round(pools.texts / once.texts, 1),
            "characters": round(pools.characters / once.characters, 1),
        },
    }


def search_at_size(documents: int = DOCUMENTS, queries: int = QUERIES, size: int = SIZE) -> dict[str, Any]:
    """Exact search of random unit vectors in this process: seconds, and its largest resident set so far in MiB."""
    from thread_embed_assets.benchmark.embeddings import unit
    from thread_embed_assets.benchmark.retrievers import DEPTH, Dense, search

    draw = np.random.default_rng(_SEED)
    of_queries, of_documents = (unit(draw.standard_normal((n, size), dtype=np.float32)) for n in (queries, documents))
    before = _peak_mib()
    start, cpu = time.perf_counter(), time.process_time()
    run = search(Dense(of_queries, of_documents), _ids(queries), _ids(documents))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    assert len(run) == queries
    assert all(len(ranked) == min(DEPTH, documents) for ranked in run.values())
    return {
        "documents": documents,
        "queries": queries,
        "size": size,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "queries_per_second": round(queries / seconds),
        "peak_mib": {"vectors": before, "searched": _peak_mib()},
        "all_scores_would_be_mib": round(queries * documents * 4 / 2**20),
    }


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _search_in_a_process(documents: int, queries: int) -> dict[str, Any]:
    sizes = ["--documents", str(documents), "--queries", str(queries)]
    command = [sys.executable, "-m", __spec__.name, "--search-here", *sizes]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", type=Path, help="tasks files, one a source")
    parser.add_argument("--measure", type=int, metavar="N", help="also run and time both ways on N queries of each task")
    parser.add_argument("--search", action="store_true", help="also time exact search at full size, in its own process")
    parser.add_argument("--search-here", action="store_true", help="only that, in this process")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="with --search: the index")
    parser.add_argument("--queries", type=int, default=QUERIES, help="with --search: the queries")
    given = parser.parse_args(arguments)
    if given.search_here:
        print(json.dumps(search_at_size(given.documents, given.queries)))
        return
    if not given.tasks and not given.search:
        parser.error("give tasks files, --search, or both")
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), "numpy": version("numpy")},
        "pool": POOL,
    }
    if given.tasks:
        report["work"] = compare(given.tasks)
    if given.tasks and given.measure:
        report["measured"] = measure(given.tasks, given.measure)
    if given.search:
        report["search"] = _search_in_a_process(given.documents, given.queries)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
