"""Which model searches, where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

from thread_embed_assets.benchmark.embeddings import PRECISION_VARIABLE, ModelEncoder, precision_wanted
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.history import promoted_package
from thread_embed_assets.release.weights import find_released, released_models, unpack
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.devices import pick_device


def model_for_search(layout: Layout, wanted: str | None) -> Path:
    """The folder of the wanted model (a folder, a released model's name, an id), else of the promoted, else of the released.

    Raises:
        InputError: there is none, or several are released and none is wanted.
    """
    if wanted is not None:
        named = find_released(wanted, layout)
        return unpack(named, layout) if named else local_folder(wanted)
    promoted = promoted_package(layout)
    if promoted is not None:
        return promoted.folder
    released = released_models(layout)
    if len(released) == 1:
        return unpack(released[0], layout)
    if released:
        names = ", ".join(one.name for one in released)
        raise InputError(layout.released, "several models are released", f"Name one with --model: {names}")
    remedy = "Run make demo, or name another with --model sentence-transformers/all-MiniLM-L6-v2"
    raise InputError(layout.promoted_model, "no model is promoted yet", remedy)


def encoder_of(folder: Path) -> ModelEncoder:
    """The model in a folder; in bf16 where the hardware computes in it, which takes less than half as long.

    ``THREAD_EMBED_EMBED_PRECISION`` decides where it is set.
    """
    precision = precision_wanted() if os.environ.get(PRECISION_VARIABLE) else pick_device().precision
    return ModelEncoder(folder, model_fingerprint(folder), precision=precision)
