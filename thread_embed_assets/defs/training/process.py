"""The training process: started through Dagster Pipes, or by hand with ``--job``.

Dagster is not needed: ``python -m thread_embed_assets.defs.training.process --job job.json``. The exit status is 0 when
the checkpoint is there, 2 for an error that people can mend, 75 for one that passes with time, 143 when it was stopped (what
was done is saved). Through Pipes it also stops when the step or the run that it trains for is gone, since it would hold the
GPU and its folder against whoever trains next. With several GPUs it starts one process for each through torchrun, and tells
of the first one's.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.storage.atomic import process_lives
from thread_embed_assets.training.checkpoint import MANIFEST, Checkpoint
from thread_embed_assets.training.devices import Ranks
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.stage import TrainingStopped

if TYPE_CHECKING:
    from thread_embed_assets.training.trainer import Progress

FAILED = 2
BUSY = os.EX_TEMPFAIL
KILLED = 137
STOPPED = 143

_MODULE = "thread_embed_assets.defs.training.process"
_PIPES = "DAGSTER_PIPES_CONTEXT"  # which Pipes sets for the process it starts
_LAUNCHED = "WORLD_SIZE"  # which torchrun and accelerate set for the processes they start
_LOOK_EVERY = 1.0  # seconds
TRAINS_FOR = "THREAD_EMBED_TRAINS_FOR"  # process ids: the parent, and those that the parent works for
_STATUS = "THREAD_EMBED_TRAINING_STATUS"  # where the first of several processes leaves its exit status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train one stage as a job file describes it.")
    parser.add_argument("--job", type=Path, help="job file; without it, the process takes it from Dagster Pipes")
    job_path: Path | None = parser.parse_args(arguments).job
    if job_path is None and _PIPES not in os.environ:
        parser.error("give a job file with --job, or start this through Dagster Pipes")
    if _LAUNCHED not in os.environ:
        try:
            processes = Job.load(job_path or _job_of_pipes()).process_count()
        except InputError:
            processes = 1  # which tells what is wrong with the job
        if processes > 1:
            return _launch(processes, ["--job", str(job_path)] if job_path else [])
    if not Ranks.of_this_process().leads:
        logging.disable(logging.WARNING)
        return _train(job_path or _job_of_pipes(), logging.getLogger("thread_embed_assets.training"), _ignore)
    status = _lead(job_path)
    if _STATUS in os.environ:
        Path(os.environ[_STATUS]).write_text(str(status), encoding="ascii")
    return status


def _lead(job_path: Path | None) -> int:
    """Train, and tell how it goes: on stderr, or through Pipes."""
    if job_path is not None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
        return _train(job_path, logging.getLogger("thread_embed_assets.training"), _ignore)

    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        engine = logging.getLogger("thread_embed_assets")
        engine.setLevel(logging.INFO)
        for handler in pipes.log.handlers:
            engine.addHandler(handler)
        return _train(Path(pipes.get_extra("job")), engine, pipes.report_custom_message)


def _job_of_pipes() -> Path:
    """Read without opening Pipes, which only one process may."""
    from dagster_pipes import PipesDefaultContextLoader, PipesEnvVarParamsLoader

    parameters = PipesEnvVarParamsLoader().load_context_params()  # type: ignore[no-untyped-call]
    with PipesDefaultContextLoader().load_context(parameters) as context:
        return Path((context["extras"] or {})["job"])


def _launch(processes: int, arguments: list[str]) -> int:
    """Run this module in several processes that train together; the exit status of the first."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder) / "status"
        command = [*launcher, "-m", _MODULE, *arguments]
        child = subprocess.Popen(command, env={**os.environ, _STATUS: str(status)})  # noqa: S603  ourselves
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: child.terminate())
        if TRAINS_FOR in os.environ:
            _when_orphaned(child.terminate)
        child.wait()
        # A process that was killed leaves no status: memory ran out, say. The run goes on from its last checkpoint.
        return int(status.read_text(encoding="ascii")) if status.exists() else KILLED


def _train(job_path: Path, log: logging.Logger, send: Callable[[dict[str, Any]], None]) -> int:
    _quiet_libraries()
    stop = Event()
    # Dagster forwards a cancelled run as SIGINT, systems that shut down send SIGTERM.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if TRAINS_FOR in os.environ and _LAUNCHED not in os.environ:
        _when_orphaned(stop.set)

    def report(progress: Progress) -> None:
        speed = progress.tokens / max(progress.seconds, 1e-9)
        log.info(
            "step %d/%d  loss %.4f  learning rate %.2e  %.0f tokens/s",
            *(progress.step, progress.steps, progress.loss, progress.learning_rate, speed),
        )

    try:
        checkpoint = Job.load(job_path).run(report, stop)
    except InputError as error:
        log.error("%s", error)
        return BUSY if isinstance(error, TransientError) else FAILED
    except TrainingStopped as stopped:
        log.info("%s", stopped)
        return STOPPED
    send(result(checkpoint))
    return 0


def _when_orphaned(do: Callable[[], None]) -> None:
    """Call it once one of the processes that this one trains for has ended, killed or not."""
    parent, *others = map(int, os.environ[TRAINS_FOR].split(","))

    def watch() -> None:
        never = Event()
        while os.getppid() == parent and all(map(process_lives, others)):
            never.wait(_LOOK_EVERY)
        do()

    Thread(target=watch, daemon=True).start()


def result(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the process tells the one who started it."""
    manifest = checkpoint.folder / MANIFEST
    return {"fingerprint": checkpoint.fingerprint, "manifest": str(manifest), "reused": checkpoint.reused}


def _quiet_libraries() -> None:
    """One GPU unless a launcher says otherwise, and no progress bars in a log file."""
    # With several visible GPUs and no launcher the trainer falls back to DataParallel, which splits the batch of negatives.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and the data loader's forks do not mix
    if _LAUNCHED not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    if not sys.stderr.isatty():
        import datasets

        datasets.disable_progress_bars()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _ignore(message: dict[str, Any]) -> None:
    del message


if __name__ == "__main__":
    sys.exit(main())
