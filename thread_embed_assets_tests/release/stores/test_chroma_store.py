from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import open_store
from thread_embed_assets.release.stores.chroma_store import ServedChromaStore
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets_tests.release.stores import behaviour

pytest.importorskip("chromadb", reason="the stores are not installed")


@pytest.fixture(params=["chroma", "chroma_server"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    with open_store(request.param, tmp_path / "index") as store:
        yield store


class TestChroma(behaviour.EveryStore):
    pass


@pytest.mark.parametrize("name", ["chroma", "chroma_server"])
def test_a_restart_keeps_the_data(name: str, tmp_path: Path) -> None:
    behaviour.keeps_its_data(name, tmp_path / "index")


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREAD_EMBED_CHROMA_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"the server at http://127\.0\.0\.1:9 cannot be used"):
        open_store("chroma_server", tmp_path)


def test_closing_stops_the_server_that_was_started(tmp_path: Path) -> None:
    store = open_store("chroma_server", tmp_path / "index")
    assert isinstance(store, ServedChromaStore) and store.running
    store.close()
    assert not store.running
