"""DuckDB tables, one file per (table, source): streamed in, renamed into place, handed on as handles.

DuckDB locks a file that is open for writing against every other process. With one file per partition, partitions are
written side by side and a reader never sees half a table.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import (
    disk_full,
    not_writable,
    readable_disk_errors,
    remove_abandoned,
    temporary_beside,
)

BATCH_ROWS = 8_192
# DuckDB's own row group: as many rows at once go to the file as they are, fewer go through its log and are written twice.
_INSERTED_ROWS = 122_880
_INSERTED_BYTES = 32 * 2**20
# DuckDB keeps the blocks that it has read or written in memory up to its limit, and several connections may be open at once.
STREAM_MEMORY = "256MB"
_SETTINGS = "SET threads=1; SET preserve_insertion_order=true; SET enable_progress_bar=false"
_META = "stored_tables"
_REMEDY = "Materialise the asset that writes it again"


@dataclass(frozen=True)
class TableHandle:
    """A finished table on disk: what flows between assets in place of rows."""

    path: Path
    table: str
    rows: int
    fingerprint: str
    schema: pa.Schema = field(compare=False)
    counts: Mapping[str, int] = field(default_factory=dict, compare=False)

    def scan(
        self, columns: Sequence[str] = (), where: str = "", order_by: str = "", batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The rows in Arrow batches, at most ``batch_rows`` each; ``where`` and ``order_by`` are SQL."""
        with connect_read_only([self], "1GB" if order_by else STREAM_MEMORY) as connection:
            wanted = ", ".join(f'"{c}"' for c in columns) or "*"
            query = f'SELECT {wanted} FROM "{self.table}"'
            query += f" WHERE {where}" if where else ""
            query += f" ORDER BY {order_by}" if order_by else ""
            yield from connection.sql(query).to_arrow_reader(batch_rows)

    def rows_as_dicts(self, columns: Sequence[str] = (), where: str = "", order_by: str = "") -> Iterator[dict[str, Any]]:
        for batch in self.scan(columns, where, order_by):
            yield from batch.to_pylist()


