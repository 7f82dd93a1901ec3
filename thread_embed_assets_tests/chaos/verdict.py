"""What is found on disk and in the instance after a fault: half tables, leftovers, stuck slots, whether the model loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.package import open_model
from thread_embed_assets.storage.atomic import process_lives
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import _META, open_table
from thread_embed_assets.training.checkpoint import MANIFEST

POOL = "gpu"
_PROCESS = re.compile(r"\.[0-9a-f]{8}-(\d+)-[0-9a-f]{8}\.part(?:\.wal)?$")
_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Verdict:
    """Each in words; nothing is well if nothing is named. ``model_loads`` is None where there was none to load."""

    half_tables: tuple[str, ...]
    leftovers: tuple[str, ...]
    stuck_slots: tuple[str, ...]
    open_runs: tuple[str, ...]
    model_loads: bool | None

    @property
    def well(self) -> bool:
        return (
            not (self.half_tables or self.leftovers or self.stuck_slots or self.open_runs) and self.model_loads is not False
        )


def verdict(layout: Layout, instance: dg.DagsterInstance, temporary: Path, had_model: bool) -> Verdict:
    """What a fault left, once the run after it has ended.

    Args:
        temporary: the folder for temporary files of all processes of the suite.
        had_model: whether a model was promoted before the fault.
    """
    return Verdict(
        tuple(half_tables(layout.data)),
        (*leftovers(layout.root), *(path.name for path in sorted(temporary.glob("thread-embed-*")))),
        tuple(stuck_slots(instance)),
        tuple(f"{run.job_name} {run.run_id} is {run.status.value}" for run in instance.get_runs(_filter())),
        model_loads(layout) if had_model or layout.promoted_model.exists() else None,
    )


def _filter() -> dg.RunsFilter:
    return dg.RunsFilter(statuses=_UNFINISHED)


def half_tables(data: Path) -> Iterator[str]:
    """Tables that are visible under their name and do not open, have no fingerprint, or cannot be read to their last row.

    The fingerprint itself covers the Arrow types that were written, which the file does not keep. DuckDB's own checksums,
    which reading compares, cover the content.
    """
    for path in sorted(data.rglob("*.duckdb")):
        if path.name.startswith("."):
            continue
        try:
            yield from _wrong_tables(path)
        except duckdb.Error as error:
            yield f"{path}: {str(error).splitlines()[0]}"
        except InputError as error:
            yield str(error)


def _wrong_tables(path: Path) -> Iterator[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        names = [name for (name,) in connection.execute(f"SELECT name FROM {_META}").fetchall()]
        if not names:
            yield f"{path}: it holds no table"
        for name in names:
            handle = open_table(path, name)
            [(rows,)] = connection.execute(f'SELECT count(hash(t)) FROM "{name}" t').fetchall()
            if rows != handle.rows or not handle.fingerprint:
                yield f"{path}: {name} holds {rows} rows, not the {handle.rows} of its fingerprint"


def leftovers(root: Path) -> Iterator[str]:
    """Temporary names that no living process owns, and what finished trainings should have cleared away."""
    for path in sorted(root.rglob(".*")):
        owner = _PROCESS.search(path.name)
        if owner and not process_lives(int(owner[1])):
            yield str(path)
    for path in sorted(root.rglob("*.wal")):
        if not path.name.startswith("."):
            yield str(path)
    for manifest in sorted(root.glob(f"models/checkpoints/*/*/*/{MANIFEST}")):
        yield from (str(manifest.parent / name) for name in ("trainer", "data") if (manifest.parent / name).exists())


def stuck_slots(instance: dg.DagsterInstance) -> Iterator[str]:
    """Slots of the pool that are claimed, and steps that wait for one, for runs that have ended."""
    info = instance.event_log_storage.get_concurrency_info(POOL)
    for kind, steps in (("claimed", info.claimed_slots), ("waited for", info.pending_steps)):
        for step in steps:
            run = instance.get_run_by_id(step.run_id)
            if run is None or run.is_finished:
                yield f"{POOL} is {kind} by {step.step_key} of the ended run {step.run_id}"


def model_loads(layout: Layout) -> bool:
    try:
        open_model(layout.promoted_model, layout.promoted_model)
    except InputError:
        return False
    return True
