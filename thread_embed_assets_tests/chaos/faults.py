"""The faults that are injected, each at a seeded moment, and what is expected while it lasts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import dagster as dg
import psutil

from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.training.checkpoint import MODEL_FOLDER, latest_checkpoint
from thread_embed_assets_tests.chaos.cluster import LONGEST, Cluster, happens, wait_for
from thread_embed_assets_tests.chaos.workspace import GRAPH, PROJECT
from thread_embed_assets_tests.defs.conftest import SOURCE

# Root may write anywhere, but for this.
BOUND_BY_PERMISSIONS = (
    ("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override") if os.getuid() == 0 else ()
)
_FULL = 64 * 2**10  # bytes that a full disk has left
_ROOM = 64 * 2**20
_TRIES = 5


@dataclass(frozen=True)
class Injected:
    """What was done to which job, and what came of it.

    Attributes:
        job: the job that the fault met; the next run is of the same.
        where: the moment or the file.
        outcome: what the run that met it did.
        as_expected: whether that is what it should do.
        through_queue: whether the next run goes through the daemon, else by ``run_graph``'s own runner.
    """

    job: str
    where: str
    outcome: str
    as_expected: bool = True
    through_queue: bool = False


Inject = Callable[[Cluster, dict[str, float], Random], Injected]
"""Arguments: the cluster, the seconds that each job takes on it, and the draw of the moment."""
After = Literal["", "deleted", "brought back"]


def _moment(seconds: Mapping[str, float], draw: Random) -> tuple[str, float]:
    """A moment of the whole graph, as a job and the share of it that is over."""
    at = draw.uniform(0, sum(seconds.values()))
    for job, lasts in seconds.items():
        if at < lasts:
            return job, at / lasts
        at -= lasts
    raise AssertionError("the moment lies after the graph's end")


def _kill(victim: str) -> Inject:
    """Through the queue: SIGKILL to the victim, at a moment of the graph."""

    def inject(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
        job, share = _moment(seconds, draw) if victim != "training" else ("train", draw.random())
        run = _run_up_to(cluster, job, share, seconds, victim)
        where = f"{share:.0%} into {job}: {', '.join(_running(cluster, run)) or 'no step'}"
        if victim == "daemon":
            cluster.kill_daemon()
        elif victim == "machine":
            cluster.kill_all()
        else:
            for process in _victims(cluster, victim)[:1]:
                process.kill()
        cluster.start()
        status, retries = cluster.settled(run)
        outcome = status.value.lower() + (f" after {retries} retries of the run" if retries else "")
        return Injected(job, where, outcome, through_queue=True)

    return inject


def _run_up_to(cluster: Cluster, job: str, share: float, seconds: dict[str, float], victim: str) -> str:
    """A run of the job that has come so far and has a victim; one that ended before tells how long the job really takes."""
    for _ in range(_TRIES):
        if job == "train":
            cluster.forget_checkpoints()
        run = cluster.submit(job)
        wait_for("the run to start", lambda run=run: cluster.status(run) in {dg.DagsterRunStatus.STARTED, *_ENDED})
        ended = happens(lambda run=run: cluster.status(run) in _ENDED, share * seconds[job])
        if not ended:
            wait_for(f"a {victim}", lambda run=run: _victims(cluster, victim) or cluster.status(run) in _ENDED)
        if cluster.status(run) not in _ENDED:
            return run
        seconds[job] = cluster.lasted(run)
    raise RuntimeError(f"no {victim} to kill was met at {share:.0%} of {job}")


def _victims(cluster: Cluster, victim: str) -> list[psutil.Process]:
    if victim == "step":
        return cluster.step_processes()
    return cluster.trainings() if victim == "training" else cluster.run_workers()


_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def _running(cluster: Cluster, run: str) -> list[str]:
    stats = cluster.instance.get_run_step_stats(run)
    return [step.step_key for step in stats if step.start_time is not None and step.end_time is None]


def kill_run_graph(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """``make demo``'s own process, which runs its steps itself; what it has started lives on."""
    cluster.forget_checkpoints()
    shutil.rmtree(cluster.workspace.layout.data / "pairs")
    process = cluster.steps(GRAPH)
    at = draw.uniform(0, sum(seconds.values()))
    ended = happens(lambda: process.poll() is not None, at)
    process.kill()
    process.wait()
    return Injected(GRAPH, f"{at:.0f} s into the graph", "the graph had ended" if ended else "killed")


