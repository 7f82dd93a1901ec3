"""Chroma, inside this process or as a server of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.vector_store import (
    Found,
    IndexedThread,
    VectorStore,
    Where,
    bytes_below,
    driver,
    not_reached,
)

_DIMENSION = "dimension"
_STARTING = 120.0  # seconds a server may take to answer
_START = "from chromadb.cli.cli import app; app()"


class ChromaStore(VectorStore):
    """A collection of a Chroma client; Chroma's own HNSW settings, cosine distance.

    Args:
        client: as chromadb makes it.
        folder: where it keeps its files, if that is on this machine.
    """

    def __init__(self, name: str, client: Any, collection: str, folder: Path | None = None) -> None:
        super().__init__(name)
        self._client = client
        self._name = collection
        self._folder = folder
        known = {one.name for one in client.list_collections()}
        self._collection: Any = client.get_collection(collection, embedding_function=None) if collection in known else None

    @property
    def dimension(self) -> int | None:
        return None if self._collection is None else int(self._collection.metadata[_DIMENSION])

    def count(self) -> int:
        return 0 if self._collection is None else int(self._collection.count())

    def close(self) -> None:
        self._collection = None
        self._client.close()

    def size(self) -> int | None:
        return None if self._folder is None else bytes_below(self._folder)

    def _create(self, dimension: int) -> None:
        if self._collection is not None:
            self._client.delete_collection(self._name)
        self._collection = self._client.create_collection(
            self._name,
            embedding_function=None,
            metadata={_DIMENSION: dimension},
            configuration={"hnsw": {"space": "cosine"}},
        )

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        held = list({thread.id: place for place, thread in enumerate(threads)}.values())
        rows = [threads[place] for place in held]
        self._collection.upsert(
            ids=[row.id for row in rows],
            embeddings=vectors[held],
            documents=[row.text for row in rows],
            metadatas=[_metadata(row) for row in rows],
        )

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        found = self._collection.query(
            query_embeddings=vector[None, :], n_results=top, where=_filter(where), include=["distances"]
        )
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return [Found(str(name), 1.0 - float(distance)) for name, distance in pairs]


class ServedChromaStore(ChromaStore):
    """A Chroma server that this process has started, and stops when the store is closed."""

    def __init__(self, name: str, client: Any, collection: str, folder: Path, server: subprocess.Popen[bytes]) -> None:
        super().__init__(name, client, collection, folder)
        self._server = server

    @property
    def running(self) -> bool:
        return self._server.poll() is None

    def close(self) -> None:
        super().close()
        _stop(self._server)


def open_chroma(folder: Path, collection: str, _: str) -> VectorStore:
    """Chroma inside this process."""
    chromadb = driver("chromadb", "chroma")
    folder.mkdir(parents=True, exist_ok=True)
    client = chromadb.PersistentClient(path=str(folder), settings=_settings(chromadb))
    return ChromaStore("chroma", client, collection, folder)


def open_chroma_server(folder: Path, collection: str, url: str) -> VectorStore:
    """A Chroma server: the one at ``url``, else one started from the package on a free port of this machine.

    Raises:
        InputError: it does not answer.
    """
    chromadb = driver("chromadb", "chroma_server")
    if url:
        return ChromaStore("chroma_server", _connect(chromadb, url), collection)
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    arguments = ["run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (folder.parent / "chroma_server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", _START, *arguments], stdout=log, stderr=log, cwd=folder)  # noqa: S603
    try:
        client = _wait(chromadb, f"http://127.0.0.1:{port}", server)
        return ServedChromaStore("chroma_server", client, collection, folder, server)
    except BaseException:
        _stop(server)
        raise


def _settings(chromadb: Any) -> Any:
    return chromadb.config.Settings(anonymized_telemetry=False)


def _connect(chromadb: Any, url: str) -> Any:
    parts = urlsplit(url)
    ssl = parts.scheme == "https"
    try:
        return chromadb.HttpClient(
            host=parts.hostname or "", port=parts.port or (443 if ssl else 80), ssl=ssl, settings=_settings(chromadb)
        )
    except Exception as error:  # chromadb wraps whatever went wrong in ValueError or its own classes
        raise not_reached("chroma_server", url, error) from error


def _wait(chromadb: Any, url: str, server: subprocess.Popen[bytes]) -> Any:
    end = time.monotonic() + _STARTING
    while True:
        try:
            return _connect(chromadb, url)
        except InputError:
            if server.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.2)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _metadata(thread: IndexedThread) -> dict[str, str | int | float]:
    known: dict[str, str | int | float] = {"channel": thread.channel, "participants": thread.participants}
    return known if thread.time is None else {**known, "time": float(thread.time)}


def _filter(where: Where) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = []
    if where.channel is not None:
        parts.append({"channel": {"$eq": where.channel}})
    if where.since is not None:
        parts.append({"time": {"$gte": float(where.since)}})
    if where.until is not None:
        parts.append({"time": {"$lt": float(where.until)}})
    if where.participants:
        parts.append({"participants": {"$gte": where.participants}})
    return {"$and": parts} if len(parts) > 1 else (parts[0] if parts else None)
