"""What every store must do: each test file asks it of its ``store`` in a class derived from :class:`EveryStore`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.embeddings import Vectors, unit
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import open_store
from thread_embed_assets.release.stores.vector_store import EVERYTHING, IndexedThread, VectorStore, Where

DIMENSION = 16
SPRING = 1_000_000_000.0
FILTERS = [
    Where(channel="room 1"),
    Where(since=SPRING + 100),
    Where(until=SPRING + 100),
    Where(since=SPRING + 100, until=SPRING + 300),
    Where(participants=3),
    Where('it\'s "quoted"', SPRING + 50, SPRING + 450, 2),
    Where(channel="nowhere"),
]
_REOPEN = """
import sys, numpy as np
from pathlib import Path
from thread_embed_assets.release.stores.choose import open_store
with open_store(sys.argv[1], Path(sys.argv[2])) as store:
    found = store.query(np.array(eval(sys.argv[3]), dtype=np.float32), 3)
    print(store.dimension, store.count(), *(one.id for one in found))
"""


def vectors(count: int, seed: int = 1) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def threads(count: int = 500) -> list[IndexedThread]:
    """Every seventh has no time."""
    rooms = ("room 0", "room 1", 'it\'s "quoted"')
    return [
        IndexedThread(f"slack/{n} ü", vector, f"text {n}\n", rooms[n % 3], None if n % 7 == 0 else SPRING + n, n % 5)
        for n, vector in enumerate(vectors(count))
    ]


def nearest(known: list[IndexedThread], query: Vectors, where: Where = EVERYTHING, top: int = 10) -> list[tuple[str, float]]:
    admitted = [thread for thread in known if where.admits(thread)]
    scores = [float(unit(thread.vector[None])[0] @ unit(query[None])[0]) for thread in admitted]
    return sorted(((t.id, s) for t, s in zip(admitted, scores, strict=True)), key=lambda pair: -pair[1])[:top]


class EveryStore:
    def test_it_finds_what_exact_search_finds(self, store: VectorStore) -> None:
        known = threads()
        store.replace(known, DIMENSION)
        assert (store.dimension, store.count()) == (DIMENSION, len(known))
        for query in vectors(5, seed=2):
            for where in [EVERYTHING, *FILTERS]:
                found = store.query(query, 10, where)
                expected = nearest(known, query, where)
                assert [one.id for one in found] == [name for name, _ in expected], where
                np.testing.assert_allclose([one.score for one in found], [score for _, score in expected], atol=1e-5)

    def test_it_builds_anew_and_adds(self, store: VectorStore) -> None:
        known = threads(30)
        store.replace(known, DIMENSION)
        store.replace(known[:20], DIMENSION)
        assert store.count() == 20, "what was there is gone"
        moved = IndexedThread(known[0].id, known[25].vector, "another text", "elsewhere", SPRING, 9)
        store.add([known[21], moved, known[21]])
        assert store.count() == 21, "an id is stored once"
        assert [one.id for one in store.query(known[25].vector, 5, Where(channel="elsewhere", participants=9))] == [moved.id]
        assert len(store.query(known[0].vector, 100)) == 21, "no more than there are"
        narrow = [IndexedThread("narrow", np.ones(4, dtype=np.float32), "text", "room", None, 1)]
        store.replace(narrow, 4)
        assert (store.dimension, store.count()) == (4, 1), "another model may have another dimension"

    def test_it_refuses_what_does_not_fit(self, store: VectorStore) -> None:
        with pytest.raises(InputError, match="nothing has been built yet"):
            store.query(vectors(1)[0])
        assert (store.dimension, store.count()) == (None, 0)
        known = threads(5)
        store.replace(known, DIMENSION)
        with pytest.raises(InputError, match=r"the query: a vector has the shape \[8\], and the store holds 16 dimensions"):
            store.query(np.ones(8, dtype=np.float32))
        for wrong, said in [
            (np.ones(8), r"shape \[8\]"),
            (np.zeros(DIMENSION), "zero"),
            (np.full(DIMENSION, np.nan), "finite"),
        ]:
            with pytest.raises(InputError, match=said):
                store.add([IndexedThread("wrong", wrong.astype(np.float32), "text", "room", None, 1)])
        assert store.count() == 5


class AllOrNothingStore(EveryStore):
    """Of stores whose ``replace`` is one transaction."""

    def test_a_build_that_fails_leaves_the_old_one(self, store: VectorStore) -> None:
        known = threads(20)
        store.replace(known, DIMENSION)

        def broken() -> Iterator[IndexedThread]:
            yield from known[:5]
            raise RuntimeError("the source is gone")

        with pytest.raises(RuntimeError, match="the source is gone"):
            store.replace(broken(), DIMENSION)
        assert store.count() == 20


def keeps_its_data(name: str, folder: Path) -> None:
    """Built here, read in a process of its own."""
    known = threads(50)
    with open_store(name, folder) as store:
        store.replace(known, DIMENSION)
    query = vectors(1, seed=3)[0]
    arguments = [sys.executable, "-c", _REOPEN, name, str(folder), str(query.tolist())]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = " ".join(found for found, _ in nearest(known, query, top=3))
    assert done.stdout.strip() == f"{DIMENSION} 50 {names}"