class TableWriter:
    """Appends rows to the tables of one file that is not yet visible to anybody; they stay in the order of appending."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, schemas: Mapping[str, pa.Schema]) -> None:
        self.counts: dict[str, int] = {}
        self._connection = connection
        self._schemas = dict(schemas)
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in schemas}
        self._batches: dict[str, list[pa.RecordBatch]] = {name: [] for name in schemas}
        for name, schema in self._schemas.items():
            connection.register("incoming", schema.empty_table())
            connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')
            connection.unregister("incoming")

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Append one row, its values in the order of the table's schema."""
        rows = self._rows[table]
        rows.append(row)
        if len(rows) >= BATCH_ROWS:
            self._gather(table)

    def add_all(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            self.add(table, row)

    def add_batch(self, table: str, batch: pa.RecordBatch | pa.Table) -> None:
        """Append the rows of Arrow columns in the order of the table's schema, which costs a tenth of :meth:`add`."""
        self._gather(table)
        self._keep(table, batch.to_batches() if isinstance(batch, pa.Table) else [batch])

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count that is stored beside the tables and shown as metadata."""
        self.counts[name] = self.counts.get(name, 0) + by

    def flush(self, table: str) -> None:
        self._gather(table)
        self._insert(table)

    def _gather(self, table: str) -> None:
        rows = self._rows[table]
        if rows:
            self._keep(table, [record_batch(rows, self._schemas[table])])
            rows.clear()

    def _keep(self, table: str, batches: Sequence[pa.RecordBatch]) -> None:
        kept = self._batches[table]
        kept.extend(batches)
        if sum(b.num_rows for b in kept) >= _INSERTED_ROWS or sum(b.nbytes for b in kept) >= _INSERTED_BYTES:
            self._insert(table)

    def _insert(self, table: str) -> None:
        kept = self._batches[table]
        if kept:
            self._connection.register("incoming", pa.Table.from_batches(kept))
            self._connection.execute(f'INSERT INTO "{table}" SELECT * FROM incoming')
            self._connection.unregister("incoming")
            kept.clear()

    def finish(self) -> None:
        counts = json.dumps(self.counts, sort_keys=True)
        self._connection.execute(f"CREATE TABLE {_META} (name VARCHAR, rows BIGINT, fingerprint VARCHAR, counts VARCHAR)")
        for name, schema in self._schemas.items():
            self.flush(name)
            rows, digest = _content(self._connection, name, schema)
            self._connection.execute(f"INSERT INTO {_META} VALUES (?, ?, ?, ?)", [name, rows, digest, counts])


def record_batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as Arrow columns; their values are in the order of the schema."""
    return of_columns(list(zip(*rows, strict=True)) or [()] * len(schema), schema)


def of_columns(columns: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Python columns as Arrow columns, in the order of the schema."""
    arrays = [pa.array(values, type=kind.type) for values, kind in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _content(connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema) -> tuple[int, str]:
    """Row count and a fingerprint of the rows as a multiset: neither time nor row order enters it."""
    found = connection.execute(
        f"SELECT count(*), coalesce(sum(h), 0)::VARCHAR, coalesce(bit_xor(h), 0)::VARCHAR "
        f'FROM (SELECT hash(COLUMNS(*))::UBIGINT AS h FROM (SELECT t FROM "{table}" t))'
    ).fetchall()[0]
    columns = schema.to_string(show_field_metadata=False, show_schema_metadata=False)  # not what is told of them
    text = json.dumps([columns, *map(str, found)])
    return int(found[0]), hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def write_tables(path: Path, schemas: Mapping[str, pa.Schema], memory_limit: str = STREAM_MEMORY) -> Iterator[TableWriter]:
    """Write the tables of one file; the file appears at ``path`` only when the block has succeeded.

    Raises:
        InputError: the disk is full or the folder cannot be written. The previous file stays.
    """
    with readable_disk_errors(path):
        part = temporary_beside(path)
        try:
            with duckdb.connect(str(part)) as connection:
                connection.execute(f"{_SETTINGS}; SET memory_limit='{memory_limit}'")
                writer = TableWriter(connection, schemas)
                yield writer
                writer.finish()
            part.replace(path)
        except duckdb.Error as error:  # DuckDB gives no errno, and wraps a full disk in several of its classes
            if os.strerror(errno.ENOSPC) in str(error):
                raise disk_full(path) from error
            if part.name in str(error) and any(os.strerror(n) in str(error) for n in (errno.EACCES, errno.EROFS)):
                raise not_writable(path) from error
            raise
        finally:
            part.unlink(missing_ok=True)
            part.with_name(part.name + ".wal").unlink(missing_ok=True)
            remove_abandoned(path)


def open_table(path: Path, table: str) -> TableHandle:
    """The handle of a finished table.

    Raises:
        InputError: there is no such file, it is damaged, or it was not written by :func:`write_tables`.
    """
    if not path.exists():
        raise InputError(path, "there is no such table yet", _REMEDY)
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            query = f"SELECT rows, fingerprint, counts FROM {_META} WHERE name = ?"
            found = connection.execute(query, [table]).fetchall()
            if not found:
                raise InputError(path, f"the file holds no table {table!r}", _REMEDY)
            schema = connection.sql(f'SELECT * FROM "{table}" LIMIT 0').to_arrow_table().schema
    except duckdb.Error as error:
        raise _damaged(path, error) from error
    rows, fingerprint, counts = found[0]
    return TableHandle(path, table, int(rows), str(fingerprint), schema, json.loads(counts))


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(path, f"the file cannot be read as DuckDB ({str(error).splitlines()[0]})", f"Delete it. {_REMEDY}")


@contextmanager
def connect_read_only(handles: Sequence[TableHandle], memory_limit: str = "1GB") -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB in which every table name is one view over the handles that carry it.

    Rows come in the order in which they were written, unless the query orders them.

    Raises:
        InputError: one of the files is gone or damaged, be it found only while its rows are read.
    """
    # DuckDB's default is one folder for all processes that run in the same place.
    spill = Path(tempfile.gettempdir()) / f"thread-embed-{os.getpid()}-{secrets.token_hex(4)}"
    with _readable_damage([h.path for h in handles]), connect_in_memory(spill, memory_limit) as connection:
        parts: dict[str, list[str]] = {}
        for number, path in enumerate(dict.fromkeys(h.path for h in handles)):
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS part_{number} (READ_ONLY)")
            for name in dict.fromkeys(h.table for h in handles if h.path == path):
                parts.setdefault(name, []).append(f'SELECT * FROM part_{number}."{name}"')
        for name, selects in parts.items():
            connection.execute(f'CREATE VIEW "{name}" AS {" UNION ALL BY NAME ".join(selects)}')
        yield connection


@contextmanager
def connect_in_memory(spill: Path, memory_limit: str = STREAM_MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty DuckDB that writes what goes beyond its memory to the folder ``spill``, and removes it in the end."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            f"{_SETTINGS}; SET memory_limit='{memory_limit}'; SET temp_directory='{spill}'; SET TimeZone='UTC'"
        )
        yield connection


@contextmanager
def _readable_damage(paths: Sequence[Path]) -> Iterator[None]:
    """DuckDB names the file in most such errors; in a wrong checksum it does not."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        named = [path for path in paths if str(path) in str(error)]
        if named or (paths and "Corrupt database file" in str(error)):
            raise _damaged((named or list(paths))[0], error) from error
        raise
