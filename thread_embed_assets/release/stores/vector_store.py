"""What every vector store can do: hold threads with what is known of them, and find those nearest to a vector."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from thread_embed_assets.benchmark.embeddings import Vectors, unit
from thread_embed_assets.errors import InputError

COLLECTION = "thread_embed"  # servers hold other people's tables, too
BATCH = 500  # threads written at once


@dataclass(frozen=True)
class IndexedThread:
    """A thread as a store holds it.

    Attributes:
        id: unique in the store.
        vector: float32 [dimension]; stores compare by cosine, so its length is of no matter, unless it is zero.
        time: when it began, seconds since 1970-01-01 UTC; None where the source has no times.
        participants: how many people wrote in it.
    """

    id: str
    vector: Vectors
    text: str
    channel: str
    time: float | None
    participants: int


@dataclass(frozen=True)
class Where:
    """Which threads may be found; what is not said does not matter. A thread without a time lies in no range.

    Attributes:
        since: the first second that counts.
        until: the first second that no longer counts.
        participants: at least so many people.
    """

    channel: str | None = None
    since: float | None = None
    until: float | None = None
    participants: int = 0

    def admits(self, thread: IndexedThread) -> bool:
        """What the stores' own filters must agree with."""
        ranged = self.since is not None or self.until is not None
        if ranged and thread.time is None:
            return False
        return (
            (self.channel is None or thread.channel == self.channel)
            and (self.since is None or thread.time is None or thread.time >= self.since)
            and (self.until is None or thread.time is None or thread.time < self.until)
            and thread.participants >= self.participants
        )


EVERYTHING = Where()


@dataclass(frozen=True)
class Found:
    """A thread's id and its cosine similarity to the query."""

    id: str
    score: float


class VectorStore(ABC):
    """Threads in one store; what is written stays when it is closed and opened again.

    Args:
        name: for error messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def dimension(self) -> int | None:
        """Of the vectors that are stored; None before the first :meth:`replace`."""

    @abstractmethod
    def count(self) -> int:
        """How many threads are stored."""

    @abstractmethod
    def close(self) -> None:
        """Write what is not yet written, and let go of files, connections and servers."""

    def size(self) -> int | None:
        """Bytes on disk; None where the store is on another machine."""
        return None

    def replace(self, threads: Iterable[IndexedThread], dimension: int) -> None:
        """Leave nothing in the store but these threads.

        Raises:
            InputError: a vector has another dimension, or is zero or not finite.
        """
        self._create(dimension)
        self.add(threads)

    def add(self, threads: Iterable[IndexedThread]) -> None:
        """Add threads; one whose id is stored takes its place.

        Raises:
            InputError: nothing has been built yet, or a vector has another dimension, or is zero or not finite.
        """
        for part in _batches(threads):
            self._write(part, self._vectors([thread.vector for thread in part], part[0].id))

    def query(self, vector: Vectors, top: int = 10, where: Where = EVERYTHING) -> list[Found]:
        """The threads nearest to the vector [dimension] among those that ``where`` admits, best first, ``top`` at most.

        Raises:
            InputError: nothing has been built yet, or the vector has another dimension, or is zero or not finite.
        """
        return self._query(self._vectors([vector], "the query")[0], top, where)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def _create(self, dimension: int) -> None: ...

    @abstractmethod
    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None: ...

    @abstractmethod
    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]: ...

    def _vectors(self, vectors: Sequence[Vectors], what: str) -> Vectors:
        """Unit vectors [n, dimension]."""
        dimension = self.dimension  # servers are asked for it
        if dimension is None:
            raise InputError(f"store {self.name}", "nothing has been built yet", "Build it with replace() first")
        for vector in vectors:
            if vector.shape != (dimension,):
                problem = f"a vector has the shape {list(vector.shape)}, and the store holds {dimension} dimensions"
                remedy = "Query it with the model that it was built with, or build it anew with replace()"
                raise InputError(f"store {self.name}, {what}", problem, remedy)
        stacked = np.stack(vectors).astype(np.float32)
        if not np.isfinite(stacked).all() or not stacked.any(axis=1).all():
            problem = "a vector is zero or not finite, so it has no direction"
            raise InputError(f"store {self.name}, {what}", problem, "Embed the text again, and check the model")
        return unit(stacked)


def _batches(threads: Iterable[IndexedThread]) -> Iterator[list[IndexedThread]]:
    part: list[IndexedThread] = []
    for thread in threads:
        part.append(thread)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


def driver(module: str, store: str) -> Any:
    """The package of a store.

    Raises:
        InputError: it is not installed.
    """
    try:
        loaded: ModuleType = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        remedy = 'Install the stores: pip install --constraint constraints.txt "thread-embed-assets[stores]"'
        raise InputError(f"store {store}", f"the package {error.name} is not installed", remedy) from error
    return loaded


def not_reached(store: str, url: str, error: Exception, key: str | None = None) -> InputError:
    """A server that does not answer; raise it ``from None`` where there is a key, which the server may repeat."""
    told = str(error).replace(key, "***") if key else str(error)
    said = (told.splitlines() or [type(error).__name__])[0][:200]
    return InputError(f"store {store}", f"the server at {url} cannot be used ({said})", "Start it, or name another")


def key_refused(store: str, url: str, variable: str) -> InputError:
    """A server that wants another API key than the one in ``variable``, or one at all."""
    return InputError(f"store {store}", f"the server at {url} refuses the API key", f"Set {variable} to one that it takes")


def made_elsewhere(store: str, collection: str) -> InputError:
    """A collection of this name that is not ours to read."""
    remedy = "Choose another name, or build it anew with replace(), which deletes what is there"
    return InputError(f"store {store}", f"the collection {collection} was not made here", remedy)


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
