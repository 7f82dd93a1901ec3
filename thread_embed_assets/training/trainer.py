"""The sentence-transformers trainer with what a stage needs beside it. Imports torch: import it inside functions."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.adapters import restore_weights, trained_weights
from thread_embed_assets.training.batches import ConversationBatchSampler
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.devices import DeviceChoice, Ranks, holds_activations
from thread_embed_assets.training.early_stop import EarlyStop
from thread_embed_assets.training.loss_curve import LossPoint
from thread_embed_assets.training.losses import build_loss
from thread_embed_assets.training.resume import Resume, mark_whole

logger = logging.getLogger(__name__)

_WEIGHTS = "trained.safetensors"
_WORKERS = 4  # processes that read and tokenise while the GPU computes


@dataclass(frozen=True)
class Progress:
    """How far a run is; tokens and seconds count those before a resume, too."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


def embedding_size(model: SentenceTransformer) -> int:
    size = model.get_embedding_dimension()
    assert size is not None
    return int(size)


class StageTrainer(SentenceTransformerTrainer):
    """Ends on a loss that is not finite, marks whole checkpoints, counts tokens and writes no model card.

    A model card by the library would quote training texts, which a source may forbid to pass on.
    """

    def __init__(
        self, *, fingerprint: str, resume: Resume | None, early_stop: EarlyStop, ranks: Ranks, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.fingerprint = fingerprint
        self.early_stop = early_stop
        self.ranks = ranks
        self._tokens_before = resume.tokens if resume else 0
        # Numbers that no step waits for: a GPU has fallen silent by the time that one is read.
        self._tokens = torch.zeros((), dtype=torch.int64, device=self.model.device)
        self._first_fault = torch.full((2,), torch.nan, device=self.model.device)
        self._started = time.monotonic() - (resume.seconds if resume else 0.0)
        if resume is not None:
            early_stop.load(resume.folder)
            self.state = TrainerState.load_from_json(str(resume.folder / "trainer_state.json"))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def tokens(self) -> int:
        """Tokens trained on, padding left out; of several processes as many as this one's each."""
        return self._tokens_before + int(self._tokens) * self.ranks.world

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        del default_args_dict

    def get_train_dataloader(self) -> DataLoader[Any]:
        if self.ranks.world == 1:
            return super().get_train_dataloader()
        from accelerate.data_loader import prepare_data_loader

        # Each process's sampler yields its own part of a batch already: whole batches shared out would mix data sets.
        loader = self._build_dataloader(self.train_dataset, self.args.train_batch_size, dataset_kind="train")
        device = self.accelerator.device
        mine: DataLoader[Any] = prepare_data_loader(loader, device, num_processes=1, process_index=0, put_on_device=True)
        return mine

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        for name, value in inputs.items():
            if name.endswith("attention_mask"):
                self._tokens += value.sum().to(self._tokens.device)
        loss = super().training_step(model, inputs, num_items_in_batch)
        fault = torch.stack([loss, torch.full_like(loss, self.state.global_step + 1)])
        unseen = torch.isnan(self._first_fault[1]) & ~torch.isfinite(loss)
        self._first_fault = torch.where(unseen, fault, self._first_fault)
        return loss

    def check_finite(self) -> None:
        """Raise InputError if a loss since the start or a weight is NaN or infinite."""
        value, step = self._first_fault.tolist()
        if step == step:
            raise self._diverged(f"the loss is {value} at step {step:.0f}")
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight).all():
                raise self._diverged(f"the weight {name} is not finite after step {self.state.global_step}")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        loss = logs.get("loss", 0.0)
        if loss != loss or loss in (float("inf"), -float("inf")):
            self.check_finite()
        super().log(logs, start_time)

    def _diverged(self, problem: str) -> InputError:
        remedy = "Lower learning_rate, or look at the pairs of the last batches; nothing of this run was kept as a model"
        return InputError(str(self.args.output_dir), f"training diverged: {problem}", remedy)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_weights(self.model), folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        restore_weights(model or self.model, load_file(Path(resume_from_checkpoint) / _WEIGHTS))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.check_finite()
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes the state of its own random numbers
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            self.early_stop.save(folder)
            mark_whole(folder, self.fingerprint, self.state.global_step, self.tokens, self.seconds)

    def loss_history(self) -> list[LossPoint]:
        """Every logged loss since step 1, those before a resume included."""
        logs = [entry for entry in self.state.log_history if "loss" in entry]
        return [LossPoint(step=int(e["step"]), loss=e["loss"], learning_rate=e["learning_rate"]) for e in logs]


