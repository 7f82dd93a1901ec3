"""The training process: started through Dagster Pipes, or by hand with ``--job``.

Dagster is not needed: ``python -m thread_embed_assets.defs.training.process --job job.json``. The exit status is 0 when
the checkpoint is there, 2 for an error that people can mend, 143 when it was stopped (what was done is saved).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.checkpoint import MANIFEST, Checkpoint
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.stage import TrainingStopped

if TYPE_CHECKING:
    from thread_embed_assets.training.trainer import Progress

FAILED = 2
STOPPED = 143


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train one stage as a job file describes it.")
    parser.add_argument("--job", type=Path, help="job file; without it, the process takes it from Dagster Pipes")
    job_path: Path | None = parser.parse_args(arguments).job
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


def _train(job_path: Path, log: logging.Logger, send: Callable[[dict[str, Any]], None]) -> int:
    _quiet_libraries()
    stop = Event()
    # Dagster forwards a cancelled run as SIGINT, systems that shut down send SIGTERM.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

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
        return FAILED
    except TrainingStopped as stopped:
        log.info("%s", stopped)
        return STOPPED
    send(result(checkpoint))
    return 0


def result(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the process tells the one who started it."""
    manifest = checkpoint.folder / MANIFEST
    return {"fingerprint": checkpoint.fingerprint, "manifest": str(manifest), "reused": checkpoint.reused}


def _quiet_libraries() -> None:
    """One GPU unless a launcher says otherwise, and no progress bars in a log file."""
    # With several visible GPUs and no launcher the trainer falls back to DataParallel, which splits the batch of negatives.
    if "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    if not sys.stderr.isatty():
        import datasets

        datasets.disable_progress_bars()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _ignore(message: dict[str, Any]) -> None:
    del message


if __name__ == "__main__":
    sys.exit(main())
