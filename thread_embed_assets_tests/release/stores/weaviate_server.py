"""A stand-in for a Weaviate server of version 1.32, as far as the store speaks to one.

Its REST makes collections, its gRPC writes and finds objects, and all of it is in memory. A field that it does not know is
refused, where the server would pass over it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from weaviate.proto.v1 import batch_pb2, weaviate_pb2_grpc

from thread_embed_assets_tests.release.stores.json_server import Asked, JsonServer, RefusedError, UnknownError, known
from thread_embed_assets_tests.release.stores.weaviate_objects import TOKENS, Collection, counted, fields, searched, write

VERSION = "1.32.1"
LARGEST_MESSAGE = 104_858_000
_HNSW = {
    "cleanupIntervalSeconds": 300, "dynamicEfFactor": 8, "dynamicEfMax": 500, "dynamicEfMin": 100, "ef": -1,
    "efConstruction": 128, "filterStrategy": "sweeping", "flatSearchCutoff": 40_000, "maxConnections": 32, "skip": False,
    "vectorCacheMaxObjects": 1_000_000_000_000,
}  # fmt: skip
_DEFAULTS = {
    "multiTenancyConfig": {"autoTenantActivation": False, "autoTenantCreation": False, "enabled": False},
    "replicationConfig": {"asyncEnabled": False, "deletionStrategy": "NoAutomatedResolution", "factor": 1},
    "shardingConfig": {
        "actualCount": 1, "actualVirtualCount": 128, "desiredCount": 1, "desiredVirtualCount": 128, "function": "murmur3",
        "key": "_id", "strategy": "hash", "virtualPerPhysical": 128,
    },
}  # fmt: skip


class WeaviateServer(JsonServer, weaviate_pb2_grpc.WeaviateServicer, health_pb2_grpc.HealthServicer):
    """Both APIs, while the ``with`` block lasts.

    Args:
        key: the API key it wants; "" lets everybody in.

    Attributes:
        grpc_url: where its gRPC API listens.
        read_only: what a full disk does to a Weaviate.
    """

    def __init__(self, key: str = "") -> None:
        super().__init__()
        self.key = key
        self.read_only = False
        self.collections: dict[str, Collection] = {}
        self._grpc = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", LARGEST_MESSAGE)])
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(self, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self, self._grpc)
        self.grpc_url = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._grpc.start()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        self._grpc.stop(None).wait()

    # REST

    def refusal(self, error: RefusedError) -> Any:
        return {"error": [{"message": str(error)}]}

    def answer(self, asked: Asked) -> Any:
        known(asked.options, set(), "the query string")
        if self.key and asked.headers.get("authorization") != f"Bearer {self.key}":
            raise RefusedError("invalid api key, please provide a valid api key", 401)
        match asked.method, *asked.path:
            case "GET", "v1", "meta":
                return {
                    "hostname": "http://[::]:8080",
                    "modules": {},
                    "version": VERSION,
                    "grpcMaxMessageSize": LARGEST_MESSAGE,
                }
            case "GET", "v1", ".well-known", ("ready" | "live"):
                return None
            case "POST", "v1", "schema":
                return self._create(asked.body)
            case "GET", "v1", "schema", name:
                return self._collection(name).config
            case "DELETE", "v1", "schema", name:
                self.collections.pop(name, None)  # one that is not there is no error
                return None
        raise UnknownError(f"path {'/'.join(asked.path)} was not found")

    def _collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise RefusedError(f"could not find class {name} in schema", 404)
        return self.collections[name]

    def _create(self, given: Any) -> dict[str, Any]:
        known(given, {"class", "description", "invertedIndexConfig", "vectorConfig", "properties"}, "a class")
        name = given["class"]
        if not re.fullmatch("[A-Z][_0-9A-Za-z]*", name):
            raise RefusedError(f"'{name}' is not a valid class name", 422)
        if name in self.collections:
            raise RefusedError(f"class name {name} already exists", 422)
        index = given.get("invertedIndexConfig", {})
        known(index, {"stopwords"}, "an inverted index")
        known(index.get("stopwords", {}), {"preset"}, "the stopwords")
        stopwords = {"preset": "en", "additions": None, "removals": None, **index.get("stopwords", {})}
        if stopwords["preset"] not in {"en", "none"}:
            raise RefusedError(f"stopwordPreset {stopwords['preset']!r} does not exist", 422)
        config = {
            "class": name,
            "description": given.get("description", ""),
            "invertedIndexConfig": {"bm25": {"b": 0.75, "k1": 1.2}, "cleanupIntervalSeconds": 60, "stopwords": stopwords},
            "properties": [_property(one) for one in given.get("properties", [])],
            "vectorConfig": {name: _vector(one) for name, one in given["vectorConfig"].items()},
            **_DEFAULTS,
        }
        self.collections[name] = Collection(config)
        return config

    # gRPC

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)  # to everybody

    def Search(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._serve(searched, request, context)

    def BatchObjects(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._serve(self._written, request, context)

    def Aggregate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._serve(counted, request, context)

    def _serve(self, answer: Callable[[Any, Any], Any], request: Any, context: grpc.ServicerContext) -> Any:
        if self.key and ("authorization", f"Bearer {self.key}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unauthorized: invalid api key")
        try:
            return answer(self._collection, request)
        except RefusedError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except UnknownError as error:
            self.unknown.append(f"{type(request).__name__}: {error}")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _written(self, find: Callable[[str], Collection], request: Any) -> Any:
        fields(request, {"objects"})
        reply = batch_pb2.BatchObjectsReply()
        for index, one in enumerate(request.objects):
            try:
                if self.read_only:
                    raise RefusedError("put object: store is read-only")
                write(find(one.collection), one)
            except RefusedError as error:
                reply.errors.add(index=index, error=str(error))
        return reply


def _property(given: dict[str, Any]) -> dict[str, Any]:
    ours = {"skip_vectorization", "vectorize_property_name"}  # the client sends them, and the server passes over them
    spoken = {"name", "dataType", "tokenization", "indexFilterable", "indexSearchable", "indexRangeFilters"}
    known(given, spoken | ours, "a property")
    [kind] = given["dataType"]
    if kind not in {"text", "number", "int"}:
        raise UnknownError(f"data type {kind!r}")
    if given["name"] in {"id", "_id", "_additional"}:
        raise RefusedError(f"'{given['name']}' is a reserved property name", 422)
    if kind != "text" and ("tokenization" in given or given.get("indexSearchable")):
        raise RefusedError(f"tokenization and indexSearchable are not allowed for data type '{kind}'", 422)
    if kind == "text" and given.get("indexRangeFilters"):
        raise RefusedError("`indexRangeFilters` is allowed only for number/int/date data types", 422)
    if kind == "text" and given.get("tokenization", "word") not in TOKENS:
        raise UnknownError(f"tokenization {given['tokenization']!r}")
    text = {"tokenization": "word"} if kind == "text" else {}
    defaults = {"indexFilterable": True, "indexSearchable": kind == "text", "indexRangeFilters": False, **text}
    return {**defaults, **{name: value for name, value in given.items() if name in spoken}}


def _vector(given: dict[str, Any]) -> dict[str, Any]:
    known(given, {"vectorizer", "vectorIndexType", "vectorIndexConfig"}, "a vector")
    known(given["vectorIndexConfig"], {"distance"}, "a vector index")
    if given["vectorizer"] != {"none": {}} or given["vectorIndexType"] != "hnsw":
        raise UnknownError(f"vectors by {given['vectorizer']}, index {given['vectorIndexType']}")
    if given["vectorIndexConfig"]["distance"] != "cosine":
        raise UnknownError(f"distance {given['vectorIndexConfig']['distance']}")
    return {**given, "vectorIndexConfig": {**_HNSW, **given["vectorIndexConfig"]}}