def cancel_with_slot(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """A run is stopped from the UI while it trains, and so holds the slot."""
    cluster.forget_checkpoints()
    run = cluster.submit("train")
    claimed = cluster.instance.event_log_storage
    wait_for("the slot to be claimed", lambda: claimed.get_concurrency_info("gpu").claimed_slots)
    happens(lambda: cluster.status(run) in _ENDED, draw.uniform(0, seconds["train"] / 2))
    held = bool(claimed.get_concurrency_info("gpu").claimed_slots)
    cluster.instance.run_launcher.terminate(run)
    status, _ = cluster.settled(run)
    wait_for("the slot to be given back", lambda: not claimed.get_concurrency_info("gpu").claimed_slots)
    expected = held and status is dg.DagsterRunStatus.CANCELED
    return Injected("train", "while it trained", f"{status.value.lower()}, slot given back", expected, through_queue=True)


def _ended_with(cluster: Cluster, process: subprocess.Popen[bytes], wanted: str) -> tuple[str, bool]:
    """How a job ended, and whether its log says what it should; nothing wanted means that it should succeed."""
    log = cluster.logs[-1]
    process.wait(LONGEST)
    said = log.read_text(encoding="utf-8", errors="replace")
    if not wanted:
        return ("succeeded" if process.returncode == 0 else "failed"), process.returncode == 0
    line = next((line for line in said.splitlines() if wanted in line), "")
    return (f"failed: {wanted}" if line else "failed without saying why"), process.returncode != 0 and bool(line)


def disk_full(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """The root on a tmpfs that has 64 KiB left; where none can be mounted (no rights) the suite says so and fails."""
    job = draw.choice(["prepare", "pair", "train", "evaluate", "report"])
    if job == "train":
        cluster.forget_checkpoints()
    root = cluster.workspace.layout.root
    with _on_tmpfs(root):
        used = shutil.disk_usage(root).used
        _mount("-o", f"remount,size={used + _FULL}", str(root))
        outcome, expected = _ended_with(cluster, cluster.steps(job), "the disk is full")
        _mount("-o", f"remount,size={used + _ROOM}", str(root))
    return Injected(job, f"{job}, 64 KiB left", outcome, expected)


@contextmanager
def _on_tmpfs(root: Path) -> Iterator[None]:
    """The folder's content on a tmpfs in its place, and back on the disk afterwards."""
    beside = root.with_name("root-on-disk")
    root.rename(beside)
    root.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={_ROOM * 4}", "tmpfs", str(root))
    try:
        shutil.copytree(beside, root, dirs_exist_ok=True, symlinks=True)
        yield
        shutil.rmtree(beside)
        shutil.copytree(root, beside, symlinks=True)
    finally:
        subprocess.run(["umount", str(root)], check=True)
        root.rmdir()
        beside.rename(root)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


_PLACES = {
    "pair": "data/pairs/thread",
    "evaluate": "data/benchmark/results",
    "report": "models",
    "prepare": "data/conversations",
}


def permission_lost(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """The folder of a job's results has become read-only."""
    job = draw.choice(sorted(_PLACES))
    folder = cluster.workspace.layout.root / _PLACES[job]
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    outcome, expected = _ended_with(cluster, cluster.steps(job, within=BOUND_BY_PERMISSIONS), "the folder cannot be written")
    folder.chmod(mode)
    return Injected(job, f"{_PLACES[job]} read-only", outcome, expected)


def clock_jump(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """The clock a year ahead for one training, and back for the next one, of another configuration; by libfaketime."""
    library = os.environ.get("CHAOS_FAKETIME", "")
    if not Path(library).is_file():
        raise FileNotFoundError("CHAOS_FAKETIME does not name libfaketime.so.1")
    days = draw.choice([-365, 365])
    cluster.forget_checkpoints()
    shifted = {
        "LD_PRELOAD": library,
        "FAKETIME": f"{days:+d}d",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "clock"), str(PROJECT)]),
    }
    outcome, expected = _ended_with(cluster, cluster.steps("train", **shifted), "")
    return Injected("train", f"{days:+d} days for one training", outcome, expected)


def _damage(file: Callable[[Cluster], Path], job: str, wanted: str, turned: int = 0, after: After = "") -> Inject:
    """A file that the job reads is cut in half, or ``turned`` of its bytes are; the next run is of the whole graph.

    Args:
        wanted: what the job's log must say; empty where it must mend the file itself.
        after: what somebody does before the next run: deletes the file, as the error asks, or brings it back.
    """

    def inject(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
        path = file(cluster)
        whole = path.read_bytes()
        content = bytearray(whole)
        for _ in range(turned):
            content[draw.randrange(len(content) // 4, len(content))] ^= 0xFF
        path.write_bytes(content if turned else content[: len(content) // 2])
        outcome, expected = _ended_with(cluster, cluster.steps(job), wanted)
        if after == "deleted":
            path.unlink()
        elif after == "brought back":
            path.write_bytes(whole)
        return Injected(GRAPH, f"{path.parent.name}/{path.name}", f"{outcome}; {after}" if after else outcome, expected)

    return inject


def _table(name: str) -> Callable[[Cluster], Path]:
    return lambda cluster: STORED[name].path(cluster.workspace.layout, SOURCE)


def _weights(cluster: Cluster) -> Path:
    checkpoint = latest_checkpoint(cluster.workspace.layout, SOURCE, "stage2")
    assert checkpoint is not None
    return checkpoint.folder / MODEL_FOLDER / "model.safetensors"


def _manifest(cluster: Cluster) -> Path:
    return _weights(cluster).parents[1] / "manifest.json"


def _users(cluster: Cluster) -> Path:
    return cluster.workspace.export / "users.json"


def two_at_once(cluster: Cluster, seconds: dict[str, float], draw: Random) -> Injected:
    """Two processes make the same partition; of two trainings one waits its turn in the pool, or is told to come back."""
    job = draw.choice(["pair", "train"])
    if job == "train":
        cluster.forget_checkpoints()
    both = [cluster.steps(job), cluster.steps(job)]
    for process in both:
        process.wait(LONGEST)
    codes = sorted(process.returncode for process in both)
    return Injected(job, f"two of {job}", f"{codes.count(0)} of 2 succeeded", 0 in codes)


KILLS: dict[str, Inject] = {
    "kill step": _kill("step"),
    "kill run worker": _kill("worker"),
    "kill daemon": _kill("daemon"),
}
OTHERS: dict[str, Inject] = {
    "kill training process": _kill("training"),
    "kill all at once": _kill("machine"),
    "kill run_graph": kill_run_graph,
    "run cancelled with the gpu slot": cancel_with_slot,
    "disk full": disk_full,
    "permission lost": permission_lost,
    "clock jump": clock_jump,
    "DuckDB file cut": _damage(_table("thread_pairs"), "train", "cannot be read as DuckDB"),
    "DuckDB bytes turned": _damage(_table("conversations"), "pair", "cannot be read as DuckDB", turned=64, after="deleted"),
    "safetensors cut": _damage(_weights, "train", ""),
    "manifest cut": _damage(_manifest, "train", "the manifest is not JSON", after="deleted"),
    "export's JSON cut": _damage(_users, "prepare", "not valid JSON", after="brought back"),
    "two runs of a partition at once": two_at_once,
}
