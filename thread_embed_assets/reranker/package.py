"""A reranker's package as a router uses it: the exported model, what its scores are worth, and when to ask."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.calibration import Calibration, Thresholds
from thread_embed_assets.reranker.onnx_reranker import JOINT, MODEL, OnnxReranker
from thread_embed_assets.reranker.router import Embedder, Router
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.reranker.train import RerankerCheckpoint
from thread_embed_assets.storage.atomic import atomic_folder, temporary_folder, write_text
from thread_embed_assets.verdict import Verdict

if TYPE_CHECKING:
    from thread_embed_assets.reranker.export import Exported

ROUTER = "router.json"


def write_router_settings(folder: Path, calibration: Calibration, thresholds: Thresholds) -> None:
    """Write ``ROUTER`` beside an exported model."""
    told = {"calibration": calibration.as_json(), "thresholds": asdict(thresholds)}
    write_text(folder / ROUTER, json.dumps(told, indent=1) + "\n")


def read_router_settings(folder: Path) -> tuple[Calibration, Thresholds]:
    """What :func:`write_router_settings` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    path = folder / ROUTER
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Calibration.from_json(told["calibration"]), Thresholds(**told["thresholds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "Materialise reranker_package, or run make reranker"
        raise InputError(path, f"there are no settings of a router ({error})", remedy) from error


def publish_reranker(checkpoint: RerankerCheckpoint, settings: Path, folder: Path) -> Exported:
    """Write the package of a checkpoint; what was in the folder stays if anything fails.

    Args:
        settings: folder with the router's settings, measured with this checkpoint.
        folder: of the package.

    Raises:
        InputError: see :func:`.export.export_reranker`; or there are no settings.
    """
    from thread_embed_assets.reranker.export import export_reranker

    read_router_settings(settings)
    with temporary_folder(folder) as part:
        exported = export_reranker(checkpoint, part / "package")
        shutil.copyfile(settings / ROUTER, exported.folder / ROUTER)
        with atomic_folder(folder) as whole:
            for file in exported.folder.iterdir():
                file.replace(whole / file.name)
    return replace(exported, folder=folder)


def scores_as_trained(checkpoint: RerankerCheckpoint, folder: Path) -> Verdict:
    """The package scores as the latest checkpoint does, to 1e-4."""
    from thread_embed_assets.reranker.export import TOLERANCE, difference
    from thread_embed_assets.reranker.model import load_reranker

    trained = load_reranker(checkpoint.model)
    distance = max(difference(trained, folder, name) for name in (MODEL, JOINT) if (folder / name).exists())
    description = f"its logits differ from the checkpoint's by {distance:.2g} at most, {TOLERANCE} is allowed"
    return Verdict(distance <= TOLERANCE, description, {"difference": distance})


def open_router(folder: Path, store: ThreadStore, embed: Embedder | None = None) -> Router:
    """A router with an exported reranker.

    Raises:
        InputError: the folder holds none.
    """
    calibration, thresholds = read_router_settings(folder)
    try:
        reranker = OnnxReranker(folder, model=JOINT if (folder / JOINT).exists() else MODEL)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(folder, str(error), "Materialise reranker_package, or run make reranker") from error
    return Router(store, reranker.logits, calibration, thresholds, embed)
