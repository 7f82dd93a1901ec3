"""Columns that say what they hold: for the pages of the UI, and for whoever reads the declaration of a table."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

_DESCRIPTION = b"description"

Column = tuple[str, pa.DataType, str]
"""Name, type, and what it holds."""


def described(columns: Iterable[Column]) -> pa.Schema:
    """The schema of a table; what its columns hold is told to people, and is no part of a table's fingerprint."""
    return pa.schema([pa.field(name, kind, metadata={_DESCRIPTION: holds.encode()}) for name, kind, holds in columns])


def description(field: pa.Field) -> str:
    """What a column holds; empty where nobody said so."""
    told: dict[bytes, bytes] = field.metadata or {}
    return told.get(_DESCRIPTION, b"").decode()
