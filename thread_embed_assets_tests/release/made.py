"""A base model, a checkpoint trained from it on two sources, and tasks of one of them, all made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.sources.catalog import CATALOG, Source, load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.pairs.made import pair, write_pairs

BASE = "made/tiny"
WEIGHTS = "model.safetensors"
FREE, OTHER, WITHHELD = "irc_disentangle", "topical_chat", "slack_dev_chats"
TRAINED_BY = "make it"


@dataclass(frozen=True)
class Made:
    """A root with pair tables and tasks, and a mirror of models that holds the base."""

    layout: Layout
    mirror: Path

    @property
    def base(self) -> Path:
        return self.mirror / BASE

    @property
    def catalog(self) -> dict[str, Source]:
        return load_catalog(CATALOG)

    @property
    def tasks(self) -> dict[str, Path]:
        return {FREE: self.layout.tasks(FREE)}

    def checkpoint(
        self, *sources: str, stage: str = "stage1", parent: Checkpoint | None = None, seed: int = 1, **manifest: Any
    ) -> Checkpoint:
        """One whose floating weights all differ a little from the base's."""
        from safetensors.numpy import load_file, save_file

        place = {"mix": "open", "stage": stage, "fingerprint": f"{seed:016x}"}
        folder = self.layout.checkpoints("open", stage) / place["fingerprint"]
        shutil.copytree(self.base, folder / "model")
        draw = np.random.default_rng(seed)
        weights = load_file(self.base / WEIGHTS)
        trained = {n: w + draw.normal(0, 1e-3, w.shape).astype(w.dtype) for n, w in weights.items() if w.dtype == np.float32}
        save_file({**weights, **trained}, folder / "model" / WEIGHTS, {"format": "pt"})
        details = {**place, "text_format": "speakers", "base_model": BASE, "original_base": BASE}
        (folder / "model" / "thread_embed.json").write_text(json.dumps(details))
        base_id = "/".join(str(parent.manifest[k]) for k in place) if parent else BASE
        tables = {name: open_table(self.layout.pairs("thread", name), "pairs") for name in sources}
        contents = {
            **place,
            "config": {"base_model": base_id, "hard_negatives": "none", "text_format": "speakers"},
            "data": [{"strategy": "thread", "source": name, "hard_negatives": None} for name in sources],
            "inputs": [
                {"strategy": "thread", "source": name, "fingerprint": table.fingerprint, "rows_used": table.rows}
                for name, table in tables.items()
            ],
            "base_model": {"id": base_id, "fingerprint": "c0"},
            "parent": parent.fingerprint if parent else None,
            "dimension": 32,
            "matryoshka_dims": [32, 16],
            "device": {"device": "cpu"},
            "selected_at": "2020-01-01",
            **manifest,
        }
        (folder / "manifest.json").write_text(json.dumps(contents))
        return Checkpoint(folder, place["fingerprint"], contents)


def make(root: Path, tiny_model: Path) -> Made:
    made = Made(Layout(root / "root"), root / "mirror")
    shutil.copytree(tiny_model, made.base)
    for source in (FREE, OTHER, WITHHELD):
        write_source(made.layout, source)
    write_task_file(made.layout.tasks(FREE), FREE, seed=1)
    return made


def write_source(layout: Layout, source: str, **leak: str) -> None:
    """Pairs of made words, half of them dev, and one with a text of the tasks if that is wanted."""
    rows: list[Mapping[str, Any]] = [
        pair(n, anchor=f"baka {source} dela {n}", positive=f"fimi gola {n} luve", split="dev" if n % 2 else "train")
        for n in range(12)
    ]
    write_pairs(layout.pairs("thread", source), [*rows, pair(100, **leak)] if leak else rows)
