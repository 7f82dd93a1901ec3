"""Finished checkpoints: found, opened, verified."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.config import STAGES
from thread_embed_assets.training.loss_curve import DevPoint, LossPoint

MANIFEST = "manifest.json"
LOSS_HISTORY = "loss_history.json"
DEV_HISTORY = "dev_history.json"
MODEL_FOLDER = "model"
MODEL_DETAILS = "thread_embed.json"
_PROBES = ("the build is green again", "anyone seen my charger?", "ping me once it's merged")


@dataclass(frozen=True)
class Checkpoint:
    """A finished training run.

    Attributes:
        folder: ``models/checkpoints/<mix>/<stage>/<fingerprint>``.
        fingerprint: of everything that decides its weights; the folder's name.
        manifest: what it was trained on, with what, and how it went.
        reused: it was there already and nothing was trained.
    """

    folder: Path
    fingerprint: str
    manifest: Mapping[str, Any] = field(repr=False)
    reused: bool = False

    @property
    def model(self) -> Path:
        """The folder that ``SentenceTransformer`` loads."""
        return self.folder / MODEL_FOLDER

    def loss_history(self) -> list[LossPoint]:
        history: list[LossPoint] = json.loads((self.folder / LOSS_HISTORY).read_text(encoding="utf-8"))
        return history

    def dev_history(self) -> list[DevPoint]:
        """Measures on dev from before the first step to the last; empty without dev pairs."""
        history: list[DevPoint] = json.loads((self.folder / DEV_HISTORY).read_text(encoding="utf-8"))
        return history


@dataclass(frozen=True)
class Origin:
    """What a model comes from.

    Attributes:
        name: a hub id or folder as given; of a stage's model ``<mix>/<stage>/<fingerprint>``, wherever its root lies.
        original_base: the hub id or folder that the first stage started from.
        fingerprint: of the checkpoint that the model belongs to; None for a base model.
    """

    name: str
    original_base: str
    fingerprint: str | None = None


def origin_of(model_id: str) -> Origin:
    """What a base model is, told by the details that a stage leaves beside its weights."""
    path = Path(model_id).expanduser() / MODEL_DETAILS
    details = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "original_base" not in details:
        return Origin(model_id, model_id)
    name = "/".join((details["mix"], details["stage"], details["fingerprint"]))
    return Origin(name, details["original_base"], details["fingerprint"])


def identity_of(folder: Path) -> str:
    """Which model a folder holds, whatever has been packed around its weights; empty where it does not say.

    ``<mix>/<stage>/<fingerprint>`` of a checkpoint. A released model's difference is rounded, so it is another model than
    its checkpoint: ``released/<name>/<fingerprint>``.
    """
    path = folder / MODEL_DETAILS
    details = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "fingerprint" not in details:
        return ""
    head = ("released", details["released"]) if "released" in details else (details["mix"], details["stage"])
    return "/".join((*head, details["fingerprint"]))


def open_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run folder; None while its manifest, which is written last, is not there.

    Raises:
        InputError: the manifest is damaged, or it is another run's.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    remedy = f"Delete the folder {folder} and materialise the checkpoint again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"the manifest is not JSON ({error})", remedy) from error
    if not isinstance(manifest, dict) or manifest.get("fingerprint") != folder.name:
        raise InputError(path, "the manifest belongs to another configuration than its folder", remedy)
    return Checkpoint(folder, folder.name, manifest)


def latest_checkpoint(layout: Layout, mix: str, stage: str) -> Checkpoint | None:
    """The checkpoint of this mix and stage that was materialised last, trained or reused; None where there is none."""
    folder = layout.checkpoints(mix, stage)
    found = [open_checkpoint(run) for run in sorted(folder.iterdir()) if run.is_dir()] if folder.is_dir() else []
    return max((c for c in found if c is not None), key=lambda c: str(c.manifest["selected_at"]), default=None)


def selection_time(stage: Path) -> str:
    """The time that makes a checkpoint of this stage the latest: now, unless the clock has gone back since another's."""
    now, latest = datetime.now(UTC), max(_selection_times(stage), default=None)
    return (now if latest is None or latest < now else latest + timedelta(microseconds=1)).isoformat()


def _selection_times(stage: Path) -> Iterator[datetime]:
    for manifest in stage.glob(f"*/{MANIFEST}"):
        try:
            yield datetime.fromisoformat(json.loads(manifest.read_text(encoding="utf-8"))["selected_at"])
        except (ValueError, TypeError, KeyError):  # who opens that one is told
            continue


def final_checkpoint(layout: Layout, mix: str) -> Checkpoint | None:
    """The checkpoint of a mix that is scored and released: the newest of the latest stage that has one."""
    found = (latest_checkpoint(layout, mix, stage) for stage in reversed(STAGES))
    return next((checkpoint for checkpoint in found if checkpoint is not None), None)


def verify(checkpoint: Checkpoint) -> list[str]:
    """Load the model on the CPU and encode three texts.

    Returns:
        What is wrong, in words; empty when the model loads, and its embeddings are finite, of the declared size and differ.
    """
    import numpy as np
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    damage = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError, SafetensorError)
    try:
        model = SentenceTransformer(str(checkpoint.model), device="cpu", local_files_only=True)
    # A damaged folder fails in as many ways as it has files: each is a finding of this check, none a fault of it.
    except damage as error:
        return [f"the model does not load ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"]
    embeddings = np.asarray(model.encode(list(_PROBES), show_progress_bar=False), dtype=np.float64)
    problems: list[str] = []
    size = checkpoint.manifest.get("dimension")
    if embeddings.shape != (len(_PROBES), size):
        problems.append(f"embeddings have the shape {embeddings.shape}, the manifest says {size} dimensions")
    if not np.isfinite(embeddings).all():
        problems.append("embeddings hold NaN or infinite values")
    elif np.allclose(embeddings, embeddings[0]):
        problems.append("different texts get the same embedding")
    return problems
