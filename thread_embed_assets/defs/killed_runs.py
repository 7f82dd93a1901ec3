"""Runs whose process was killed: closed, so that nothing waits for them and their slot of the gpu pool is free.

While a code server lives it reports that a run's process has died. When both are gone, as after a power cut, nobody does:
Dagster's own run launcher cannot ask after a process, so the run would stay started, and hold its slot, for ever.
"""

from __future__ import annotations

import os
import socket

import dagster as dg
from dagster._core.storage.runs.sqlite import SqliteRunStorage
from dagster._core.storage.tags import GRPC_INFO_TAG

from thread_embed_assets.storage.atomic import process_lives

_HOST_TAG = "thread_embed/host"
_PROCESS_TAG = "thread_embed/process"
_UNFINISHED = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def of_this_process() -> dict[str, str]:
    """The tags of a run that this process executes itself."""
    return {_HOST_TAG: socket.gethostname(), _PROCESS_TAG: str(os.getpid())}


def close_killed_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs whose process on this machine is gone as failed, and give back their slots."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        process = _process(instance, run)
        if process is not None and not process_lives(process):
            print(f"closing run {run.run_id}: its process was killed", flush=True)
            instance.report_run_failed(run, "the process that ran it was killed")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    """The id of the run's process, where it is or was one of this machine."""
    if _HOST_TAG in run.tags:
        return int(run.tags[_PROCESS_TAG]) if run.tags[_HOST_TAG] == socket.gethostname() else None
    # An instance whose runs are kept in a file is of one machine; of another database nobody here knows whose run it is.
    if GRPC_INFO_TAG not in run.tags or not isinstance(instance.run_storage, SqliteRunStorage):
        return None
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            return int(str(pid.value))
    return None
