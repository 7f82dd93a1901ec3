"""Metadata that every table's page shows."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from thread_embed_assets.storage.tables import TableHandle

OWNERS = ["team:threadembed"]


def table_schema(schema: pa.Schema) -> dg.TableSchema:
    return dg.TableSchema(columns=[dg.TableColumn(field.name, str(field.type)) for field in schema])


def table_metadata(handle: TableHandle) -> dict[str, Any]:
    """Rows, place, fingerprint and the counts that the build left."""
    return {
        "dagster/partition_row_count": handle.rows,
        "dagster/uri": handle.path.as_uri(),
        "fingerprint": handle.fingerprint,
        "counts": counts_table(handle.counts),
    }


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
