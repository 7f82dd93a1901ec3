from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from thread_embed_assets.storage.columns import described, description
from thread_embed_assets.storage.tables import open_table, write_tables

PLAIN = pa.schema([("place", pa.string()), ("cups", pa.list_(pa.int32()))])
TOLD = described([("place", pa.string(), "where it stands"), ("cups", pa.list_(pa.int32()), "how many, by day")])


def test_a_column_says_what_it_holds_and_is_otherwise_the_same() -> None:
    assert TOLD == PLAIN
    assert [description(field) for field in TOLD] == ["where it stands", "how many, by day"]
    assert [description(field) for field in PLAIN] == ["", ""]


def test_what_is_told_of_columns_does_not_change_the_fingerprint_of_a_table(tmp_path: Path) -> None:
    """Else words on a page would make every table anew, and retrain every model."""
    for name, schema in {"plain": PLAIN, "told": TOLD}.items():
        with write_tables(tmp_path / f"{name}.duckdb", {"t": schema}) as writer:
            writer.add("t", ("kitchen", [1, 2]))
    plain, told = (open_table(tmp_path / f"{name}.duckdb", "t") for name in ("plain", "told"))
    assert plain.fingerprint == told.fingerprint
