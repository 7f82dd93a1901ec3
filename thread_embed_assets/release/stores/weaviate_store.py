"""Weaviate: a server by its URL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.vector_store import (
    Found,
    IndexedThread,
    VectorStore,
    Where,
    driver,
    key_refused,
    made_elsewhere,
    not_reached,
)
from thread_embed_assets.storage.addresses import fault_of

KEY_VARIABLE = "THREAD_EMBED_WEAVIATE_KEY"
GRPC_URL_VARIABLE = "THREAD_EMBED_WEAVIATE_GRPC_URL"
_GRPC_PORT = 50_051
_PATIENCE = 5  # seconds for a server's first sign of life
_NAMES = uuid.UUID("2b6d4a2e-9a57-5b0e-8d0b-4b7f6a4f7c55")


class WeaviateStore(VectorStore):
    """A collection of a Weaviate client; Weaviate's own HNSW settings, cosine distance.

    Args:
        client: as weaviate makes it, connected.
        collection: its name; Weaviate's begin with a capital.
    """

    def __init__(self, client: Any, collection: str) -> None:
        super().__init__("weaviate")
        self._client = client
        self._name = collection[:1].upper() + collection[1:]
        self._config = driver("weaviate.classes.config", "weaviate")
        self._queries = driver("weaviate.classes.query", "weaviate")
        self._data = driver("weaviate.classes.data", "weaviate")
        self._errors = driver("weaviate.exceptions", "weaviate")

    @property
    def dimension(self) -> int | None:
        if not self._client.collections.exists(self._name):
            return None
        description = self._client.collections.get(self._name).config.get(simple=True).description or ""
        if not description.isdecimal():
            raise made_elsewhere("weaviate", self._name)
        return int(description)

    def count(self) -> int:
        if self.dimension is None:
            return 0
        return int(self._client.collections.get(self._name).aggregate.over_all(total_count=True).total_count)

    def close(self) -> None:
        self._client.close()

    def _create(self, dimension: int) -> None:
        config = self._config
        kind = config.DataType
        self._client.collections.delete(self._name)
        whole = config.Tokenization.FIELD
        self._client.collections.create(
            self._name,
            description=str(dimension),
            # a filter by a word such as "it" alone is an error where it is a stopword, whatever the tokenization
            # (github.com/weaviate/weaviate/issues/9054), and channels have such names
            inverted_index_config=config.Configure.inverted_index(stopwords_preset=config.StopwordsPreset.NONE),
            vector_config=config.Configure.Vectors.self_provided(
                vector_index_config=config.Configure.VectorIndex.hnsw(distance_metric=config.VectorDistances.COSINE)
            ),
            properties=[
                config.Property(name="thread_id", data_type=kind.TEXT, tokenization=whole),
                config.Property(name="text", data_type=kind.TEXT, index_searchable=False, index_filterable=False),
                config.Property(name="channel", data_type=kind.TEXT, tokenization=whole),
                config.Property(name="time", data_type=kind.NUMBER, index_range_filters=True),
                config.Property(name="participants", data_type=kind.INT, index_range_filters=True),
            ],
        )

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        objects = [
            self._data.DataObject(properties=_properties(thread), uuid=uuid.uuid5(_NAMES, thread.id), vector=vector.tolist())
            for thread, vector in zip(threads, vectors, strict=True)
        ]
        remedy = "Look into the server's log, and build it anew"
        try:
            done = self._client.collections.get(self._name).data.insert_many(objects)
        except self._errors.WeaviateInsertManyAllFailedError as error:
            raise InputError("store weaviate", f"{len(objects)} threads were refused ({error})", remedy) from error
        if done.has_errors:
            first = next(iter(done.errors.values())).message
            raise InputError("store weaviate", f"{len(done.errors)} threads were refused ({first})", remedy)

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        found = self._client.collections.get(self._name).query.near_vector(
            near_vector=vector.tolist(),
            limit=top,
            filters=self._filter(where),
            return_metadata=self._queries.MetadataQuery(distance=True),
            return_properties=["thread_id"],
        )
        return [Found(str(one.properties["thread_id"]), 1.0 - float(one.metadata.distance)) for one in found.objects]

    def _filter(self, where: Where) -> Any:
        by = self._queries.Filter.by_property
        parts = []
        if where.channel is not None:
            parts.append(by("channel").equal(where.channel))
        if where.since is not None:
            parts.append(by("time").greater_or_equal(float(where.since)))
        if where.until is not None:
            parts.append(by("time").less_than(float(where.until)))
        if where.participants:
            parts.append(by("participants").greater_or_equal(where.participants))
        return reduce(and_, parts) if parts else None


def open_weaviate(_: Path, collection: str, url: str) -> VectorStore:
    """The server at ``url``; ``THREAD_EMBED_WEAVIATE_KEY`` is its API key.

    Its gRPC is at ``THREAD_EMBED_WEAVIATE_GRPC_URL``, by default port 50051 of the same host. Weaviate's cloud has it at
    ``https://grpc-NAME``, where ``https://NAME`` is the URL.

    Raises:
        InputError: it does not answer, or refuses the key.
    """
    weaviate = driver("weaviate", "weaviate")
    http = _address(url, {"http": 80, "https": 443})
    grpc_url = os.environ.get(GRPC_URL_VARIABLE) or f"{'https' if http.secure else 'http'}://{http.host}:{_GRPC_PORT}"
    if fault := fault_of(grpc_url):
        raise InputError("store weaviate", fault, f"Set {GRPC_URL_VARIABLE} to its URL, such as http://HOST:PORT")
    grpc = _address(grpc_url, {"http": _GRPC_PORT, "https": 443})
    key = os.environ.get(KEY_VARIABLE)
    try:
        client = weaviate.connect_to_custom(
            http_host=http.host,
            http_port=http.port,
            http_secure=http.secure,
            grpc_host=grpc.host,
            grpc_port=grpc.port,
            grpc_secure=grpc.secure,
            auth_credentials=weaviate.classes.init.Auth.api_key(key) if key else None,
            skip_init_checks=True,  # they ask PyPI for newer versions, and fail where a proxy answers in its place
        )
    except Exception as error:  # the client's own, and those of httpx and pydantic
        if getattr(error, "status_code", None) in (401, 403):
            raise key_refused("weaviate", url, KEY_VARIABLE) from None
        raise not_reached("weaviate", url, error, key) from None
    try:
        _check_grpc(grpc, grpc_url)
    except InputError:
        client.close()
        raise
    return WeaviateStore(client, collection)


class _Address(NamedTuple):
    host: str
    port: int
    secure: bool


def _address(url: str, ports: dict[str, int]) -> _Address:
    """Raises InputError where there is none."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or ports.get(parts.scheme)
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme not in ports:
        raise InputError("store weaviate", f"{url!r} is no URL of a server", "Name it as http://HOST:PORT")
    return _Address(host, port, parts.scheme == "https")


def _check_grpc(address: _Address, url: str) -> None:
    """Raises InputError where nobody answers."""
    grpc = driver("grpc", "weaviate")
    health = driver("grpc_health.v1.health_pb2", "weaviate")
    stubs = driver("grpc_health.v1.health_pb2_grpc", "weaviate")
    target = f"{address.host}:{address.port}"
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials()) if address.secure else grpc.insecure_channel(target)
    )
    with channel:
        try:
            stubs.HealthStub(channel).Check(health.HealthCheckRequest(), timeout=_PATIENCE)
        except grpc.RpcError as error:
            raise not_reached("weaviate", url, ConnectionError(error.details())) from error


def _properties(thread: IndexedThread) -> dict[str, str | int | float]:
    known: dict[str, str | int | float] = {
        "thread_id": thread.id,
        "text": thread.text,
        "channel": thread.channel,
        "participants": thread.participants,
    }
    return known if thread.time is None else {**known, "time": float(thread.time)}
