from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from thread_embed_assets.storage.quality import has_schema, not_empty, unique
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

SCHEMA = pa.schema([("id", pa.string()), ("at", pa.timestamp("us", tz="UTC")), ("ids", pa.list_(pa.string()))])


def stored(path: Path, ids: list[str], schema: pa.Schema = SCHEMA) -> TableHandle:
    with write_tables(path / "t.duckdb", {"things": schema}) as writer:
        writer.add_all("things", ((name, *[None] * (len(schema) - 1)) for name in ids))
    return open_table(path / "t.duckdb", "things")


def test_good_data_passes(tmp_path: Path) -> None:
    handle = stored(tmp_path, ["a", "b"])
    verdicts = [not_empty(handle), has_schema(handle, SCHEMA), unique(handle, "id")]
    assert [v.passed for v in verdicts] == [True] * 3
    assert [v.numbers["checked"] for v in verdicts] == [1, 3, 2]


def test_an_empty_table_is_caught(tmp_path: Path) -> None:
    verdict = not_empty(stored(tmp_path, []))
    assert not verdict.passed
    assert "things" in verdict.description
    assert not not_empty().passed


def test_a_duplicate_is_caught_and_named(tmp_path: Path) -> None:
    verdict = unique(stored(tmp_path, ["a", "b", "b", "b"]), "id")
    assert not verdict.passed
    assert verdict.description.endswith("such as b")
    assert verdict.numbers == {"checked": 4, "faults": 1}


def test_a_check_that_looked_at_nothing_does_not_pass(tmp_path: Path) -> None:
    verdict = unique(stored(tmp_path, []), "id")
    assert not verdict.passed
    assert "nothing to check" in verdict.description


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (SCHEMA.remove(1), "at timestamp[us, UTC] is missing"),
        (SCHEMA.append(pa.field("extra", pa.int64())), "extra is int64"),
        (SCHEMA.set(1, pa.field("at", pa.string())), "at is string"),
        (SCHEMA.set(1, pa.field("at", pa.timestamp("us"))), "at is timestamp[us]"),
        (SCHEMA.set(2, pa.field("ids", pa.list_(pa.int64()))), "ids is list<int64>"),
        (pa.schema([SCHEMA.field(0), SCHEMA.field(2), SCHEMA.field(1)]), "another order"),
    ],
)
def test_other_columns_are_caught_and_named(tmp_path: Path, schema: pa.Schema, told: str) -> None:
    verdict = has_schema(stored(tmp_path, ["a"], schema), SCHEMA)
    assert not verdict.passed
    assert told in verdict.description
