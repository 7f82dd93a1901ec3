"""Metadata that every table's page shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
import pyarrow as pa

from thread_embed_assets.defs.lineage import LINEAGE
from thread_embed_assets.storage.columns import description
from thread_embed_assets.storage.tables import TableHandle

OWNERS = ["team:threadembed"]
WEEKLY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8))


def tables(asset: str, schemas: Mapping[str, pa.Schema]) -> dict[str, Any]:
    """Definition metadata of an asset that is a file of tables: their names and columns, and where these come from.

    A file of several tables has the columns ``table.column``.
    """
    origins = LINEAGE.get(asset, {})
    columns = []
    for table, schema in schemas.items():
        for field in schema:
            name = field.name if len(schemas) == 1 else f"{table}.{field.name}"
            source = ", ".join(f"`{origin}`" for origin in origins.get(name, ()))
            holds = f"{description(field)} (from {source})" if source else description(field)
            columns.append(dg.TableColumn(name, str(field.type), holds))
    return {"dagster/table_name": ", ".join(schemas), "dagster/column_schema": dg.TableSchema(columns)}


def table_metadata(handle: TableHandle) -> dict[str, Any]:
    """Rows, place, fingerprint and the counts that the build left."""
    return {
        "dagster/partition_row_count": handle.rows,
        "dagster/uri": handle.path.as_uri(),
        "fingerprint": handle.fingerprint,
        "counts": counts_table(handle.counts),
    }


def row_counts(written: Mapping[str, TableHandle]) -> dict[str, int]:
    """Rows of each table of a partition's file; those of the first are the partition's."""
    first = next(iter(written.values()))
    return {"dagster/partition_row_count": first.rows, **{name: handle.rows for name, handle in written.items()}}


def counts_table(counts: Mapping[str, int | float]) -> dg.MarkdownMetadataValue:
    lines = ["| count | value |", "|---|---:|", *(f"| {name} | {value:,} |" for name, value in sorted(counts.items()))]
    return dg.MetadataValue.md("\n".join(lines))


def rows_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> dg.MarkdownMetadataValue:
    """A few rows as a table; line ends and pipes are made harmless."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (str(row[c]).replace("|", "\\|").replace("`", "'").replace("\n", " ⏎ ") for c in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})")
