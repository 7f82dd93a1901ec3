"""One training stage from pair tables to a finished checkpoint, resumable at any point."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_folder, disk_full, readable_disk_errors, write_text
from thread_embed_assets.storage.fingerprint import of_json, seed
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.checkpoint import (
    LOSS_HISTORY,
    MANIFEST,
    MODEL_DETAILS,
    MODEL_FOLDER,
    Checkpoint,
    open_checkpoint,
    verify,
)
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, TrainingData, read_dev_sets, write_training_data
from thread_embed_assets.training.dev import dev_mrr
from thread_embed_assets.training.devices import DeviceChoice, cpu_products
from thread_embed_assets.training.resume import newest_whole, only_process

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.trainer import Progress, StageTrainer

logger = logging.getLogger(__name__)

# Raise it when a change of this code changes the weights that the same configuration and data give.
CODE_VERSION = "1"
_LIBRARIES = ("torch", "sentence-transformers", "transformers")
_RUN = "run.json"
_DEV_BEFORE = "dev_before.json"


class TrainingStopped(Exception):  # noqa: N818  asked for, not an error
    """Training was asked to stop; the steps done are saved and the next call goes on from them."""


def train_stage(
    config: StageConfig,
    inputs: Sequence[PairInput],
    layout: Layout,
    mix: str,
    device: DeviceChoice,
    report: Callable[[Progress], None] | None = None,
    stop: Event | None = None,
) -> Checkpoint:
    """Train a stage, or go on with it, or return it at once if this very checkpoint is already there.

    Args:
        config: the stage.
        inputs: the pair tables of the mix; those of strategies the stage does not name are not read.
        layout: the checkpoint goes to ``models/checkpoints/<mix>/<stage>/<fingerprint>``.
        mix: names the set of sources.
        device: where to train; no part of the fingerprint, so a run may move.
        report: called every ``config.log_every`` steps.
        stop: when set from outside, training saves after the running step and raises TrainingStopped.

    Raises:
        InputError: no pairs, data of another format, another configuration's files in the folder, another process in it, a
            loss that is not finite, a full disk. An earlier checkpoint stays as it was.
        TrainingStopped: ``stop`` was set.
    """
    used = sorted((i for i in inputs if i.strategy in config.strategies), key=lambda i: i.name)
    for left_out in (i for i in inputs if i.strategy not in config.strategies):
        logger.info("%s is not read: the stage does not name its strategy", left_out.name)
    identity = describe(config, used, mix)
    fingerprint = of_json(identity)
    folder = layout.checkpoints(mix, config.stage) / fingerprint
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with only_process(folder):
            finished = _finished(folder)
            if finished is not None:
                return finished
            _claim(folder, identity)
            manifest = _train(config, used, folder, mix, device, report or _ignore, stop or Event())
            now = datetime.now(UTC).isoformat()
            manifest = {"fingerprint": fingerprint, **identity, **manifest, "created_at": now, "selected_at": now}
            _write_json(folder / MANIFEST, manifest)
            for name in ("trainer", "data"):
                shutil.rmtree(folder / name)
    logger.info("finished %s", folder)
    return Checkpoint(folder, fingerprint, manifest)


def describe(config: StageConfig, inputs: Sequence[PairInput], mix: str) -> dict[str, Any]:
    """All that decides a checkpoint's weights; its hash is the fingerprint. Neither time nor device is in it."""
    mined = config.wants_mined_negatives
    return {
        "mix": mix,
        "stage": config.stage,
        "config": config.model_dump(mode="json"),
        "data": [
            {
                "strategy": i.strategy,
                "source": i.source,
                "pairs": i.pairs.fingerprint,
                "hard_negatives": i.hard_negatives.fingerprint if i.hard_negatives and mined else None,
            }
            for i in inputs
        ],
        "base_model": {"id": config.base_model, "fingerprint": model_fingerprint(local_folder(config.base_model))},
        "code_version": CODE_VERSION,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _finished(folder: Path) -> Checkpoint | None:
    checkpoint = open_checkpoint(folder)
    if checkpoint is None:
        return None
    problems = verify(checkpoint)
    if problems:
        logger.warning("%s is damaged and is trained again: %s", folder, "; ".join(problems))
        (folder / MANIFEST).unlink()
        return None
    manifest = {**checkpoint.manifest, "selected_at": datetime.now(UTC).isoformat()}
    _write_json(folder / MANIFEST, manifest)
    logger.info("%s is there already", folder)
    return replace(checkpoint, manifest=manifest, reused=True)


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    path = folder / _RUN
    if path.exists() and path.read_text(encoding="utf-8") != _json_text(identity):
        raise InputError(
            path,
            "the folder holds a run of another configuration",
            f"Delete {folder} and train again",
        )
    write_text(path, _json_text(identity))


def _train(
    config: StageConfig,
    inputs: Sequence[PairInput],
    folder: Path,
    mix: str,
    device: DeviceChoice,
    report: Callable[[Progress], None],
    stop: Event,
) -> dict[str, Any]:
    """Prepare, train, save the model; returns the run's part of the manifest."""
    resume = newest_whole(folder / "trainer", folder.name)
    shutil.rmtree(folder / "data", ignore_errors=True)
    (folder / "data").mkdir()
    data = write_training_data(config, inputs, mix, folder / "data")

    import torch
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.trainer import average, build_trainer, embedding_size

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    model = SentenceTransformer(str(local_folder(config.base_model)), device=device.device, local_files_only=True)
    own_length = model.max_seq_length
    model.max_seq_length = min(config.max_tokens, own_length or config.max_tokens)
    base = {name: value.clone() for name, value in model.state_dict().items()} if config.base_weight else {}
    dev_sets = read_dev_sets(config, inputs)
    before = _dev_before(folder / _DEV_BEFORE, lambda: dev_mrr(model, dev_sets))
    trainer = build_trainer(
        model,
        data.datasets,
        config,
        folder / "trainer",
        fingerprint=folder.name,
        trainer_seed=seed("training", mix, config.stage, config.seed) % 2**31,
        device=device,
        resume=resume,
        report=report,
        stop=stop,
    )
    with cpu_products(device.precision if device.device == "cpu" else "fp32"):
        _run(trainer, resume.folder if resume else None, mix, stop)
    if config.base_weight:
        average(model, base, config.base_weight)
    after = dev_mrr(model, dev_sets)
    if own_length:
        model.max_seq_length = own_length
    _save_model(model, config, data, folder, mix)
    history = trainer.loss_history()
    _write_json(folder / LOSS_HISTORY, history)
    return {
        "inputs": [count.as_dict() for count in data.counts],
        "device": asdict(device),
        "threads": torch.get_num_threads(),
        "seconds": round(trainer.seconds, 1),
        "tokens": trainer.tokens,
        "steps": trainer.state.global_step,
        "resumed_from_step": resume.step if resume else None,
        "loss_first": history[0]["loss"],
        "loss_last": history[-1]["loss"],
        "dev": {"base": before, "model": after},
        "dimension": embedding_size(model),
        "matryoshka_dims": config.dims(embedding_size(model)),
        "text_format": config.text_format,
    }


def _run(trainer: StageTrainer, resume_from: Path | None, mix: str, stop: Event) -> None:
    steps = len(trainer.get_train_dataloader())
    if steps == 0:
        raise InputError(
            f"mix '{mix}'",
            "no batch of different conversations can be made from its pairs: they repeat the same texts",
            "Add a source to the mix, or look at the pair tables",
        )
    if stop.is_set():
        raise TrainingStopped("training was stopped before its first step")
    if resume_from is not None:
        logger.info("going on from %s", resume_from)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    if stop.is_set() and trainer.state.global_step < trainer.state.max_steps:
        raise TrainingStopped(f"training was stopped and saved at step {trainer.state.global_step}")
    trainer.check_weights()


def _dev_before(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The base model's dev measure, taken once for a run and read back by the calls that resume it."""
    if not path.exists():
        _write_json(path, measure())
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _save_model(model: SentenceTransformer, config: StageConfig, data: TrainingData, folder: Path, mix: str) -> None:
    details = {
        "text_format": config.text_format,
        "base_model": config.base_model,
        "base_weight": config.base_weight,
        "stage": config.stage,
        "mix": mix,
        "fingerprint": folder.name,
        "sources": sorted({count.source for count in data.counts if count.rows_used}),
    }
    with atomic_folder(folder / MODEL_FOLDER) as part:
        model.save_pretrained(str(part), create_model_card=False)
        (part / MODEL_DETAILS).write_text(_json_text(details), encoding="utf-8")


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Torch and safetensors report a full disk as errors of their own."""
    from safetensors import SafetensorError

    with readable_disk_errors(folder):
        try:
            yield
        except (RuntimeError, SafetensorError) as error:
            if "No space left" in str(error) or shutil.disk_usage(folder).free < 2**20:
                raise disk_full(folder) from error
            raise


def _write_json(path: Path, value: Any) -> None:
    write_text(path, _json_text(value))


def _json_text(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _ignore(progress: Progress) -> None:
    del progress
