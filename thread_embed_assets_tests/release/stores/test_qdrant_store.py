"""The local mode, and the real client against a server that speaks its protocol; a real server, too, where one is named."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import STORES, open_store
from thread_embed_assets.release.stores.qdrant_store import KEY_VARIABLE
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets_tests.release.stores import behaviour
from thread_embed_assets_tests.release.stores.qdrant_server import QdrantServer

pytest.importorskip("qdrant_client", reason="the stores are not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
    pytest.mark.filterwarnings("ignore:Failed to obtain server version"),  # it asks beside the test, until that is over
]

URL = STORES["qdrant_server"].url_variable


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantServer]:
    with QdrantServer("right") as server:
        monkeypatch.setenv(URL, server.url)
        monkeypatch.setenv(KEY_VARIABLE, "right")
        yield server
        assert server.unknown == []


@pytest.fixture(params=["local", "stand-in", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    if request.param == "stand-in":
        request.getfixturevalue("server")
    if request.param == "server" and not os.environ.get(URL):
        pytest.skip(f"NOT RUN: {URL} names no Qdrant server")
    name = "qdrant" if request.param == "local" else "qdrant_server"
    with open_store(name, tmp_path / "index", f"thread_embed_test_{uuid.uuid4().hex}") as store:
        yield store
        store._client.delete_collection(store._name)


class TestQdrant(behaviour.EveryStore):
    pass


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    behaviour.keeps_its_data("qdrant", tmp_path / "index")


def test_a_restart_finds_what_the_server_holds(server: QdrantServer, tmp_path: Path) -> None:
    behaviour.keeps_its_data("qdrant_server", tmp_path)


def test_a_batch_asks_for_the_dimension_once(server: QdrantServer, tmp_path: Path) -> None:
    with open_store("qdrant_server", tmp_path) as store:
        store.replace([], behaviour.DIMENSION)
        before = server.requests
        store.add(behaviour.threads(100))
        assert server.requests - before <= 4  # the client may be asking for the server's version meanwhile


def test_a_collection_of_others_is_not_taken_for_ours(server: QdrantServer, tmp_path: Path) -> None:
    with open_store("qdrant_server", tmp_path) as store:
        store.replace([], behaviour.DIMENSION)
        [collection] = server.collections.values()
        collection.vectors = {"title": dict(collection.vectors), "body": dict(collection.vectors)}
        with pytest.raises(InputError, match="the collection thread_embed was not made here"):
            store.count()


def test_a_wrong_key_is_named(server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "wrong")
    with pytest.raises(InputError, match=rf"refuses the API key.*\. Set {KEY_VARIABLE}") as refused:
        open_store("qdrant_server", tmp_path)
    assert "wrong" not in str(refused.value)


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"the server at http://127\.0\.0\.1:9 cannot be used"):
        open_store("qdrant_server", tmp_path)
