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
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.batches import ConversationBatchSampler
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets.training.loss_curve import LossPoint
from thread_embed_assets.training.resume import Resume, mark_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is; tokens and seconds count those before a resume, too."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


def build_loss(model: SentenceTransformer, config: StageConfig) -> torch.nn.Module:
    """Symmetric InfoNCE over in-batch negatives (gradient-cached, arXiv 2101.06983) at each Matryoshka size (2205.13147)."""
    inner = CachedMultipleNegativesRankingLoss(
        model,
        scale=config.scale,
        mini_batch_size=config.mini_batch_size,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    return MatryoshkaLoss(model, inner, matryoshka_dims=config.dims(embedding_size(model)))


def embedding_size(model: SentenceTransformer) -> int:
    size = model.get_embedding_dimension()
    assert size is not None
    return int(size)


class StageTrainer(SentenceTransformerTrainer):
    """Ends on a loss that is not finite, marks whole checkpoints, counts tokens and writes no model card.

    A model card by the library would quote training texts, which a source may forbid to pass on.
    """

    def __init__(self, *, fingerprint: str, resume: Resume | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.fingerprint = fingerprint
        self.tokens = resume.tokens if resume else 0
        self._started = time.monotonic() - (resume.seconds if resume else 0.0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        del default_args_dict

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self.tokens += sum(int(value.sum()) for name, value in inputs.items() if name.endswith("attention_mask"))
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        return loss

    def check_weights(self) -> None:
        """Raise InputError if a weight is NaN or infinite."""
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight).all():
                raise self._diverged(f"the weight {name} is not finite after step {self.state.global_step}")

    def _diverged(self, problem: str) -> InputError:
        remedy = "Lower learning_rate, or look at the pairs of the last batches; nothing of this run was kept as a model"
        return InputError(str(self.args.output_dir), f"training diverged: {problem}", remedy)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.check_weights()
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            mark_whole(folder, self.fingerprint, self.state.global_step, self.tokens, self.seconds)

    def loss_history(self) -> list[LossPoint]:
        """Every logged loss since step 1, those before a resume included."""
        logs = [entry for entry in self.state.log_history if "loss" in entry]
        return [LossPoint(step=int(e["step"]), loss=e["loss"], learning_rate=e["learning_rate"]) for e in logs]


class _Follow(TrainerCallback):
    """Tells how training goes, and stops it after a saved step when asked to."""

    def __init__(self, report: Callable[[Progress], None], stop: Event) -> None:
        self.report = report
        self.stop = stop
        self.trainer: StageTrainer | None = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if self.trainer is not None and logs and "loss" in logs:
            tokens, seconds = self.trainer.tokens, self.trainer.seconds
            step, steps = state.global_step, state.max_steps
            self.report(Progress(step, steps, logs["loss"], logs["learning_rate"], tokens, seconds))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop.is_set():
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
    report: Callable[[Progress], None],
    stop: Event,
) -> StageTrainer:
    """A trainer whose checkpoints go to ``folder``; batches come from one data set each, in proportion to their sizes."""
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        lr_scheduler_type="linear",
        bf16=device.device == "cuda" and device.precision == "bf16",
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
        disable_tqdm=not sys.stderr.isatty(),
        report_to=[],
    )
    follow = _Follow(report, stop)
    trainer = StageTrainer(
        fingerprint=fingerprint,
        resume=resume,
        model=model,
        args=arguments,
        train_dataset=DatasetDict(dict(datasets)),
        loss=build_loss(model, config),
        callbacks=[follow],
    )
    follow.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # it writes to stdout what the report already tells
    return trainer


def average(model: SentenceTransformer, base: Mapping[str, torch.Tensor], base_weight: float) -> None:
    """Set each weight to ``(1 - base_weight) * tuned + base_weight * base``, in place (LM-Cocktail, arXiv 2311.13534)."""
    tuned = model.state_dict()
    mixed = {
        name: torch.lerp(value, base[name].to(value.device), base_weight) if value.is_floating_point() else value
        for name, value in tuned.items()
    }
    model.load_state_dict(mixed)
