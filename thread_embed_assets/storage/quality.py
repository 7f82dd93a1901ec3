"""Checks that hold for any stored table."""

from __future__ import annotations

import pyarrow as pa

from thread_embed_assets.storage.tables import TableHandle, connect_read_only
from thread_embed_assets.verdict import Verdict, no_faults


def not_empty(*handles: TableHandle) -> Verdict:
    """Every table has rows."""
    faults = [h.table for h in handles if not h.rows]
    return no_faults("tables without rows", faults, len(handles))


def has_schema(handle: TableHandle, expected: pa.Schema) -> Verdict:
    """Columns, their order and their types are the declared ones."""
    stored, wanted = _columns(handle.schema), _columns(expected)
    faults = [f"{name} is {kind}" for name, kind in stored if (name, kind) not in wanted]
    faults += [f"{name} {kind} is missing" for name, kind in wanted if (name, kind) not in stored]
    if not faults and stored != wanted:
        faults = ["the columns are in another order"]
    return no_faults(f"columns of {handle.table} that differ from the schema", faults, len(wanted))


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, _kind(field.type)) for field in schema]


def _kind(kind: pa.DataType) -> str:
    """DuckDB renames list items and time zones; both are the same type to us."""
    if pa.types.is_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}{', UTC' if kind.tz else ''}]"
    return str(kind)


def unique(handle: TableHandle, column: str) -> Verdict:
    """No value of ``column`` stands twice."""
    with connect_read_only([handle]) as connection:
        query = f'SELECT "{column}" FROM "{handle.table}" GROUP BY 1 HAVING count(*) > 1 ORDER BY 1'
        faults = [str(row[0]) for row in connection.execute(query).fetchall()]
    return no_faults(f"duplicate {column}", faults, handle.rows)
