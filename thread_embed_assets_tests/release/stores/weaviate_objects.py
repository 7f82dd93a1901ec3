"""What the stand-in for a Weaviate server does with its gRPC messages: it writes objects, counts them and compares them all.

The messages are the ones that weaviate-client is generated from; what they mean was read from the server's handlers
(``adapters/handlers/grpc/v1``) and its inverted index.
"""

from __future__ import annotations

import operator
import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from weaviate.proto.v1 import aggregate_pb2, base_pb2, properties_pb2, search_get_pb2

from thread_embed_assets_tests.release.stores.json_server import RefusedError, UnknownError, known

ENGLISH = set(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)
_FILTERS = base_pb2.Filters
_COMPARED = {
    _FILTERS.OPERATOR_GREATER_THAN_EQUAL: operator.ge,
    _FILTERS.OPERATOR_GREATER_THAN: operator.gt,
    _FILTERS.OPERATOR_LESS_THAN_EQUAL: operator.le,
    _FILTERS.OPERATOR_LESS_THAN: operator.lt,
    _FILTERS.OPERATOR_EQUAL: operator.eq,
}
TOKENS = {"field": lambda text: [text.strip()], "word": lambda text: re.findall(r"\w+", text.lower())}


@dataclass
class Collection:
    """Its configuration, as the server tells it, and its objects: unit vector and properties by UUID."""

    config: dict[str, Any]
    objects: dict[uuid.UUID, tuple[np.ndarray, dict[str, Any]]] = field(default_factory=dict)

    def declared(self, name: str) -> dict[str, Any]:
        for one in self.config["properties"]:
            if one["name"] == name:
                return one
        raise UnknownError(f"no such prop with name '{name}' found in class '{self.config['class']}'")

    @property
    def stopwords(self) -> set[str]:
        return ENGLISH if self.config["invertedIndexConfig"]["stopwords"]["preset"] == "en" else set()


def fields(message: Any, spoken: set[str]) -> None:
    known({one.name: value for one, value in message.ListFields()}, spoken, type(message).__name__)


def _unit(data: bytes) -> np.ndarray:
    vector = np.array(struct.unpack(f"<{len(data) // 4}f", data))
    return vector / np.linalg.norm(vector)


def _fits(collection: Collection, vector: np.ndarray) -> None:
    for held, _ in collection.objects.values():
        if held.shape != vector.shape:
            raise RefusedError(f"vector lengths don't match: {len(held)} vs {len(vector)}")
        return


def write(collection: Collection, one: Any) -> None:
    fields(one, {"collection", "uuid", "properties", "vector_bytes"})
    fields(one.properties, {"non_ref_properties"})
    values = dict(one.properties.non_ref_properties)  # numbers are doubles, whole or not
    for name, value in values.items():
        [kind] = collection.declared(name)["dataType"]
        if not isinstance(value, str if kind == "text" else float) or (kind == "int" and value != int(value)):
            raise RefusedError(f"invalid {kind} property '{name}' on class '{one.collection}': {value!r}")
    if len(collection.config["vectorConfig"]) != 1:
        raise RefusedError("collection is configured with multiple named vectors, but received a single vector")
    vector = _unit(one.vector_bytes)
    _fits(collection, vector)
    collection.objects[uuid.UUID(one.uuid)] = vector, values


def counted(find: Callable[[str], Collection], request: Any) -> Any:
    fields(request, {"collection", "objects_count"})
    count = len(find(request.collection).objects)
    return aggregate_pb2.AggregateReply(single_result=aggregate_pb2.AggregateReply.Single(objects_count=count))


def searched(find: Callable[[str], Collection], request: Any) -> Any:
    apis = {"uses_123_api", "uses_125_api", "uses_127_api"}
    fields(request, {"collection", "limit", "near_vector", "filters", "metadata", "properties"} | apis)
    fields(request.near_vector, {"vectors", "certainty", "distance"})
    fields(request.metadata, {"uuid", "distance", "certainty"})
    fields(request.properties, {"non_ref_properties"})
    collection = find(request.collection)
    [near] = request.near_vector.vectors
    fields(near, {"vector_bytes", "type"})
    query = _unit(near.vector_bytes)
    _fits(collection, query)
    admits = _filter(collection, request.filters) if request.HasField("filters") else lambda values: True
    found = [
        (1.0 - float(vector @ query), name, values)
        for name, (vector, values) in collection.objects.items()
        if admits(values)
    ]
    limits = request.near_vector
    farthest = min(
        limits.distance if limits.HasField("distance") else 2.0,
        2.0 - 2.0 * limits.certainty if limits.HasField("certainty") else 2.0,
    )
    reply = search_get_pb2.SearchReply()
    for distance, name, values in sorted(found, key=lambda one: one[0])[: request.limit or 10]:
        if distance <= farthest:
            reply.results.append(_result(collection, request, distance, name, values))
    return reply


def _result(collection: Collection, request: Any, distance: float, name: uuid.UUID, values: dict[str, Any]) -> Any:
    metadata = search_get_pb2.MetadataResult(id_as_bytes=name.bytes)
    if request.metadata.distance:
        metadata.distance, metadata.distance_present = distance, True
    if request.metadata.certainty:
        metadata.certainty, metadata.certainty_present = 1.0 - distance / 2.0, True
    told = properties_pb2.Properties()
    for wanted in request.properties.non_ref_properties:
        [kind] = collection.declared(wanted)["dataType"]
        if wanted in values:
            setattr(told.fields[wanted], f"{kind}_value", int(values[wanted]) if kind == "int" else values[wanted])
    properties = search_get_pb2.PropertiesResult(non_ref_props=told, target_collection=collection.config["class"])
    return search_get_pb2.SearchResult(properties=properties, metadata=metadata)


def _filter(collection: Collection, given: Any) -> Callable[[dict[str, Any]], bool]:
    if given.operator in {_FILTERS.OPERATOR_AND, _FILTERS.OPERATOR_OR}:
        fields(given, {"operator", "filters"})
        every = all if given.operator == _FILTERS.OPERATOR_AND else any
        parts = [_filter(collection, part) for part in given.filters]
        return lambda values: every(part(values) for part in parts)
    if given.operator not in _COMPARED:
        raise UnknownError(f"filter operator {_FILTERS.Operator.Name(given.operator)}")
    which = given.WhichOneof("test_value")
    fields(given, {"operator", "target", which})
    fields(given.target, {"property"})
    name, value, compared = given.target.property, getattr(given, which), _COMPARED[given.operator]
    known_as = collection.declared(name)
    [kind] = known_as["dataType"]
    if not known_as["indexFilterable"]:
        raise RefusedError(f"Filtering by property '{name}' requires inverted index. Is `indexFilterable` option set?")
    if which not in {"text": {"value_text"}, "number": {"value_number", "value_int"}}.get(kind, {"value_int"}):
        raise RefusedError(f'data type filter cannot use "{which}" on type "{kind}"')
    if kind != "text":
        return lambda values: name in values and compared(values[name], value)
    if compared is not operator.eq:
        raise UnknownError("a comparison of texts")
    tokens = TOKENS[known_as["tokenization"]]
    wanted = [token for token in tokens(value) if token not in collection.stopwords]
    if not wanted:
        raise RefusedError(
            "invalid search term, only stopwords provided. "
            "Stopwords can be configured in class.invertedIndexConfig.stopwords"
        )
    return lambda values: name in values and set(wanted) <= set(tokens(values[name]))
