"""One training stage from pair tables to a finished checkpoint, resumable at any point."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
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
    DEV_HISTORY,
    LOSS_HISTORY,
    MANIFEST,
    MODEL_DETAILS,
    MODEL_FOLDER,
    Checkpoint,
    open_checkpoint,
    origin_of,
    selection_time,
    verify,
)
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, TrainingData, read_dev_sets, write_training_data
from thread_embed_assets.training.dev import dev_mrr
from thread_embed_assets.training.devices import DeviceChoice, Ranks, cpu_products
from thread_embed_assets.training.resume import newest_whole, only_process

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.trainer import Progress, StageTrainer

logger = logging.getLogger(__name__)

# Raise it when a change of this code changes the weights that the same configuration and data give.
CODE_VERSION = "3"
_LIBRARIES = ("torch", "sentence-transformers", "transformers")
_TEXTS_AT_ONCE = 1024
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
        inputs: the pair tables of the mix; of strategies that the stage does not name only the dev pairs are read.
        layout: the checkpoint goes to ``models/checkpoints/<mix>/<stage>/<fingerprint>``.
        mix: names the set of sources.
        device: where to train; no part of the fingerprint, so a run may move.
        report: called every ``config.log_every`` steps.
        stop: when set from outside, training saves after the running step and raises TrainingStopped.

    Raises:
        InputError: no pairs, data of another format, another configuration's files in the folder, a loss that is not finite,
            a full disk. An earlier checkpoint stays as it was. A TransientError while another process trains in the folder.
        TrainingStopped: ``stop`` was set.
    """
    inputs = sorted(inputs, key=lambda i: i.name)
    ranks = Ranks.of_this_process()
    ranks.meet(device.device)
    identity = describe(config, inputs, mix)
    fingerprint = of_json(identity)
    folder = layout.checkpoints(mix, config.stage) / fingerprint
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with only_process(folder) if ranks.leads else nullcontext():
            finished = ranks.from_leader(lambda: _finished(folder))
            if finished is not None:
                return finished
            if ranks.leads:
                _claim(folder, identity)
            manifest = _train(config, inputs, folder, mix, device, ranks, report or _ignore, stop or Event())
            now, selected = datetime.now(UTC).isoformat(), selection_time(folder.parent)
            manifest = {"fingerprint": fingerprint, **identity, **manifest, "created_at": now, "selected_at": selected}
            if ranks.leads:
                _write_json(folder / MANIFEST, manifest)
                _clear(folder)
    logger.info("finished %s", folder)
    return Checkpoint(folder, fingerprint, manifest)


def describe(config: StageConfig, inputs: Sequence[PairInput], mix: str) -> dict[str, Any]:
    """All that decides a checkpoint's weights; its hash is the fingerprint. Neither time, device nor place is in it."""
    origin = origin_of(config.base_model)
    # An earlier stage's checkpoint is named by what it is, not by where its root folder lies.
    guide = origin_of(config.guide_model).name if config.guide_model else None
    fields = config.model_dump(mode="json") | {"base_model": origin.name, "guide_model": guide}
    return {
        "mix": mix,
        "stage": config.stage,
        "config": fields,
        "data": [_described(i, config) for i in inputs if i.strategy in config.strategies],
        "dev_data": [{"strategy": i.strategy, "source": i.source, "pairs": i.pairs.fingerprint} for i in inputs]
        if config.dev_pairs
        else [],
        "base_model": {"id": origin.name, "fingerprint": model_fingerprint(local_folder(config.base_model))},
        "original_base": origin.original_base,
        "parent": origin.fingerprint,
        "guide_model": _guide(config),
        "code_version": CODE_VERSION,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _described(given: PairInput, config: StageConfig) -> dict[str, Any]:
    table = given.hard_negatives if config.wants_mined_negatives else None
    return {
        "strategy": given.strategy,
        "source": given.source,
        "pairs": given.pairs.fingerprint,
        "hard_negatives": table.fingerprint if table else None,
    }


def _guide(config: StageConfig) -> dict[str, str] | None:
    if config.loss != "gist":
        return None
    guide = config.guide_model or config.base_model
    return {"id": origin_of(guide).name, "fingerprint": model_fingerprint(local_folder(guide))}


def _finished(folder: Path) -> Checkpoint | None:
    checkpoint = open_checkpoint(folder)
    if checkpoint is None:
        return None
    problems = verify(checkpoint)
    if problems:
        logger.warning("%s is damaged and is trained again: %s", folder, "; ".join(problems))
        (folder / MANIFEST).unlink()
        return None
    _clear(folder)
    manifest = {**checkpoint.manifest, "selected_at": selection_time(folder.parent)}
    _write_json(folder / MANIFEST, manifest)
    logger.info("%s is there already", folder)
    return replace(checkpoint, manifest=manifest, reused=True)


def _clear(folder: Path) -> None:
    """Remove what only a training that goes on needs; one killed right after its manifest leaves it to the next call."""
    for name in ("trainer", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)


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
    ranks: Ranks,
    report: Callable[[Progress], None],
    stop: Event,
) -> dict[str, Any]:
    """Prepare, train, choose on dev, save the model; returns the run's part of the manifest."""
    resume = ranks.from_leader(lambda: newest_whole(folder / "trainer", folder.name))
    data = _training_data(config, inputs, mix, folder / "data", ranks)

    import torch
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.adapters import choose_trained_weights, merge_adapter
    from thread_embed_assets.training.early_stop import EarlyStop
    from thread_embed_assets.training.token_weights import power_for, weigh_tokens
    from thread_embed_assets.training.trainer import build_trainer, embedding_size

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    trainer_seed = seed("training", mix, config.stage, config.seed) % 2**31
    torch.manual_seed(trainer_seed)
    model = SentenceTransformer(str(local_folder(config.base_model)), device=device.device, local_files_only=True)
    own_length = model.max_seq_length
    model.max_seq_length = min(config.max_tokens, own_length or config.max_tokens)
    dev_sets = read_dev_sets(config, inputs)

    def measure() -> dict[str, Any]:
        return ranks.from_leader(lambda: dev_mrr(model, dev_sets))

    with cpu_products(device.precision if device.device == "cpu" else "fp32"):
        before = _dev_before(folder / _DEV_BEFORE, measure) if ranks.world == 1 else measure()
        power = power_for(model) if config.token_weight_power is None else config.token_weight_power
        if power:
            positives = (text for dataset in data.datasets.values() for text in _texts(dataset))
            weigh_tokens(model, positives, power)
        choose_trained_weights(model, config)
        early_stop = EarlyStop(measure, config.eval_every, config.patience)
        early_stop.start(before, model)
        trainer = build_trainer(
            model,
            data.datasets,
            config,
            folder / "trainer",
            fingerprint=folder.name,
            trainer_seed=trainer_seed,
            device=device,
            resume=resume,
            early_stop=early_stop,
            report=report,
            stop=stop,
            ranks=ranks,
        )
        _run(trainer, resume.folder if resume else None, mix, stop)
        early_stop.finish(trainer.state.global_step, model)
        merge_adapter(model)
        shares = _average_on_dev(model, config, measure)
    if own_length:
        model.max_seq_length = own_length
    history = trainer.loss_history()
    if ranks.leads:
        _save_model(model, config, data, folder, mix, shares.chosen)
        _write_json(folder / LOSS_HISTORY, history)
        _write_json(folder / DEV_HISTORY, early_stop.points)
    return {
        "inputs": [count.as_dict() for count in data.counts],
        "device": asdict(device),
        "processes": ranks.world,
        "threads": torch.get_num_threads(),
        "seconds": round(trainer.seconds, 1),
        "tokens": trainer.tokens,
        "steps": trainer.state.global_step,
        "planned_steps": trainer.state.max_steps,
        "resumed_from_step": resume.step if resume else None,
        "loss_first": history[0]["loss"],
        "loss_last": history[-1]["loss"],
        "dev": {"base": before, "model": shares.measured.get(shares.chosen, {}), "best_step": early_stop.best_step},
        "base_weight": shares.chosen,
        "base_weights_on_dev": {str(share): found.get("mrr@10") for share, found in shares.measured.items()},
        "dimension": embedding_size(model),
        "matryoshka_dims": config.dims(embedding_size(model)),
        "text_format": config.text_format,
    }


