"""Training of the reranker, from tables of examples to a finished checkpoint; a killed run goes on where it was.

The weights that come out depend on data, configuration and seed alone: the order of batches is drawn per epoch and what
dropout leaves out per step, so that it does not matter how often a run was cut off.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.onnx_reranker import of_like_length
from thread_embed_assets.reranker.tokens import TIERS, Rows, prepare_rows
from thread_embed_assets.storage.atomic import atomic_folder, readable_disk_errors, write_text
from thread_embed_assets.storage.fingerprint import of_json, seed
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.checkpoint import identity_of
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets.training.resume import only_process

if TYPE_CHECKING:
    from torch import Tensor

    from thread_embed_assets.reranker.model import Reranker
    from thread_embed_assets.reranker.train_state import State

logger = logging.getLogger(__name__)

HISTORY = "training_history.json"
MANIFEST = "manifest.json"
MODEL_FOLDER = "model"
# Raise it when a change of this code changes the weights that the same configuration and data give.
CODE_VERSION = "4"
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers")
_OFFSET_PAIRS = 8_000  # that the offset is fitted on: 100 s of one core at 97 tokens a pair
_POOL_BATCHES = 32  # so many batches' rows are sorted by length together
_WORK = "work"


@dataclass(frozen=True)
class RerankerCheckpoint:
    """A finished training run.

    Attributes:
        folder: its manifest, ``training_history.json`` and the model's folder.
        manifest: what it was trained on, with what, and how it went.
        reused: it was there already and nothing was trained.
    """

    folder: Path
    manifest: dict[str, Any]
    reused: bool = False

    @property
    def model(self) -> Path:
        """The folder that :func:`.model.load_reranker` reads."""
        return self.folder / MODEL_FOLDER

    def history(self) -> dict[str, Any]:
        """``steps`` (loss, rate, tokens) and ``epochs`` (measures on dev, of all and by tier)."""
        found: dict[str, Any] = json.loads((self.folder / HISTORY).read_text(encoding="utf-8"))
        return found


def latest_reranker(folder: Path) -> RerankerCheckpoint:
    """The one that was trained or found again last, of those below ``folder``.

    Raises:
        InputError: none is finished.
    """
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise InputError(folder, "no reranker is trained yet", "Materialise reranker_checkpoint, or run make reranker")
    return RerankerCheckpoint(found[-1].parent, json.loads(found[-1].read_text(encoding="utf-8")), reused=True)


@dataclass(frozen=True)
class Epoch:
    """One pass over some rows.

    Attributes:
        number: from 1.
        tiers: of its rows; none named are all.
        rows: their places.
        first_step: the step before its first.
    """

    number: int
    tiers: tuple[str, ...]
    rows: npt.NDArray[np.intp]
    first_step: int
    steps: int


def train_reranker(
    examples: Sequence[TableHandle],
    config: RerankerConfig,
    folder: Path,
    device: DeviceChoice,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> RerankerCheckpoint:
    """Train a reranker, or go on with it, or return it at once if this very one is already there.

    Args:
        examples: tables with the schema ``EXAMPLES``; their train rows are learned, their dev messages choose the epoch.
        config: what to train and how.
        folder: of all rerankers; this one's is below it, named by the fingerprint of data and configuration.
        device: where to train; no part of the fingerprint.
        report: given each point of the history's steps.

    Raises:
        InputError: no train or dev examples, a base model that is not to be had, a loss that is not finite, a full disk. A
            TransientError while another process trains in the folder.
    """
    identity = _identity(examples, config)
    fingerprint = of_json(identity)
    run = folder / fingerprint
    with readable_disk_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        with only_process(run):
            finished = _finished(run)
            if finished is not None:
                return finished
            found = _train(examples, config, run, device, report)
            manifest = {
                "fingerprint": fingerprint,
                **identity,
                "device": asdict(device),
                **found,
                "created_at": datetime.now(UTC).isoformat(),
            }
            write_text(run / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            _make_latest(run)
            shutil.rmtree(run / _WORK)
    logger.info("finished %s", run)
    return RerankerCheckpoint(run, manifest)


def _finished(run: Path) -> RerankerCheckpoint | None:
    """The checkpoint that is there already; a damaged one is trained again."""
    from thread_embed_assets.reranker.model import load_reranker

    if not (run / MANIFEST).exists():
        return None
    checkpoint = RerankerCheckpoint(run, json.loads((run / MANIFEST).read_text(encoding="utf-8")), reused=True)
    try:
        load_reranker(checkpoint.model)
    except InputError as error:
        logger.warning("trained again: %s", error)
        (run / MANIFEST).unlink()
        return None
    shutil.rmtree(run / _WORK, ignore_errors=True)
    logger.info("%s is there already", run)
    _make_latest(run)
    return checkpoint


def _make_latest(run: Path) -> None:
    """Also where the clock has gone back since another was selected."""
    latest = max(path.stat().st_mtime_ns for path in run.parent.glob(f"*/{MANIFEST}"))
    now = max(time.time_ns(), latest + 1)
    os.utime(run / MANIFEST, ns=(now, now))


def _identity(examples: Sequence[TableHandle], config: RerankerConfig) -> dict[str, Any]:
    """All that decides the weights; neither time, device nor place is in it."""
    base = local_folder(config.base_model)
    return {
        "config": config.model_dump(mode="json", exclude={"base_model", "save_every", "log_every"}),
        "data": [handle.fingerprint for handle in examples],
        "base_model": {"id": identity_of(base) or config.base_model, "fingerprint": model_fingerprint(base)},
        "code_version": CODE_VERSION,
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _train(
    examples: Sequence[TableHandle],
    config: RerankerConfig,
    run: Path,
    device: DeviceChoice,
    report: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any]:
    """Train to the end and save the best epoch's model; returns the run's part of the manifest."""
    import torch

    from thread_embed_assets.reranker.model import new_reranker
    from thread_embed_assets.reranker.train_state import State

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(_torch_seed(config, "weights"))
    model = new_reranker(config)
    train, dev = _rows(examples, config, model, run / _WORK)
    # Before the first step and again after a resume: the same rows give the same numbers.
    features = np.asarray(train.features, dtype=np.float64)
    model.set_normalisation(features.mean(axis=0).astype(np.float32), features.std(axis=0).astype(np.float32))
    model.place_on(device)
    _fit_offset(model, train, config)
    begun = {name: weight.detach().cpu().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    state = State.newest(run / _WORK, model, config) or State.fresh(model, config)
    resumed = state.step
    if resumed:
        logger.info("going on from step %d", resumed)
    _Run(config, model, state, train, dev, run / _WORK, report).to_the_end()
    state.restore_best(model)
    moved = _moved(model, begun)
    with atomic_folder(run / MODEL_FOLDER) as part:
        model.save(part)
    write_text(run / HISTORY, json.dumps(state.history, indent=1) + "\n")
    best = state.best_epoch()
    return {
        "train": {"messages": int(train.groups[-1]) + 1, "pairs": len(train), "tokens": int(train.ends[-1])},
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 1),
        "resumed_from_step": resumed or None,
        "trained_weights": state.trained_weights,
        "moved": moved,
        "best_epoch": best["epoch"],
        "dev": best["dev"],
    }


def _fit_offset(model: Reranker, train: Rows, config: RerankerConfig) -> None:
    """Set what is known before training: a logistic regression on a sample's evidence; without right and wrong, nothing."""
    import torch
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    from thread_embed_assets.reranker.model import FusedReranker

    if not isinstance(model, FusedReranker):
        return
    draw = np.random.default_rng(seed("reranker offset", config.seed))
    sample = np.sort(draw.permutation(len(train))[:_OFFSET_PAIRS])
    if len(np.unique(train.labels[sample])) < 2:
        return
    model.eval()
    evidence: list[npt.NDArray[np.float32]] = []
    places = [sample[part] for part in of_like_length(train.lengths[sample], config.batch_size)]
    with torch.inference_mode():
        for part in places:
            inputs = [torch.from_numpy(values).to(model.device) for values in train.batch(part)]
            evidence.append(model.evidence(*inputs).cpu().numpy())
    fitted = LogisticRegression(max_iter=1_000, class_weight={0: 1.0, 1: config.positive_weight})
    fitted.fit(np.concatenate(evidence), train.labels[np.concatenate(places)])
    model.begin_with(fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0]))