class _Follow(TrainerCallback):
    """Tells how training goes, measures on dev, and stops after a saved step when there is no gain or when asked to."""

    def __init__(self, report: Callable[[Progress], None], stop: Event) -> None:
        self.report = report
        self.stop = stop
        self.trainer: StageTrainer | None = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if self.trainer is not None and self.trainer.ranks.leads and logs and "loss" in logs:
            tokens, seconds = self.trainer.tokens, self.trainer.seconds
            step, steps = state.global_step, state.max_steps
            self.report(Progress(step, steps, logs["loss"], logs["learning_rate"], tokens, seconds))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.trainer is not None
        early_stop, ranks = self.trainer.early_stop, self.trainer.ranks
        early_stop.step_done(state.global_step, self.trainer.model)
        # To ask the other processes takes time, so they agree on it now and then.
        asked = self.stop.is_set() if ranks.world == 1 else state.global_step % args.logging_steps == 0
        if early_stop.exhausted or (asked and ranks.any_of(self.stop.is_set())):
            control.should_save = True
            control.should_training_stop = True


def build_trainer(
    model: SentenceTransformer,
    datasets: Mapping[str, Dataset],
    config: StageConfig,
    folder: Path,
    *,
    fingerprint: str,
    trainer_seed: int,
    device: DeviceChoice,
    resume: Resume | None,
    early_stop: EarlyStop,
    report: Callable[[Progress], None],
    stop: Event,
    ranks: Ranks | None = None,
) -> StageTrainer:
    """A trainer whose checkpoints go to ``folder``; batches come from one data set each, in proportion to their sizes.

    Of several processes each takes its part of every batch and sees the others' texts as negatives. With InfoNCE their
    number changes the speed and not what is learnt, but for the draws of dropout.
    """
    ranks = ranks or Ranks()
    workers = _WORKERS if device.device == "cuda" else 0
    cache = config.gradient_cache
    if cache is None:
        texts = config.batch_size // ranks.world * (2 + (config.negatives if config.hard_negatives != "none" else 0))
        transformer: Any = model[0]
        backbone = transformer.auto_model.config
        sizes = (backbone.num_hidden_layers, backbone.hidden_size)
        cache = not holds_activations(device, texts * config.max_tokens, *sizes)
        logger.info("%s", "texts are embedded twice, to save memory" if cache else "memory holds a batch's activations")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        lr_scheduler_type="linear",
        bf16=device.precision == "bf16",
        use_cpu=device.device == "cpu",
        seed=trainer_seed,
        batch_sampler=ConversationBatchSampler,
        multi_dataset_batch_sampler="proportional",
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        dataloader_pin_memory=device.device == "cuda",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        disable_tqdm=not sys.stderr.isatty(),
        report_to=[],
    )
    follow = _Follow(report, stop)
    trainer = StageTrainer(
        fingerprint=fingerprint,
        resume=resume,
        early_stop=early_stop,
        ranks=ranks,
        model=model,
        args=arguments,
        train_dataset=DatasetDict(dict(datasets)),
        loss=build_loss(model, config.model_copy(update={"gradient_cache": cache}), gather=ranks.world > 1),
        callbacks=[follow],
    )
    follow.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # it writes to stdout what the report already tells
    return trainer


def average(tuned: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Each weight as ``(1 - share) * tuned + share * base`` (LM-Cocktail, arXiv 2311.13534)."""
    return {
        name: torch.lerp(value, base[name].to(value.device), share) if value.is_floating_point() else value
        for name, value in tuned.items()
    }
