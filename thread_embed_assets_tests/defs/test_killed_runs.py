"""Runs whose process is gone: closed by whoever comes next."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG

from thread_embed_assets.defs.killed_runs import _HOST_TAG, _PROCESS_TAG, close_killed_runs, of_this_process


@dg.job(name="train")
def _nothing() -> None: ...


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        yield instance


def _started(instance: dg.DagsterInstance, tags: dict[str, str], process: int | None = None) -> str:
    run = instance.create_run_for_job(_nothing, tags=tags, status=dg.DagsterRunStatus.STARTED)
    if process is not None:  # what the code server's run process says of itself
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(process))
    return run.run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def _claims(instance: dg.DagsterInstance, run_id: str) -> bool:
    return bool(instance.event_log_storage.claim_concurrency_slot("gpu", run_id, "stage1_checkpoint").is_claimed)


def test_a_killed_run_is_closed_and_its_gpu_slot_is_free_again(instance: dg.DagsterInstance, gone: int) -> None:
    killed = _started(instance, {**of_this_process(), _PROCESS_TAG: str(gone)})
    living = _started(instance, of_this_process())
    assert _claims(instance, killed) and not _claims(instance, living)
    close_killed_runs(instance)
    assert _status(instance, killed) is dg.DagsterRunStatus.FAILURE
    assert _status(instance, living) is dg.DagsterRunStatus.STARTED
    assert _claims(instance, living)


def test_a_run_of_a_code_server_that_died_with_it_is_closed(instance: dg.DagsterInstance, gone: int) -> None:
    launched = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": "gone"})}
    killed, living = _started(instance, launched, gone), _started(instance, launched, os.getpid())
    assert _claims(instance, killed)
    close_killed_runs(instance)
    assert _status(instance, killed) is dg.DagsterRunStatus.FAILURE
    assert _status(instance, living) is dg.DagsterRunStatus.STARTED
    assert _claims(instance, living)


def test_a_run_of_another_machine_and_one_that_nothing_is_known_of_stay(instance: dg.DagsterInstance, gone: int) -> None:
    elsewhere = _started(instance, {_HOST_TAG: f"not-{socket.gethostname()}", _PROCESS_TAG: str(gone)})
    silent = _started(instance, {GRPC_INFO_TAG: "{}"})
    close_killed_runs(instance)
    assert {_status(instance, run) for run in (elsewhere, silent)} == {dg.DagsterRunStatus.STARTED}