def _moved(model: Reranker, begun: Mapping[str, Tensor]) -> dict[str, float]:
    """By part of the model, the Euclidean distance of its trained weights from those it began with."""
    squares: dict[str, float] = {}
    for name, weight in model.named_parameters():
        if name in begun:
            part = name.partition(".")[0]
            squares[part] = squares.get(part, 0.0) + float(((weight.detach().cpu() - begun[name]) ** 2).sum())
    return {part: math.sqrt(square) for part, square in squares.items()}


def _rows(examples: Sequence[TableHandle], config: RerankerConfig, model: Reranker, work: Path) -> tuple[Rows, Rows]:
    from thread_embed_assets.reranker.onnx_reranker import TOKENIZER, PairReader

    work.mkdir(exist_ok=True)
    write_text(work / TOKENIZER, model.tokenizer)
    reader = PairReader(work / TOKENIZER, **model.reading)
    train = prepare_rows(examples, "train", reader, work / "train", config.max_train_messages, config.seed)
    dev = prepare_rows(examples, "dev", reader, work / "dev", config.max_dev_messages, config.seed)
    logger.info("%d train pairs of %.0f tokens, %d dev pairs", len(train), train.lengths.mean(), len(dev))
    return train, dev


def plan(train: Rows, config: RerankerConfig) -> Iterator[Epoch]:
    """The epochs of the curriculum; one whose tiers the rows have not is left out."""
    number = steps = 0
    for phase in config.curriculum:
        wanted = [TIERS.index(tier) for tier in phase.tiers or TIERS]
        rows = np.flatnonzero(np.isin(train.tiers, wanted))
        if not len(rows):
            logger.info("no train examples of the tiers %s: this phase is left out", ", ".join(phase.tiers))
            continue
        for _ in range(phase.epochs):
            number += 1
            epoch = Epoch(number, phase.tiers, rows, steps, math.ceil(len(rows) / config.batch_size))
            steps += epoch.steps
            yield epoch


