from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import open_store
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets_tests.release.stores import behaviour


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VectorStore]:
    with open_store("duckdb", tmp_path / "index") as store:
        yield store


class TestDuckDb(behaviour.AllOrNothingStore):
    pass


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    behaviour.keeps_its_data("duckdb", tmp_path / "index")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "thread_embed.duckdb").write_bytes(b"no table" * 1_000)
    with pytest.raises(InputError, match=r"thread_embed\.duckdb: it cannot be opened"):
        open_store("duckdb", tmp_path)
