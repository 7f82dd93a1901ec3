"""A stand-in for a Qdrant server of version 1.20, as far as the store speaks to one by REST.

It holds points in memory and compares every vector. A field that it does not know is refused, where the server would pass
over it. As in the strict mode of Qdrant's cloud, a filter needs an index of its field.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thread_embed_assets_tests.release.stores.json_server import Asked, JsonServer, RefusedError, UnknownError, known

VERSION = "1.20.0"
_RANGE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_KINDS: dict[str, tuple[type, ...]] = {"keyword": (str,), "integer": (int,), "float": (int, float)}  # what an index takes
_DONE = {"operation_id": 0, "status": "completed"}
_HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000, "max_indexing_threads": 0, "on_disk": False}
_OPTIMIZER = {
    "deleted_threshold": 0.2, "vacuum_min_vector_number": 1_000, "default_segment_number": 0, "flush_interval_sec": 5,
}  # fmt: skip


@dataclass
class Collection:
    """Its vectors' size, the kinds of its payload indexes, and its points: unit vector and payload by id."""

    vectors: dict[str, Any]
    indexes: dict[str, str] = field(default_factory=dict)
    points: dict[str, tuple[np.ndarray, dict[str, Any]]] = field(default_factory=dict)

    def unit(self, vector: list[float]) -> np.ndarray:
        if len(vector) != self.vectors["size"]:
            raise RefusedError(
                f"Wrong input: Vector dimension error: expected dim: {self.vectors['size']}, got {len(vector)}"
            )
        return np.array(vector, dtype=np.float32) / np.float32(np.linalg.norm(vector))


class QdrantServer(JsonServer):
    """The REST API, while the ``with`` block lasts.

    Args:
        key: the API key it wants; "" lets everybody in.
    """

    def __init__(self, key: str = "") -> None:
        super().__init__()
        self.key = key
        self.collections: dict[str, Collection] = {}

    def refusal(self, error: RefusedError) -> Any:
        return {"status": {"error": str(error)}, "time": 0.0}

    def answer(self, asked: Asked) -> Any:
        if (asked.method, asked.path) == ("GET", ("",)):
            return {"title": "qdrant - vector search engine", "version": VERSION}  # to everybody
        if self.key and asked.headers.get("api-key") != self.key:
            raise RefusedError("Invalid API key or JWT", 401)
        return {"result": self._result(asked), "status": "ok", "time": 0.0}

    def _result(self, asked: Asked) -> Any:
        writes = asked.method == "PUT" and len(asked.path) == 3
        if asked.options != ({"wait": "true"} if writes else {}):
            raise UnknownError(f"options {asked.options}")
        match asked.method, *asked.path:
            case "GET", "collections":
                return {"collections": [{"name": name} for name in self.collections]}
            case "GET", "collections", name, "exists":
                return {"exists": name in self.collections}
            case "DELETE", "collections", name:
                return self.collections.pop(name, None) is not None  # one that is not there is no error
            case "PUT", "collections", name:
                return self._create(name, asked.body)
            case method, "collections", name, *rest if (method, *rest) in _ANSWERS:
                return _ANSWERS[method, *rest](self._collection(name), asked.body)
        raise UnknownError("the path")

    def _collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise RefusedError(f"Not found: Collection `{name}` doesn't exist!", 404)
        return self.collections[name]

    def _create(self, name: str, given: Any) -> bool:
        known(given, {"vectors"}, "a collection")
        known(given["vectors"], {"size", "distance"}, "vectors")
        if name in self.collections:
            raise RefusedError(f"Wrong input: Collection `{name}` already exists!", 409)
        if given["vectors"]["distance"] != "Cosine":
            raise UnknownError(f"distance {given['vectors']['distance']}")
        self.collections[name] = Collection(given["vectors"])
        return True


def _told(collection: Collection, given: Any) -> dict[str, Any]:
    params = {"vectors": collection.vectors, "shard_number": 1, "replication_factor": 1, "on_disk_payload": True}
    return {
        "status": "green",
        "optimizer_status": "ok",
        "points_count": len(collection.points),
        "segments_count": 1,
        "config": {"params": params, "hnsw_config": _HNSW, "optimizer_config": _OPTIMIZER},
        "payload_schema": {name: {"data_type": kind, "points": 0} for name, kind in collection.indexes.items()},
    }


def _count(collection: Collection, given: Any) -> dict[str, Any]:
    if given != {"exact": True}:
        raise UnknownError(f"count {given}")
    return {"count": len(collection.points)}


def _index(collection: Collection, given: Any) -> dict[str, Any]:
    known(given, {"field_name", "field_schema"}, "an index")
    if given["field_schema"] not in _KINDS:
        raise UnknownError(f"index {given['field_schema']!r}")
    collection.indexes[given["field_name"]] = given["field_schema"]
    return _DONE


def _upsert(collection: Collection, given: Any) -> dict[str, Any]:
    known(given, {"points"}, "points")
    for point in given["points"]:
        known(point, {"id", "vector", "payload"}, "a point")
        try:
            uuid.UUID(point["id"])
        except ValueError as error:
            raise RefusedError(f"value {point['id']} is not a valid point ID") from error
        collection.points[point["id"]] = collection.unit(point["vector"]), point["payload"]
    return _DONE


def _query(collection: Collection, given: Any) -> dict[str, Any]:
    known(given, {"query", "filter", "limit", "with_payload", "with_vector"}, "a query")
    if not isinstance(given["with_payload"], list) or given.get("with_vector"):
        raise UnknownError(f"payload {given['with_payload']}, vectors {given.get('with_vector')}")
    known(given["query"], {"nearest"}, "what to find")
    query, conditions = collection.unit(given["query"]["nearest"]), []
    if given.get("filter") is not None:
        known(given["filter"], {"must"}, "a filter")
        conditions = [_condition(collection, condition) for condition in given["filter"]["must"]]
    found = [
        {
            "id": name,
            "version": 0,
            "score": float(vector @ query),
            "payload": {key: value for key, value in payload.items() if key in given["with_payload"]},
        }
        for name, (vector, payload) in collection.points.items()
        if all(condition(payload) for condition in conditions)
    ]
    return {"points": sorted(found, key=lambda point: -point["score"])[: given["limit"]]}


def _condition(collection: Collection, given: Any) -> Callable[[dict[str, Any]], bool]:
    known(given, {"key", "match", "range"}, "a condition")
    key, kind = given["key"], collection.indexes.get(given["key"])
    if "match" in given and "range" in given:
        raise UnknownError("a condition that is two")
    wanted = ["keyword"] if "match" in given else ["integer", "float"]
    if kind not in wanted:
        raise RefusedError(
            f'Bad request: Index required but not found for "{key}" of one of the following types: {wanted}. '
            "Help: Create an index for this key or use a different filter."
        )
    if "match" in given:
        known(given["match"], {"value"}, "a match")
        return lambda payload: payload.get(key) == given["match"]["value"]
    known(given["range"], set(_RANGE), "a range")
    bounds = [(_RANGE[name], bound) for name, bound in given["range"].items() if bound is not None]
    return lambda payload: (
        isinstance(payload.get(key), _KINDS[kind]) and all(compared(payload[key], bound) for compared, bound in bounds)
    )


_ANSWERS: dict[tuple[str, ...], Callable[[Collection, Any], Any]] = {
    ("GET",): _told,
    ("PUT", "index"): _index,
    ("PUT", "points"): _upsert,
    ("POST", "points", "count"): _count,
    ("POST", "points", "query"): _query,
}