def epoch_batches(lengths: npt.NDArray[np.int32], epoch: Epoch, config: RerankerConfig) -> list[npt.NDArray[np.intp]]:
    """The places of each batch's rows: drawn anew each epoch, and alike in length within a batch."""
    draw = np.random.default_rng(seed("reranker batches", config.seed, epoch.number))
    order = draw.permutation(epoch.rows)
    size, pool = config.batch_size, config.batch_size * _POOL_BATCHES
    batches: list[npt.NDArray[np.intp]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """What the learning rates are multiplied with at a step from 0: up in a line, then down along half a cosine."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


@dataclass(frozen=True)
class _Run:
    config: RerankerConfig
    model: Reranker
    state: State
    train: Rows
    dev: Rows
    work: Path
    report: Callable[[dict[str, Any]], None] | None

    def to_the_end(self) -> None:
        """The epochs that are not done yet, each with its measure on dev; states are saved on the way and at its end."""
        from thread_embed_assets.reranker.scoring import hits, score_rows

        epochs = list(plan(self.train, self.config))
        steps = epochs[-1].first_step + epochs[-1].steps
        for epoch in epochs[len(self.state.history["epochs"]) :]:
            batches = epoch_batches(self.train.lengths, epoch, self.config)
            for places in batches[self.state.step - epoch.first_step :]:
                self._step(places, steps)
                self._log(epoch, steps)
                if self.state.step % self.config.save_every == 0:
                    self.state.save(self.work, self.model)
            found = hits(score_rows(self.model, self.dev), self.dev)
            logger.info("epoch %d: on dev hit@1 %.3f, MRR %.3f", epoch.number, found["hit@1"], found["mrr"])
            measured = {"epoch": epoch.number, "step": self.state.step, "tiers": list(epoch.tiers), "dev": found}
            self.state.add_epoch(measured, self.model)
            self.state.save(self.work, self.model)

    def _step(self, places: npt.NDArray[np.intp], steps: int) -> None:
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        started = time.monotonic()
        state, config, device = self.state, self.config, self.model.device
        state.set_rates(rate_factor(state.step, steps, config.warmup))
        torch.manual_seed(_torch_seed(config, state.step))
        self.model.train()
        inputs = [torch.from_numpy(values).to(device) for values in self.train.batch(places)]
        labels = torch.from_numpy(self.train.labels[places].astype(np.float32)).to(device)
        weight = torch.tensor(config.positive_weight, device=device)
        loss = binary_cross_entropy_with_logits(self.model(*inputs), labels, pos_weight=weight)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.weights(), config.clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.losses.append(_finite(loss.item(), state.step + 1))
        state.count(int(self.train.lengths[places].sum()), time.monotonic() - started)

    def _log(self, epoch: Epoch, steps: int) -> None:
        state = self.state
        if state.step % self.config.log_every and state.step != steps:
            return
        point = state.add_point(epoch.number)
        logger.info("epoch %d, step %d of %d: loss %.4f", epoch.number, state.step, steps, point["loss"])
        if self.report is not None:
            self.report(point)


def _torch_seed(config: RerankerConfig, what: object) -> int:
    return seed("reranker", config.seed, what) % 2**31


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise InputError(f"reranker training, step {step}", f"the loss is {loss}", "Lower the learning rates")
    return loss
