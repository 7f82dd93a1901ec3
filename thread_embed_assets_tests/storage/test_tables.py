from __future__ import annotations

import itertools
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage import tables
from thread_embed_assets.storage.tables import (
    BATCH_ROWS,
    TableHandle,
    TableWriter,
    connect_in_memory,
    connect_read_only,
    open_table,
    write_tables,
)

from .processes import message_as_nobody

SCHEMA = pa.schema(
    [("name", pa.string()), ("size", pa.int64()), ("seen", pa.timestamp("us", tz="UTC")), ("parts", pa.list_(pa.string()))]
)
Row = tuple[Any, ...]
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
ROWS: list[Row] = [("a", 1, NOON, ["x", "y"]), ("b", 2, None, []), ("c", None, NOON, None)]


def write(path: Path, rows: Sequence[Row], table: str = "things") -> TableHandle:
    with write_tables(path, {table: SCHEMA}) as writer:
        writer.add_all(table, rows)
    return open_table(path, table)


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    handle = write(tmp_path / "t.duckdb", ROWS)
    assert handle.rows == 3
    assert [tuple(row.values()) for row in handle.rows_as_dicts()] == ROWS
    assert list(handle.rows_as_dicts(["size"], "name <> 'c'", "name DESC")) == [{"size": 2}, {"size": 1}]


def test_batches_are_written_and_read_in_pieces(tmp_path: Path) -> None:
    count = BATCH_ROWS + 5
    with write_tables(tmp_path / "t.duckdb", {"things": SCHEMA}) as writer:
        writer.add_all("things", ((str(n), n, None, []) for n in range(count)))
        writer.add_batch("things", pa.table({"name": ["z"], "size": [-1], "seen": [None], "parts": [None]}, schema=SCHEMA))
    handle = open_table(tmp_path / "t.duckdb", "things")
    sizes = [batch.num_rows for batch in handle.scan(batch_rows=4096)]
    assert sum(sizes) == handle.rows == count + 1
    assert max(sizes) <= 4096
    assert sorted(row["size"] for row in handle.rows_as_dicts(["size"])) == list(range(-1, count))


def test_counts_stand_beside_every_table_of_the_file(tmp_path: Path) -> None:
    with write_tables(tmp_path / "t.duckdb", {"things": SCHEMA, "others": SCHEMA}) as writer:
        writer.count("dropped")
        writer.count("dropped", 4)
        writer.add("others", ROWS[0])
    things, others = (open_table(tmp_path / "t.duckdb", name) for name in ("things", "others"))
    assert things.counts == others.counts == {"dropped": 5}
    assert (things.rows, others.rows) == (0, 1)
    assert things.fingerprint != others.fingerprint


def test_a_row_of_the_wrong_width_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"), write_tables(tmp_path / "t.duckdb", {"things": SCHEMA}) as writer:
        writer.add("things", ("a", 1))
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.permutations([*ROWS, ("a", 1, NOON, ["x", "y"])]))
def test_the_fingerprint_is_of_the_content_not_of_order_or_time(tmp_path: Path, rows: list[Row]) -> None:
    first = write(tmp_path / "one.duckdb", [*ROWS, ROWS[0]])
    assert write(tmp_path / "two.duckdb", rows).fingerprint == first.fingerprint


def test_the_fingerprint_tells_other_content(tmp_path: Path) -> None:
    swapped = [("a", 2, NOON, ["x", "y"]), ("b", 1, None, []), ROWS[2]]
    contents: list[list[Row]] = [
        ROWS,
        ROWS[:2],
        [],
        [*ROWS, ROWS[0]],
        [*ROWS, ROWS[0], ROWS[0]],
        [ROWS[0], ROWS[0], ROWS[2]],
        [ROWS[1], ROWS[1], ROWS[2]],
        swapped,
        [("A", *ROWS[0][1:]), *ROWS[1:]],
        [ROWS[0], ("b", 2, NOON, []), ROWS[2]],
        [("a", 1, NOON, ["y", "x"]), *ROWS[1:]],
    ]
    found = [write(tmp_path / f"{n}.duckdb", rows).fingerprint for n, rows in enumerate(contents)]
    assert len(set(found)) == len(contents)


def test_the_schema_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    found = set()
    for name in ("a", "b"):
        with write_tables(tmp_path / "t.duckdb", {"t": pa.schema([(name, pa.int64())])}) as writer:
            writer.add("t", (1,))
        found.add(open_table(tmp_path / "t.duckdb", "t").fingerprint)
    assert len(found) == 2


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    before = write(path, ROWS)
    with pytest.raises(ZeroDivisionError), write_tables(path, {"things": SCHEMA}) as writer:
        writer.add_all("things", ROWS[:1] * (BATCH_ROWS + 1))
        raise ZeroDivisionError
    assert open_table(path, "things") == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.duckdb"]


