"""A training run as a file, so that another process can do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, open_table
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import Wanted, pick_device
from thread_embed_assets.training.stage import train_stage

if TYPE_CHECKING:
    from thread_embed_assets.training.trainer import Progress


class TableReference(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    table: str

    @classmethod
    def of(cls, handle: TableHandle) -> TableReference:
        return cls(path=handle.path, table=handle.table)


class JobInput(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str
    source: str
    pairs: TableReference
    hard_negatives: TableReference | None = None


class Job(BaseModel):
    """What :func:`train_stage` needs, by reference.

    Attributes:
        root: the layout's root folder.
        device: where to train.
        processes: how many train together, each on its GPU; None is one for every visible GPU.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: StageConfig
    inputs: tuple[JobInput, ...]
    mix: str
    root: Path
    device: Wanted = "auto"
    processes: PositiveInt | None = None

    @classmethod
    def of(cls, config: StageConfig, inputs: Sequence[PairInput], layout: Layout, mix: str, device: Wanted) -> Job:
        references = tuple(
            JobInput(
                strategy=i.strategy,
                source=i.source,
                pairs=TableReference.of(i.pairs),
                hard_negatives=TableReference.of(i.hard_negatives) if i.hard_negatives else None,
            )
            for i in inputs
        )
        return cls(config=config, inputs=references, mix=mix, root=layout.root, device=device)

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job file.

        Raises:
            InputError: there is no such file, or it is no job; the message names the field.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(path, "there is no such job file", "Give the path that Job.save wrote") from error
        except ValidationError as error:
            raise wrong_field(error, path, "Write the file with Job.save") from error

    def save(self, path: Path) -> None:
        write_text(path, self.model_dump_json(indent=1) + "\n")

    def process_count(self) -> int:
        """How many processes train together on this machine."""
        if self.processes is not None:
            return self.processes
        if self.device not in ("auto", "cuda"):
            return 1
        import torch

        return max(1, torch.cuda.device_count())

    def run(self, report: Callable[[Progress], None] | None = None, stop: Event | None = None) -> Checkpoint:
        """Open the tables, pick the device and train; raises as :func:`train_stage` does."""
        inputs = [
            PairInput(
                i.strategy,
                i.source,
                open_table(i.pairs.path, i.pairs.table),
                open_table(i.hard_negatives.path, i.hard_negatives.table) if i.hard_negatives else None,
            )
            for i in self.inputs
        ]
        return train_stage(self.config, inputs, Layout(self.root), self.mix, pick_device(self.device), report, stop)
