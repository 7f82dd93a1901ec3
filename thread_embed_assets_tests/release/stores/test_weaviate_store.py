"""By the real client, against a server that speaks its protocol; against a real server, too, where one is named."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import STORES, open_store
from thread_embed_assets.release.stores.vector_store import VectorStore, Where
from thread_embed_assets_tests.release.stores import behaviour

pytest.importorskip("weaviate", reason="the stores are not installed")

from thread_embed_assets.release.stores.weaviate_store import GRPC_URL_VARIABLE, KEY_VARIABLE
from thread_embed_assets_tests.release.stores.weaviate_objects import ENGLISH
from thread_embed_assets_tests.release.stores.weaviate_server import WeaviateServer

URL = STORES["weaviate"].url_variable


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeaviateServer]:
    with WeaviateServer("right") as server:
        for variable, value in ((URL, server.url), (GRPC_URL_VARIABLE, server.grpc_url), (KEY_VARIABLE, "right")):
            monkeypatch.setenv(variable, value)
        yield server
        assert server.unknown == []


@pytest.fixture(params=["stand-in", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    if request.param == "stand-in":
        request.getfixturevalue("server")
    elif not os.environ.get(URL):
        pytest.skip(f"NOT RUN: {URL} names no Weaviate server")
    with open_store("weaviate", tmp_path, f"thread_embed_test_{uuid.uuid4().hex}") as store:
        yield store
        store._client.collections.delete(store._name)


class TestWeaviate(behaviour.EveryStore):
    pass


def test_a_channel_may_have_the_name_of_a_stopword(store: VectorStore) -> None:
    """A filter by such a word alone is an error on servers that know the word as a stopword."""
    assert "it" in ENGLISH
    thread = replace(behaviour.threads(1)[0], channel="it")
    store.replace([thread, replace(thread, id="other", channel="it support")], behaviour.DIMENSION)
    assert [one.id for one in store.query(thread.vector, where=Where(channel="it"))] == [thread.id]


def test_a_restart_keeps_the_data(server: WeaviateServer, tmp_path: Path) -> None:
    behaviour.keeps_its_data("weaviate", tmp_path)


@pytest.mark.parametrize("count", [1, 3])
def test_threads_that_the_server_refuses_are_an_error(server: WeaviateServer, tmp_path: Path, count: int) -> None:
    with open_store("weaviate", tmp_path) as store:
        store.replace([], behaviour.DIMENSION)
        server.read_only = True
        with pytest.raises(InputError, match=rf"{count} threads were refused \(.*store is read-only"):
            store.add(behaviour.threads(count))


def test_a_batch_asks_for_the_dimension_once(server: WeaviateServer, tmp_path: Path) -> None:
    with open_store("weaviate", tmp_path) as store:
        store.replace([], behaviour.DIMENSION)
        before = server.requests
        store.add(behaviour.threads(100))
        assert server.requests - before == 2


def test_a_collection_of_others_is_not_taken_for_ours(server: WeaviateServer, tmp_path: Path) -> None:
    with open_store("weaviate", tmp_path) as store:
        store.replace([], behaviour.DIMENSION)
        [collection] = server.collections.values()
        collection.config["description"] = "Somebody's notes"
        with pytest.raises(InputError, match="the collection Thread_embed was not made here"):
            store.count()


def test_a_wrong_key_is_named(server: WeaviateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "wrong")
    with pytest.raises(InputError, match=rf"refuses the API key.*\. Set {KEY_VARIABLE}") as refused:
        open_store("weaviate", tmp_path)
    assert "wrong" not in str(refused.value)


def test_opening_asks_nobody_but_the_server(server: WeaviateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own checks ask PyPI for its newest version; a proxy would see that."""
    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with open_store("weaviate", tmp_path) as store:
        assert store.count() == 0
    assert server.unknown == []


@pytest.mark.parametrize("variable", [URL, GRPC_URL_VARIABLE])
def test_a_server_that_does_not_answer_is_named(
    server: WeaviateServer, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"the server at http://127\.0\.0\.1:9 cannot be used"):
        open_store("weaviate", tmp_path)


def test_a_secure_server_has_its_grpc_at_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client refuses one port for both before it asks anybody."""
    monkeypatch.setenv(URL, "https://127.0.0.1")
    monkeypatch.delenv(GRPC_URL_VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"the server at https://127\.0\.0\.1 cannot be used \(.*[Cc]onnect"):
        open_store("weaviate", tmp_path)


@pytest.mark.parametrize("variable", [URL, GRPC_URL_VARIABLE])
@pytest.mark.parametrize("url", ["localhost:8080", "http://", "http://here:99999"])
def test_what_is_no_url_is_refused(
    server: WeaviateServer, variable: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(InputError, match="is no URL"):
        open_store("weaviate", tmp_path)