def test_readers_keep_the_old_file_while_a_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    write(path, ROWS)
    with write_tables(path, {"things": SCHEMA}) as writer:
        writer.add("things", ROWS[0])
        assert open_table(path, "things").rows == 3
    assert open_table(path, "things").rows == 1


def write_many(path: Path, gate: Any) -> None:
    with write_tables(path, {"things": SCHEMA}) as writer:
        gate.wait()
        writer.add_all("things", ((str(n), n, None, []) for n in range(20_000)))


def test_four_processes_write_four_whole_files_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(4, timeout=30)
    paths = [tmp_path / f"{n}.duckdb" for n in range(4)]
    processes = [context.Process(target=write_many, args=(path, gate)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [open_table(path, "things").rows for path in paths] == [20_000] * 4
    assert len({open_table(path, "things").fingerprint for path in paths}) == 1
    assert sorted(tmp_path.iterdir()) == paths


def test_two_processes_write_the_same_file_and_the_last_one_stays_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(2, timeout=30)
    processes = [context.Process(target=write_many, args=(tmp_path / "t.duckdb", gate)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert open_table(tmp_path / "t.duckdb", "things").rows == 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["t.duckdb"]


def write_for_ever(path: Path) -> None:
    with write_tables(path, {"things": SCHEMA}) as writer:
        for n in itertools.count():
            writer.add("things", (str(n), n, None, []))


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    before = write(path, ROWS)
    process = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path,))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".t.duckdb.*.part*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(tmp_path.glob(".t.duckdb.*.part*"))
    assert open_table(path, "things") == before
    write(path, ROWS[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["t.duckdb"]


def noise(writer: TableWriter) -> None:
    writer.add_all("things", ((secrets.token_hex(200), n, None, []) for n in range(20_000)))


def test_a_really_full_disk_is_told_and_the_old_file_stays(small_disk: Path) -> None:
    path = small_disk / "t.duckdb"
    with write_tables(path, {"things": SCHEMA.remove(3).remove(2)}) as writer:
        writer.add("things", ("a", 1))
    with pytest.raises(InputError) as caught, write_tables(path, {"things": SCHEMA}) as writer:
        noise(writer)
    assert caught.value.place == str(path)
    assert "disk is full" in caught.value.problem
    assert open_table(path, "things").rows == 1
    assert [p.name for p in small_disk.iterdir()] == ["t.duckdb"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        duckdb.IOException('IO Error: Could not write file "x": No space left on device'),
        duckdb.TransactionException("TransactionContext Error: Failed to commit: ... No space left on device"),
        duckdb.FatalException("FATAL Error: database has been invalidated: No space left on device"),
    ],
)
def test_a_full_disk_is_told_whichever_way_it_is_raised(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "t.duckdb"
    before = write(path, ROWS)
    with pytest.raises(InputError, match="disk is full"), write_tables(path, {"things": SCHEMA}):
        raise error
    assert open_table(path, "things") == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.duckdb"]


def test_other_errors_of_duckdb_are_not_dressed_up(tmp_path: Path) -> None:
    message = 'IO Error: Cannot open file "/elsewhere/x.duckdb": Permission denied'
    with pytest.raises(duckdb.IOException, match="elsewhere"), write_tables(tmp_path / "t.duckdb", {"things": SCHEMA}):
        raise duckdb.IOException(message)


def test_an_unwritable_folder_is_told(public_path: Path) -> None:
    path = public_path / "t.duckdb"
    public_path.chmod(0o555)
    message = message_as_nobody(lambda: write(path, ROWS))
    assert message.startswith(f"InputError: {path}: the folder cannot be written")


def test_a_missing_file_table_and_damage_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with pytest.raises(InputError, match="there is no such table yet"):
        open_table(path, "things")
    write(path, ROWS)
    with pytest.raises(InputError, match="holds no table 'others'"):
        open_table(path, "others")
    with duckdb.connect(str(tmp_path / "foreign.duckdb")) as connection:
        connection.execute("CREATE TABLE things (name VARCHAR)")
    with pytest.raises(InputError, match="cannot be read as DuckDB"):
        open_table(tmp_path / "foreign.duckdb", "things")


@pytest.mark.parametrize("content", [b"", b"not a database at all\n" * 400])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.duckdb"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_table(path, "things")
    assert caught.value.place == str(path)
    assert "Delete it" in caught.value.remedy


@pytest.fixture
def large(tmp_path: Path) -> TableHandle:
    return write(tmp_path / "t.duckdb", [(secrets.token_hex(100), n, None, []) for n in range(5_000)])


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_told(large: TableHandle, share: float) -> None:
    whole = large.path.read_bytes()
    large.path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="cannot be read as DuckDB") as caught:
        list(open_table(large.path, "things").scan())
    assert caught.value.place == str(large.path)


def test_a_damaged_block_is_told(large: TableHandle) -> None:
    whole = large.path.read_bytes()
    middle = len(whole) // 2
    large.path.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    with pytest.raises(InputError, match="cannot be read as DuckDB") as caught:
        list(open_table(large.path, "things").rows_as_dicts())
    assert caught.value.place == str(large.path)


def test_a_file_that_went_away_is_told(large: TableHandle) -> None:
    large.path.unlink()
    with pytest.raises(InputError, match=r"Delete it\. Materialise"):
        list(large.scan())


def test_a_wrong_query_is_not_called_damage(large: TableHandle) -> None:
    with pytest.raises(duckdb.BinderException):
        list(large.scan(["no_such_column"]))


def test_one_view_stands_over_all_files_of_a_table(tmp_path: Path) -> None:
    handles = [write(tmp_path / f"it's {n}.duckdb", [(str(n), n, None, [])]) for n in range(3)]
    other = write(tmp_path / "other.duckdb", ROWS, table="others")
    with connect_read_only([*handles, handles[0], other]) as connection:
        assert connection.execute("SELECT size FROM things ORDER BY 1").fetchall() == [(0,), (1,), (2,)]
        assert connection.execute("SELECT count(*) FROM others").fetchall() == [(3,)]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    handle = write(tmp_path / "t.duckdb", ROWS)
    with connect_read_only([handle]) as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("DELETE FROM part_0.things")
    assert open_table(handle.path, "things") == handle


@pytest.mark.parametrize("rows_at_once", [1, 7, 122_880])
def test_rows_keep_the_order_in_which_they_were_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(tables, "_INSERTED_ROWS", rows_at_once)
    schema = pa.schema([("n", pa.int64())])
    with write_tables(tmp_path / "t.duckdb", {"things": schema, "others": schema}) as writer:
        for start in range(0, 100, 10):
            writer.add_all("things", ((n,) for n in range(start, start + 4)))
            batch = pa.record_batch({"n": pa.array(range(start + 4, start + 10))})
            writer.add_batch("things", batch if start % 20 else pa.Table.from_batches([batch.slice(0, 3), batch.slice(3)]))
            writer.add("others", (start,))
    handle = open_table(tmp_path / "t.duckdb", "things")
    assert [row["n"] for row in handle.rows_as_dicts()] == list(range(100))
    assert [row["n"] for row in open_table(tmp_path / "t.duckdb", "others").rows_as_dicts()] == list(range(0, 100, 10))


def test_large_rows_are_inserted_before_they_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_INSERTED_BYTES", 10_000)
    schema = pa.schema([("text", pa.string())])
    with write_tables(tmp_path / "t.duckdb", {"things": schema}) as writer:
        for _ in range(100):
            writer.add_batch("things", pa.record_batch({"text": ["x" * 1_000] * 4}))
            assert sum(batch.nbytes for batch in writer._batches["things"]) < 10_000
    assert open_table(tmp_path / "t.duckdb", "things").rows == 400


def test_a_connection_in_memory_spills_to_its_folder_and_leaves_nothing(tmp_path: Path) -> None:
    with connect_in_memory(tmp_path / "spill", "20MB") as connection:
        query = "SELECT value FROM duckdb_settings() WHERE name IN ('max_memory', 'temp_directory') ORDER BY name"
        assert connection.execute(query).fetchall() == [("19.0 MiB",), (str(tmp_path / "spill"),)]
        query = "SELECT count(*) FROM (SELECT DISTINCT md5(i::VARCHAR) || repeat('x', 50) AS t FROM range(300_000) r(i))"
        assert connection.execute(query).fetchall() == [(300_000,)]
    assert list(tmp_path.iterdir()) == []


def test_no_progress_bar_is_drawn_among_what_a_session_prints(tmp_path: Path) -> None:
    """DuckDB draws one where there is no script, as in a notebook, when a query takes more than two seconds."""
    path = write(tmp_path / "t.duckdb", ROWS).path
    code = (
        "import sys, duckdb; from pathlib import Path\n"
        "from thread_embed_assets.storage.tables import connect_read_only, open_table, write_tables\n"
        "path = Path(sys.argv[1]); handle = open_table(path, 'things')\n"
        "query = \"SELECT value FROM duckdb_settings() WHERE name = 'enable_progress_bar'\"\n"
        "with connect_read_only([handle]) as c, write_tables(path, {'things': handle.schema}) as w:\n"
        "    print([x.execute(query).fetchall()[0][0] for x in (duckdb.connect(), c, w._connection)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "['true', 'false', 'false']\n"
