"""Qdrant Edge: the engine of the server, with its HNSW index, inside this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.qdrant_store import filter_of, payload, point_id
from thread_embed_assets.release.stores.vector_store import (
    Found,
    IndexedThread,
    VectorStore,
    Where,
    bytes_below,
    driver,
)

_CONFIG = "edge_config.json"  # a folder without it holds no shard
_VECTOR = ""  # Qdrant's name of the vector of a point that has one


class QdrantEdgeStore(VectorStore):
    """A shard in a folder; Qdrant's own settings, cosine similarity. One process at a time may have it open.

    Args:
        folder: the shard's own.

    Raises:
        InputError: another process has it open, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("qdrant_edge")
        self._edge = driver("qdrant_edge", "qdrant_edge")
        self._folder = folder
        self._shard: Any = self._loaded() if (folder / _CONFIG).exists() else None

    @property
    def dimension(self) -> int | None:
        if self._shard is None:
            return None
        config = json.loads((self._folder / _CONFIG).read_text(encoding="utf-8"))  # the shard itself does not tell
        return int(config["vectors"][_VECTOR]["size"])

    def count(self) -> int:
        return 0 if self._shard is None else int(self._shard.count(self._edge.CountRequest(exact=True)))

    def close(self) -> None:
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None

    def _loaded(self) -> Any:
        try:
            return self._edge.EdgeShard.load(str(self._folder))
        except Exception as error:  # the engine raises no class of its own
            problem = f"it cannot be opened ({str(error).splitlines()[0]})"
            remedy = "Close the process that has it open, or delete it and build it anew"
            raise InputError(self._folder, problem, remedy) from error

    def size(self) -> int:
        return bytes_below(self._folder)

    def replace(self, threads: Iterable[IndexedThread], dimension: int) -> None:
        super().replace(threads, dimension)
        self._shard.optimize()  # the server does so by itself

    def _create(self, dimension: int) -> None:
        edge = self._edge
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        params = edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)
        self._shard = edge.EdgeShard.create(str(self._folder), edge.EdgeConfig(vectors=params))
        kinds = edge.PayloadSchemaType
        for field, kind in (("channel", kinds.Keyword), ("time", kinds.Float), ("participants", kinds.Integer)):
            self._shard.update(edge.UpdateOperation.create_field_index(field, kind))

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        points = [
            self._edge.Point(id=point_id(thread.id), vector=vector.tolist(), payload=payload(thread))
            for thread, vector in zip(threads, vectors, strict=True)
        ]
        self._shard.update(self._edge.UpdateOperation.upsert_points(points))

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        request = self._edge.QueryRequest(
            limit=top,
            query=self._edge.Query.Nearest(vector.tolist()),
            filter=filter_of(self._edge, self._edge.RangeFloat, where),
            with_payload=["id"],
        )
        return [Found(str(point.payload["id"]), float(point.score)) for point in self._shard.query(request)]


def open_qdrant_edge(folder: Path, collection: str, _: str) -> VectorStore:
    """A shard below the folder, named as the collection."""
    return QdrantEdgeStore(folder / collection)