def _training_data(config: StageConfig, inputs: Sequence[PairInput], mix: str, folder: Path, ranks: Ranks) -> TrainingData:
    """Written anew by the leader; the other processes open its files."""
    used = [i for i in inputs if i.strategy in config.strategies]

    def write() -> TrainingData:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return write_training_data(config, used, mix, folder)

    return ranks.from_leader(write)


def _texts(dataset: Dataset) -> Iterator[str]:
    for batch in dataset.with_format(columns=["positive"]).iter(_TEXTS_AT_ONCE):
        yield from batch["positive"]


@dataclass(frozen=True)
class _Shares:
    """Dev measures by the base's share of the weights, and which share won."""

    measured: dict[float, dict[str, Any]]
    chosen: float


def _average_on_dev(model: SentenceTransformer, config: StageConfig, measure: Callable[[], dict[str, Any]]) -> _Shares:
    """Try every share of the original base in the average, and leave the best on dev in the model."""
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.token_weights import token_weight_names
    from thread_embed_assets.training.trainer import average

    measured = {0.0: measure()}
    candidates = config.base_weights
    if candidates == (0.0,):
        return _Shares(measured, 0.0)
    if len(candidates) > 1 and not measured[0.0]:
        logger.warning("there are no dev pairs to choose a share of the base on: the trained weights are kept as they are")
        return _Shares(measured, 0.0)
    folder = local_folder(origin_of(config.base_model).original_base)
    base = SentenceTransformer(str(folder), device="cpu", local_files_only=True).state_dict()
    fixed = token_weight_names(model)
    tuned = {name: value.clone() for name, value in model.state_dict().items() if name not in fixed}
    for share in candidates:
        model.load_state_dict({**model.state_dict(), **average(tuned, base, share)})
        measured[share] = measured[share] if share in measured else measure()
    chosen = max(candidates, key=lambda share: (measured[share].get("mrr@10", 0.0), -share))
    model.load_state_dict({**model.state_dict(), **average(tuned, base, chosen)})
    scores = {share: found.get("mrr@10") for share, found in measured.items()}
    logger.info("MRR@10 on dev by share of the base: %s; taken: %s", scores, chosen)
    return _Shares(measured, chosen)


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
    if not trainer.early_stop.exhausted:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    if trainer.early_stop.exhausted:
        logger.info("stopped at step %d: no gain on dev", trainer.state.global_step)
    elif trainer.state.global_step < trainer.state.max_steps:
        raise TrainingStopped(f"training was stopped and saved at step {trainer.state.global_step}")
    trainer.check_finite()


def _dev_before(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The base model's dev measure, taken once for a run and read back by the calls that resume it."""
    if not path.exists():
        _write_json(path, measure())
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _save_model(
    model: SentenceTransformer, config: StageConfig, data: TrainingData, folder: Path, mix: str, share: float
) -> None:
    origin = origin_of(config.base_model)
    details = {
        "text_format": config.text_format,
        "base_model": origin.name,
        "original_base": origin.original_base,
        "parent": origin.fingerprint,
        "base_weight": share,
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
