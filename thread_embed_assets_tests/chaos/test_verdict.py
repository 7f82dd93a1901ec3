"""The verdict finds what is planted, and nothing where nothing is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from thread_embed_assets.storage.atomic import this_host
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import write_tables
from thread_embed_assets_tests.chaos.verdict import POOL, half_tables, leftovers, stuck_slots, verdict
from thread_embed_assets_tests.training.tiny import build_tiny_model

ROWS = pa.schema([("id", pa.int64()), ("text", pa.string())])


@dg.job
def _job() -> None: ...


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "root")
    with write_tables(layout.conversations("desk"), {"rows": ROWS}) as writer:
        writer.add_all("rows", ((number, f"message {number}") for number in range(5_000)))
    return layout


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
        yield instance


def test_a_whole_root_is_well(layout: Layout, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    shutil.copytree(build_tiny_model(tmp_path / "model"), layout.promoted_model)
    found = verdict(layout, instance, tmp_path, had_model=True)
    assert found.well and found.model_loads is True


def test_a_promoted_model_that_was_lost_or_damaged_is_told(
    layout: Layout, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert verdict(layout, instance, tmp_path, had_model=False).model_loads is None
    assert verdict(layout, instance, tmp_path, had_model=True).model_loads is False
    shutil.copytree(build_tiny_model(tmp_path / "model"), layout.promoted_model)
    os.truncate(layout.promoted_model / "model.safetensors", 1_000)
    found = verdict(layout, instance, tmp_path, had_model=True)
    assert found.model_loads is False and not found.well


def test_a_table_cut_off_is_half_a_table(layout: Layout, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    path = layout.conversations("desk")
    os.truncate(path, path.stat().st_size // 2)
    [told] = half_tables(layout.data)
    assert str(path) in told
    assert not verdict(layout, instance, tmp_path, had_model=False).well


def test_a_table_with_fewer_rows_than_its_fingerprint_says_is_half_a_table(layout: Layout) -> None:
    path = layout.conversations("desk")
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM rows WHERE id > 4000")
    assert list(half_tables(layout.data)) == [f"{path}: rows holds 4001 rows, not the 5000 of its fingerprint"]


def test_bytes_that_were_turned_are_found_by_reading_every_row(layout: Layout) -> None:
    path = layout.conversations("desk")
    content = bytearray(path.read_bytes())
    place = content.index(b"message 4321")
    content[place] ^= 0xFF
    path.write_bytes(content)
    [told] = half_tables(layout.data)
    assert "checksum" in told


def test_a_table_that_was_written_in_place_and_never_finished_is_half_a_table(layout: Layout) -> None:
    path = layout.pairs("thread", "desk")
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE pairs (id INTEGER)")
    [told] = half_tables(layout.data)
    assert str(path) in told or "stored_tables" in told


def test_what_a_dead_process_left_is_told_and_what_a_living_one_writes_is_not(layout: Layout) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    table = layout.conversations("desk")
    left, kept = (table.with_name(f".{table.name}.{this_host()}-{pid}-0123abcd.part") for pid in (gone.pid, os.getpid()))
    for path in (left, kept, table.with_name("desk.duckdb.wal")):
        path.touch()
    work = layout.checkpoints("desk", "stage1") / "0123" / "trainer"
    work.mkdir(parents=True)
    assert list(leftovers(layout.root)) == [str(left), f"{table}.wal"], "a training that is not finished may keep its work"
    (work.parent / "manifest.json").touch()
    assert str(work) in list(leftovers(layout.root))


def test_a_slot_that_an_ended_run_holds_is_stuck(layout: Layout, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    run = instance.create_run_for_job(_job, status=dg.DagsterRunStatus.STARTED)
    instance.event_log_storage.claim_concurrency_slot(POOL, run.run_id, "stage1_checkpoint")
    assert list(stuck_slots(instance)) == []
    found = verdict(layout, instance, tmp_path, had_model=False)
    assert not found.well and found.open_runs == (f"{run.job_name} {run.run_id} is STARTED",)
    instance.report_run_failed(run, "killed")
    assert any(f"claimed by stage1_checkpoint of the ended run {run.run_id}" in told for told in stuck_slots(instance))
