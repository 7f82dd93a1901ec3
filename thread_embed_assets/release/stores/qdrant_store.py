"""Qdrant: in a folder of this machine by its client alone, or a server by its URL."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.release.stores.vector_store import (
    Found,
    IndexedThread,
    VectorStore,
    Where,
    bytes_below,
    driver,
    key_refused,
    made_elsewhere,
    not_reached,
)

KEY_VARIABLE = "THREAD_EMBED_QDRANT_KEY"
_NAMES = uuid.UUID("6f0ef1f6-3f0c-5d5f-9a53-0f5c8f9a7b11")  # Qdrant takes numbers and UUIDs as ids, and no other names
_INDEXED = {"channel": "keyword", "time": "float", "participants": "integer"}


class QdrantStore(VectorStore):
    """A collection of a Qdrant client; Qdrant's own settings, cosine similarity.

    Args:
        client: as qdrant_client makes it.
        folder: where it keeps its files, if the client itself does.
    """

    def __init__(self, name: str, client: Any, collection: str, folder: Path | None = None) -> None:
        super().__init__(name)
        self._client = client
        self._name = collection
        self._folder = folder
        self._models = driver("qdrant_client.models", name)

    @property
    def dimension(self) -> int | None:
        if not self._client.collection_exists(self._name):
            return None
        vectors = self._client.get_collection(self._name).config.params.vectors
        if not isinstance(vectors, self._models.VectorParams):  # several, by their names
            raise made_elsewhere(self.name, self._name)
        return int(vectors.size)

    def count(self) -> int:
        return 0 if self.dimension is None else int(self._client.count(self._name, exact=True).count)

    def close(self) -> None:
        self._client.close()

    def size(self) -> int | None:
        return None if self._folder is None else bytes_below(self._folder)

    def _create(self, dimension: int) -> None:
        models = self._models
        self._client.delete_collection(self._name)
        params = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        self._client.create_collection(self._name, vectors_config=params)
        if self._folder is None:  # the local mode reads every payload, and warns that it has no use for an index
            for field, kind in _INDEXED.items():
                self._client.create_payload_index(self._name, field, field_schema=kind, wait=True)

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        points = [
            self._models.PointStruct(id=point_id(thread.id), vector=vector.tolist(), payload=payload(thread))
            for thread, vector in zip(threads, vectors, strict=True)
        ]
        self._client.upsert(self._name, points, wait=True)

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        found = self._client.query_points(
            self._name,
            query=vector.tolist(),
            limit=top,
            query_filter=filter_of(self._models, self._models.Range, where),
            with_payload=["id"],
        )
        return [Found(str(point.payload["id"]), float(point.score)) for point in found.points]


def open_qdrant(folder: Path, collection: str, _: str) -> VectorStore:
    """Qdrant's client alone, which compares every vector: for some ten thousand threads."""
    client = driver("qdrant_client", "qdrant").QdrantClient
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is meant for small collections; the docstring says so
        return QdrantStore("qdrant", client(path=str(folder)), collection, folder)


def open_qdrant_server(_: Path, collection: str, url: str) -> VectorStore:
    """A Qdrant server; ``THREAD_EMBED_QDRANT_KEY`` is its API key.

    Raises:
        InputError: it does not answer, or refuses the key.
    """
    key = os.environ.get(KEY_VARIABLE) or None
    client = driver("qdrant_client", "qdrant_server").QdrantClient(url=url, api_key=key)
    try:
        client.get_collections()
    except Exception as error:  # the client wraps whatever went wrong in classes of its own
        client.close()
        if getattr(error, "status_code", None) in (401, 403):
            raise key_refused("qdrant_server", url, KEY_VARIABLE) from None
        raise not_reached("qdrant_server", url, error, key) from None
    return QdrantStore("qdrant_server", client, collection)


def point_id(name: str) -> str:
    return str(uuid.uuid5(_NAMES, name))


def payload(thread: IndexedThread) -> dict[str, str | int | float]:
    known: dict[str, str | int | float] = {
        "id": thread.id,
        "text": thread.text,
        "channel": thread.channel,
        "participants": thread.participants,
    }
    return known if thread.time is None else {**known, "time": thread.time}


def filter_of(models: Any, span: Any, where: Where) -> Any:
    """In the words of the client or of the engine, which call a range otherwise; None where all threads may be found."""
    must = []
    if where.channel is not None:
        must.append(models.FieldCondition(key="channel", match=models.MatchValue(value=where.channel)))
    if where.since is not None or where.until is not None:
        must.append(models.FieldCondition(key="time", range=span(gte=where.since, lt=where.until)))
    if where.participants:
        must.append(models.FieldCondition(key="participants", range=span(gte=where.participants)))
    return models.Filter(must=must) if must else None
