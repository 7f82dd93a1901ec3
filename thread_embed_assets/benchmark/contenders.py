"""Who takes part in the benchmark: declarations only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.errors import InputError
from thread_embed_assets.training.base_models import MIRROR_VARIABLE, model_fingerprint, resolve
from thread_embed_assets.training.checkpoint import MODEL_DETAILS

ContenderRole = Literal["baseline", "base", "base_hybrid", "tuned", "tuned_hybrid", "reference"]
REFERENCE_MODEL = "sentence-transformers/all-mpnet-base-v2"


@dataclass(frozen=True)
class Model:
    """A model to be scored.

    Attributes:
        name: as the leaderboard shows it.
        location: its folder, or a hub id.
        fingerprint: names its weights; key of the embedding cache.
    """

    name: str
    location: Path | str
    fingerprint: str


@dataclass(frozen=True)
class Contender:
    """One row of the leaderboard.

    Attributes:
        name: unique among the contenders of a benchmark.
        kind: ``hybrid`` is the z-score sum of the two contenders named in ``parts``.
        role: what it is compared as.
        formats: text formats it may be given; of several the best on dev is taken. A hybrid takes its parts' formats.
        model: the model of a dense contender.
        truncate_dim: use only the first components of its vectors.
        parts: names of a hybrid's two contenders, which must be declared before it.
        not_run: why it cannot take part; its rows then say so.
    """

    name: str
    kind: Literal["bm25", "dense", "hybrid"]
    role: ContenderRole
    formats: tuple[str, ...] = ()
    model: Model | None = None
    truncate_dim: int | None = None
    parts: tuple[str, str] | tuple[()] = ()
    not_run: str = ""


BM25 = Contender("bm25", "bm25", "baseline", tuple(FORMATS))


def standard_contenders(base: Model, tuned: Sequence[Model], reference: Model | str) -> list[Contender]:
    """BM25, the base model in its best format, their sum, each tuned model in its own format, its sum with BM25.

    Args:
        base: the model that training started from.
        tuned: checkpoints, each with a ``thread_embed.json`` that names its text format.
        reference: a larger general model, or the reason why it is not here (see :func:`reference_model`).
    """
    everything = tuple(FORMATS)
    rows = [BM25, Contender(base.name, "dense", "base", everything, base), _with_bm25(base.name, "base_hybrid")]
    for model in tuned:
        rows += [
            Contender(model.name, "dense", "tuned", (text_format_of(model.location),), model),
            _with_bm25(model.name, "tuned_hybrid"),
        ]
    if isinstance(reference, str):
        rows.append(Contender(REFERENCE_MODEL.rsplit("/", 1)[-1], "dense", "reference", everything, not_run=reference))
    else:
        rows.append(Contender(reference.name, "dense", "reference", everything, reference))
    return rows


def _with_bm25(name: str, role: ContenderRole) -> Contender:
    return Contender(f"{name}+bm25", "hybrid", role, parts=(BM25.name, name))


def text_format_of(location: Path | str) -> str:
    """The text format a model was trained with, from its folder; ``plain`` for models that do not say.

    Raises:
        InputError: the model names a format that is not declared.
    """
    settings = Path(location) / MODEL_DETAILS
    if not settings.exists():
        return DEFAULT_FORMAT
    named = json.loads(settings.read_text("utf-8")).get("text_format", DEFAULT_FORMAT)
    if named not in FORMATS:
        raise InputError(settings, f"unknown text_format {named!r}", f"Known formats: {', '.join(FORMATS)}")
    return str(named)


def reference_model(model_id: str = REFERENCE_MODEL) -> Model | str:
    """The reference model where it is on this machine, else the reason why it cannot run."""
    folder = resolve(model_id)
    if isinstance(folder, str):
        return f"{model_id} is not on this machine; ${MIRROR_VARIABLE} can name a folder that holds it"
    return Model(model_id.rsplit("/", 1)[-1], folder, model_fingerprint(folder))
