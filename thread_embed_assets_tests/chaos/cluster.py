"""What runs jobs as a deployment does: a code server, the daemon with its queue, run workers, a process for each step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil
from dagster._cli.workspace.cli_target import WorkspaceOpts, get_workspace_from_cli_opts
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG

from thread_embed_assets.defs.killed_runs import close_killed_runs
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets_tests.chaos.workspace import (
    FOLDER,
    JOBS,
    LOCATION,
    PROJECT,
    config_of,
    make_workspace,
    partition_of,
)
from thread_embed_assets_tests.defs.conftest import Workspace

LONGEST = 1_800.0  # seconds that anything is waited for
_POLL = 0.5  # seconds: asking costs the time of the graph itself
_MODULE = "thread_embed_assets_tests.chaos.location"


def happens(true: Callable[[], object], within: float) -> bool:
    """Whether it comes true within so many seconds; returns as soon as it does."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def wait_for(what: str, true: Callable[[], object]) -> None:
    if not happens(true, LONGEST):
        raise TimeoutError(f"waited {LONGEST:.0f} s for {what}")


@dataclass
class Cluster:
    """A workspace and the processes that serve it.

    Attributes:
        instance: of the workspace, opened by this process.
        daemon, server: running processes; None while they are down.
    """

    workspace: Workspace
    instance: dg.DagsterInstance
    daemon: subprocess.Popen[bytes] | None = None
    server: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)

    @property
    def temporary(self) -> Path:
        return self.workspace.folder / "tmp"

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            FOLDER: str(self.workspace.folder),
            ROOT_VARIABLE: str(self.workspace.layout.root),
            "DAGSTER_HOME": str(self.workspace.home),
            "PYTHONPATH": str(PROJECT),
            "TMPDIR": str(self.temporary),
            **more,
        }

    def spawn(self, *command: str, within: Sequence[str] = (), **variables: str) -> subprocess.Popen[bytes]:
        """A Python process of its own session, whose output goes to a log file; ``within`` is the command that starts it."""
        self.logs.append(self.workspace.folder / f"{len(self.logs)}.log")
        with self.logs[-1].open("wb") as log:
            return subprocess.Popen(
                [*within, sys.executable, "-W", "ignore", *command],
                env=self.environment(**variables),
                cwd=self.workspace.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def steps(self, name: str, within: Sequence[str] = (), **variables: str) -> subprocess.Popen[bytes]:
        """The graph or a job, as ``make demo`` runs it."""
        return self.spawn("-m", "thread_embed_assets_tests.chaos.steps", name, within=within, **variables)

    def start(self) -> None:
        """What is down of code server and daemon; runs that died with them are closed first, as ``make ui`` does."""
        if self.server is None:
            close_killed_runs(self.instance)
            socket = self.workspace.folder / "code.sock"
            socket.unlink(missing_ok=True)
            self.server = self.spawn(
                *("-m", "dagster", "api", "grpc", "--socket", str(socket), "-m", _MODULE, "--location-name", LOCATION)
            )
            log = self.logs[-1]
            wait_for("the code server", lambda: b"Started Dagster code server" in log.read_bytes())
        if self.daemon is None:
            self.daemon = self.spawn("-m", "dagster._daemon", "run", "-w", str(self.workspace.folder / "workspace.yaml"))

    def submit(self, job: str) -> str:
        """Put a run of the job's assets in the queue, without their checks; its id."""
        assets = [dg.AssetKey(name) for name in JOBS[job]]
        partition, config = partition_of(job), config_of(job)
        options = WorkspaceOpts(workspace=(str(self.workspace.folder / "workspace.yaml"),))
        with get_workspace_from_cli_opts(self.instance, version="", workspace_opts=options) as workspace:
            location = workspace.get_code_location(LOCATION)
            [repository] = location.get_repositories().values()
            remote = location.get_job(JobSubsetSelector(LOCATION, repository.name, job, None, assets, []))
            plan = location.get_execution_plan(remote, config, None, None, self.instance).execution_plan_snapshot
            run = self.instance.create_run(
                job_name=job,
                run_id=None,
                run_config=config,
                resolved_op_selection=None,
                step_keys_to_execute=plan.step_keys_to_execute,
                op_selection=None,
                status=None,
                root_run_id=None,
                parent_run_id=None,
                tags={PARTITION_NAME_TAG: partition} if partition else {},
                job_snapshot=remote.job_snapshot,
                execution_plan_snapshot=plan,
                parent_job_snapshot=remote.parent_job_snapshot,
                remote_job_origin=remote.get_remote_origin(),
                job_code_origin=remote.get_python_origin(),
                asset_selection=frozenset(assets),
                asset_check_selection=frozenset(),
                asset_graph=repository.asset_graph,
            )
            return self.instance.submit_run(run.run_id, workspace).run_id

    def lasted(self, run_id: str) -> float:
        """Seconds from the start of a run's worker to its end."""
        stats = self.instance.get_run_stats(run_id)
        return (stats.end_time or 0.0) - (stats.start_time or 0.0)

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def settled(self, run_id: str, retries: int = 0) -> tuple[dg.DagsterRunStatus, int]:
        """The end of a run and of the daemon's retries of it: the last one's status, and how many there were."""
        wait_for(f"run {run_id}", lambda: self._ended(run_id))
        if self._tag(run_id, WILL_RETRY_TAG) != "true":
            return self.status(run_id), retries
        wait_for(f"the retry of {run_id}", lambda: self._tag(run_id, AUTO_RETRY_RUN_ID_TAG))
        return self.settled(self._tag(run_id, AUTO_RETRY_RUN_ID_TAG), retries + 1)

    def _ended(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        # The tag comes with the failure's event, an instant after the status.
        if run is None or not run.is_finished:
            return False
        return run.status is not dg.DagsterRunStatus.FAILURE or WILL_RETRY_TAG in run.tags

    def _tag(self, run_id: str, name: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        return run.tags.get(name, "") if run else ""

    def run_workers(self) -> list[psutil.Process]:
        return _spawned(self.server.pid) if self.server else []

    def step_processes(self) -> list[psutil.Process]:
        servers = [child for worker in self.run_workers() for child in _children(worker.pid) if _runs(child, "forkserver")]
        return [step for server in servers for step in _children(server.pid)]

    def trainings(self) -> list[psutil.Process]:
        return [child for step in self.step_processes() for child in _children(step.pid) if _runs(child, "training.process")]

    def kill_all(self) -> None:
        """Everything at once, as a power cut does."""
        ours = [process for process in (self.daemon, self.server) if process is not None]
        below = [child for process in ours for child in psutil.Process(process.pid).children(recursive=True)]
        for process in [*ours, *below]:
            process.kill()
        for process in ours:
            process.wait()
        psutil.wait_procs(below)
        self.daemon = self.server = None

    def kill_daemon(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def forget_checkpoints(self) -> None:
        """So that the next training has something to do."""
        shutil.rmtree(self.workspace.layout.models / "checkpoints", ignore_errors=True)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


def _spawned(pid: int) -> list[psutil.Process]:
    """Children that multiprocessing has started to do work."""
    return [child for child in _children(pid) if _runs(child, "spawn_main")]


def _runs(process: psutil.Process, word: str) -> bool:
    try:
        return any(word in part for part in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A workspace with nothing running; whatever is started is killed in the end."""
    workspace = make_workspace(folder)
    with dg.DagsterInstance.from_config(str(workspace.home)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        made = Cluster(workspace, instance)
        try:
            yield made
        finally:
            made.kill_all()
