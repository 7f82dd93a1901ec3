from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import write_tables
from thread_embed_assets_tests.cluster import differences, digests, with_driver

SCHEMA = pa.schema([("name", pa.string())])


def _root(folder: Path, rows: list[str], weights: bytes = b"weights", seconds: str = "1") -> Layout:
    layout = Layout(folder)
    for path, table in ((layout.conversations("team"), "messages"), (layout.results("team"), "costs")):
        with write_tables(path, {table: SCHEMA}) as writer:
            writer.add_all(table, ((row,) for row in (rows if table == "messages" else [seconds])))
    model = layout.promoted_model / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(weights)
    return layout


def test_two_roots_with_the_same_rows_and_weights_are_the_same_whatever_they_took(tmp_path: Path) -> None:
    one, other = _root(tmp_path / "one", ["a", "b"]), _root(tmp_path / "other", ["a", "b"], seconds="2")
    assert sorted(digests(one)) == ["data/conversations/team.duckdb:messages", "models/thread-embed/model.safetensors"]
    assert differences(digests(one), digests(other)) == []


@pytest.mark.parametrize(
    ("rows", "weights", "named"),
    [
        (["a", "c"], b"weights", "data/conversations/team.duckdb:messages"),
        (["b", "a"], b"weights", "data/conversations/team.duckdb:messages"),
        (["a", "b"], b"others", "models/thread-embed/model.safetensors"),
    ],
)
def test_another_row_another_order_and_other_weights_are_told(
    rows: list[str], weights: bytes, named: str, tmp_path: Path
) -> None:
    one, other = _root(tmp_path / "one", ["a", "b"]), _root(tmp_path / "other", rows, weights)
    assert differences(digests(one), digests(other)) == [named]


def test_what_only_one_has_is_told(tmp_path: Path) -> None:
    one, other = _root(tmp_path / "one", ["a"]), _root(tmp_path / "other", ["a"])
    other.conversations("team").unlink()
    assert differences(digests(one), digests(other)) == ["data/conversations/team.duckdb:messages"]


def test_the_driver_of_a_database_is_named() -> None:
    assert with_driver("postgresql://user@/db?host=/run") == "postgresql+psycopg2://user@/db?host=/run"
