"""DuckDB: every vector is compared, so what it finds is exact; the baseline of the other stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.vector_store import Found, IndexedThread, VectorStore, Where, bytes_below


class DuckDbStore(VectorStore):
    """One file in a folder. A process that has it open keeps all others out."""

    def __init__(self, folder: Path, collection: str) -> None:
        super().__init__("duckdb")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._table = collection
        path = folder / f"{collection}.duckdb"
        try:
            self._connection = duckdb.connect(str(path))
        except duckdb.Error as error:
            problem = f"it cannot be opened ({str(error).splitlines()[0]})"
            raise InputError(path, problem, "Close the process that has it open, or delete it and build it anew") from error
        self._connection.execute("SET threads=1; SET enable_progress_bar=false")

    @property
    def dimension(self) -> int | None:
        query = "SELECT data_type FROM duckdb_columns() WHERE table_name = ? AND column_name = 'vector'"
        found = self._connection.execute(query, [self._table]).fetchall()
        return int(str(found[0][0]).split("[")[1].rstrip("]")) if found else None

    def count(self) -> int:
        if self.dimension is None:
            return 0
        return int(self._connection.execute(f"SELECT count(*) FROM {self._table}").fetchall()[0][0])

    def close(self) -> None:
        self._connection.close()

    def size(self) -> int:
        self._connection.execute("CHECKPOINT")
        return bytes_below(self._folder)

    def replace(self, threads: Iterable[IndexedThread], dimension: int) -> None:
        self._connection.begin()
        try:
            super().replace(threads, dimension)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def _create(self, dimension: int) -> None:
        self._connection.execute(
            f"CREATE OR REPLACE TABLE {self._table} (id VARCHAR PRIMARY KEY, vector FLOAT[{dimension}], text VARCHAR, "
            "channel VARCHAR, time DOUBLE, participants INTEGER)"
        )

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        held = list({thread.id: place for place, thread in enumerate(threads)}.values())
        rows = [threads[place] for place in held]
        incoming = pa.table(
            {
                "id": [row.id for row in rows],
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors[held].ravel()), vectors.shape[1]),
                "text": [row.text for row in rows],
                "channel": [row.channel for row in rows],
                "time": pa.array([row.time for row in rows], pa.float64()),
                "participants": pa.array([row.participants for row in rows], pa.int32()),
            }
        )
        self._connection.register("incoming", incoming)
        self._connection.execute(f"INSERT OR REPLACE INTO {self._table} SELECT * FROM incoming")
        self._connection.unregister("incoming")

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        condition, values = sql_filter(where, "?")
        query = (
            f"SELECT id, array_cosine_similarity(vector, ?::FLOAT[{len(vector)}]) AS score FROM {self._table} "
            f"WHERE {condition} ORDER BY score DESC, id LIMIT ?"
        )
        rows = self._connection.execute(query, [vector.tolist(), *values, top]).fetchall()
        return [Found(str(name), float(score)) for name, score in rows]


def open_duckdb(folder: Path, collection: str, _: str) -> VectorStore:
    """A file of this machine."""
    return DuckDbStore(folder, collection)


def sql_filter(where: Where, mark: str) -> tuple[str, list[Any]]:
    """A condition on the columns channel, time and participants, and the values of its ``mark`` s."""
    parts = [
        (f"channel = {mark}", where.channel),
        (f"time >= {mark}", where.since),
        (f"time < {mark}", where.until),
        (f"participants >= {mark}", where.participants or None),
    ]
    said = [(condition, value) for condition, value in parts if value is not None]
    return " AND ".join(condition for condition, _ in said) or "true", [value for _, value in said]
