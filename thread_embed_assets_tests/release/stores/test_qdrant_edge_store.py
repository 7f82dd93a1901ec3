from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import open_store
from thread_embed_assets.release.stores.qdrant_edge_store import QdrantEdgeStore
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets_tests.release.stores import behaviour

pytest.importorskip("qdrant_edge", reason="the stores are not installed")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    with open_store("qdrant_edge", tmp_path / "index") as store:
        yield store


class TestQdrantEdge(behaviour.EveryStore):
    pass


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    behaviour.keeps_its_data("qdrant_edge", tmp_path / "index")


def test_a_shard_that_is_open_already_or_damaged_is_named(tmp_path: Path) -> None:
    with open_store("qdrant_edge", tmp_path) as store:
        store.replace(behaviour.threads(5), behaviour.DIMENSION)
        with pytest.raises(InputError, match=r"thread_embed: it cannot be opened .* Close the process"):
            QdrantEdgeStore(tmp_path / "thread_embed")
        assert store.count() == 5
    (tmp_path / "thread_embed" / "edge_config.json").write_text("{broken")
    with pytest.raises(InputError, match="delete it and build it anew"):
        open_store("qdrant_edge", tmp_path)
