"""Packs a trained model as a small difference from its base, if it may be passed on and is the same model afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.benchmark.contamination import examine, lineage
from thread_embed_assets.chat.model import Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.release import delta
from thread_embed_assets.release.weights import (
    DELTA,
    FORMAT,
    MOST_BYTES,
    OF_TOKENS,
    TOKENS_NAME,
    Released,
    decode,
    released_models,
    weights_of,
    write_model,
    write_settings,
)
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.atomic import atomic_folder, temporary_folder
from thread_embed_assets.storage.fingerprint import of_file
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.checkpoint import MODEL_DETAILS, Checkpoint
from thread_embed_assets.training.config import PROFILES, stage_config
from thread_embed_assets.verdict import Verdict, no_faults

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

LEAST_COSINE = 0.99
TASK_TABLES = ("queries", "corpus", "qrels", "candidates")
_SALTED = frozenset({"person_ids", "text_people"})
_OTHER_FILES = 200_000  # bytes kept free for manifest, results and card
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_TEXTS = 96
_MADE_TEXTS = (
    "the build is green again",
    "does anyone else see the nightly job time out?",
    "try to restart the router, then ping me",
    "I'm out for lunch, back at two",
    "which branch has the fix for the login page?\nit's on main since monday",
)
_KEPT = (
    "mix",
    "stage",
    "fingerprint",
    "config",
    "data",
    "inputs",
    "device",
    "seconds",
    "tokens",
    "steps",
    "dev",
    "versions",
)


def pack(
    checkpoint: Checkpoint,
    layout: Layout,
    catalog: Mapping[str, Source],
    name: str,
    *,
    tasks: Mapping[str, Path] | None = None,
    trained_by: str = "",
) -> Released:
    """Write ``models/released/<name>``, whole or not at all.

    Args:
        checkpoint: of the last stage; the earlier ones are found from it.
        layout: where they, the pair tables and the released models lie.
        catalog: tells which sources may be passed on.
        name: of the folder.
        tasks: source to its tasks file: with these all training texts are compared, and what was found is kept.
        trained_by: the command that trained it; found out where a profile's own settings did.

    Raises:
        InputError: a source may not be passed on, test texts stand in training texts, the base is not to be had by others,
            the difference does not fit, or what it restores is another model.
    """
    if not _NAME.match(name):
        raise InputError(f"name '{name}'", "it names a folder", "Use lower-case letters, digits, '-', '_' and '.'")
    missing: list[str] = []
    stages = list(lineage(checkpoint, layout, missing))
    if missing:
        raise InputError(checkpoint.folder, missing[0], "What it was trained on must be known")
    sources = _sources(stages, catalog)
    base_id = str(stages[-1].manifest["base_model"]["id"])
    if not _HUB_ID.match(base_id):
        raise InputError(checkpoint.folder, f"its base {base_id!r} is no hub id", "Train from a base that others can fetch")
    rebuild = _rebuild(stages, sorted(sources), name, trained_by)
    compared = _compared(checkpoint, layout, tasks or {})
    base, trained = weights_of(local_folder(base_id)), weights_of(checkpoint.model)
    of_tokens = {OF_TOKENS: trained.pop(TOKENS_NAME)} if TOKENS_NAME in trained else {}
    free = MOST_BYTES - _OTHER_FILES - sum(value.nbytes for value in of_tokens.values())
    tensors, encodings = delta.encode(base, trained, free)
    tensors |= of_tokens
    restored = decode(base, tensors, encodings)
    details = json.loads((checkpoint.model / MODEL_DETAILS).read_text(encoding="utf-8"))
    with atomic_folder(layout.released / name) as part:
        delta.save(part / DELTA, tensors, encodings)
        manifest = {
            "format": FORMAT,
            "name": name,
            "base_model": {"id": base_id, "weights_sha256": delta.digest(base)},
            "delta_sha256": of_file(part / DELTA),
            "weights_sha256": delta.digest(restored),
            "text_format": details["text_format"],
            "dimension": checkpoint.manifest["dimension"],
            "matryoshka_dims": checkpoint.manifest["matryoshka_dims"],
            "sources": sources,
            "stages": _told(stages, base_id),
            "compared": compared,
            "rebuild": rebuild,
        }
        texts = _texts(stages, layout)
        with temporary_folder(layout.restored(name, "trial")) as trial:
            write_model(manifest, restored, trial)
            fidelity = _fidelity(local_folder(base_id), checkpoint.model, trial, texts or _MADE_TEXTS)
        results = {"fidelity": {**fidelity, "of": "dev pairs" if texts else "made sentences"}, "leaderboard": []}
        write_settings(part, manifest, results)
        size = sum(file.stat().st_size for file in part.iterdir())
        if size > MOST_BYTES:
            raise InputError(part, f"the folder has {size} bytes, {MOST_BYTES} are allowed", "Make the manifest smaller")
    logger.info("released %s: %d bytes, %s", name, size, results["fidelity"])
    return Released(layout.released / name, manifest)


def _sources(stages: Sequence[Checkpoint], catalog: Mapping[str, Source]) -> dict[str, dict[str, Any]]:
    """The sources of all stages with licence, revision and rows; raises where one may not be passed on."""
    rows: dict[str, int] = {}
    for stage in stages:
        for given in stage.manifest["inputs"]:
            if given["rows_used"]:
                rows[str(given["source"])] = rows.get(str(given["source"]), 0) + int(given["rows_used"])
    unknown = [name for name in rows if name not in catalog]
    withheld = [name for name in rows if name in catalog and not catalog[name].redistribute]
    if unknown or withheld or not rows:
        told = [f"{name} is in no catalogue" for name in unknown]
        told += [f"{name} may not be passed on (licence: {catalog[name].licence})" for name in withheld]
        problem = f"it was trained on sources that a released model must not hold: {'; '.join(told)}"
        raise InputError(
            stages[0].folder, problem if told else "its manifest names no source it was trained on", "Release the mix 'open'"
        )
    return {
        name: {
            "title": catalog[name].title,
            "licence": catalog[name].licence,
            "revision": catalog[name].revision,
            "rows_used": rows[name],
        }
        for name in sorted(rows)
    }


def _rebuild(stages: Sequence[Checkpoint], sources: Sequence[str], name: str, trained_by: str) -> list[str]:
    mix = str(stages[0].manifest["mix"])
    if not trained_by:
        profile = next((profile for profile in PROFILES if all(_is_of(profile, stage) for stage in stages)), None)
        if profile is None:
            problem = "no profile has the settings it was trained with, so the command that rebuilds it is not known"
            raise InputError(stages[0].folder, problem, "Name the command with --trained-by")
        graph = "python -m thread_embed_assets.defs.run_graph"
        trained_by = f"{graph} --sources {','.join(sources)} --mix {mix} --profile {profile}"
    return [trained_by, f"thread-embed release {name} --mix {mix}"]


def _is_of(profile: str, stage: Checkpoint) -> bool:
    name, config = str(stage.manifest["stage"]), stage.manifest["config"]
    if name not in PROFILES[profile]:
        return False
    return bool(stage_config(profile, name, base_model=config["base_model"]).model_dump(mode="json") == config)


def _compared(checkpoint: Checkpoint, layout: Layout, tasks: Mapping[str, Path]) -> dict[str, Any]:
    """By source: which tasks, and how many of their texts stand in training texts; empty where that is not to be known."""
    if not tasks:
        return {}
    findings = examine(tasks, [checkpoint], layout)
    if findings.unproved:
        logger.warning("the training texts are not compared with the tasks: %s", "; ".join(findings.unproved[:3]))
        return {}
    if findings.found(Split.TEST):
        raise InputError(checkpoint.folder, findings.verdict().description, "Nothing is released")
    return {
        source: {
            "tasks": tasks_fingerprint(path),
            "training_texts": findings.training_texts,
            "test_texts_hit": 0,
            "dev_texts_hit": sum(owner.source == source for owner in findings.texts_hit[Split.DEV]),
        }
        for source, path in sorted(tasks.items())
    }


def tasks_fingerprint(tasks: Path) -> str:
    """Names the content of a tasks file, the same in every installation: people's opaque ids are salted anew in each."""
    found = hashlib.sha256()
    for name in TASK_TABLES:
        table = open_table(tasks, name)
        columns = [column for column in table.schema.names if column not in _SALTED]
        for row in table.rows_as_dicts(columns):
            found.update(json.dumps(row, sort_keys=True, default=_in_utc).encode())
    return found.hexdigest()


def _in_utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _told(stages: Sequence[Checkpoint], base_id: str) -> list[dict[str, Any]]:
    """What the stages' manifests say, without the paths of the machine that trained them."""
    names = ["/".join(str(stage.manifest[key]) for key in ("mix", "stage", "fingerprint")) for stage in stages]
    told = []
    for stage, started_from in zip(stages, [*names[1:], base_id], strict=True):
        kept = {key: stage.manifest[key] for key in _KEPT if key in stage.manifest}
        guide = stage.manifest.get("guide_model")
        kept["config"] = {**kept["config"], "base_model": started_from, "guide_model": guide and guide["id"]}
        told.append({**kept, "base_model": {**stage.manifest["base_model"], "id": started_from}})
    return told


def _texts(stages: Sequence[Checkpoint], layout: Layout) -> list[str]:
    """Masked dev texts of the tables it was trained on, spread evenly over those that are here."""
    places = dict.fromkeys((str(i["strategy"]), str(i["source"])) for s in stages for i in s.manifest["inputs"])
    tables = [path for path in (layout.pairs(*place) for place in places) if path.exists()]
    found: list[str] = []
    for number, path in enumerate(tables):
        wanted = _TEXTS * (number + 1) // len(tables) - len(found)
        rows = open_table(path, "pairs").rows_as_dicts(["positive"], f"split = '{Split.DEV}'", "md5(pair_id)")
        found += [row["positive"] for row, _ in zip(rows, range(wanted), strict=False)]
    return found


def _fidelity(base: Path, trained: Path, restored: Path, texts: Sequence[str]) -> dict[str, Any]:
    """How near the restored model's vectors are to the trained model's; raises where it is another model."""
    model, copy = _open(trained), _open(restored)
    for what in ("max_seq_length", "prompts", "similarity_fn_name"):
        if getattr(model, what) != getattr(copy, what):
            problem = f"its {what} is {getattr(model, what)!r}, and its base's {getattr(copy, what)!r}"
            raise InputError(trained, problem, "A released model reads texts as its base does")
    vectors, copied, before = _vectors(model, texts), _vectors(copy, texts), _vectors(_open(base), texts)
    cosines = (vectors * copied).sum(axis=1)
    if cosines.mean() < LEAST_COSINE:
        raise InputError(
            trained,
            f"what is left of it has a cosine of {cosines.mean():.4f} with it, at least {LEAST_COSINE} is wanted",
            "Train an adapter, or freeze the word embeddings, so that fewer numbers change",
        )
    change = float(np.linalg.norm(vectors - before))
    return {
        "texts": len(texts),
        "cosine_mean": round(float(cosines.mean()), 7),
        "cosine_min": round(float(cosines.min()), 7),
        "cosine_of_base_mean": round(float((vectors * before).sum(axis=1).mean()), 7),
        "error_of_change": round(float(np.linalg.norm(vectors - copied)) / change, 6) if change else 0.0,
    }


def _open(folder: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _vectors(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float64]:
    vectors = np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def may_be_passed_on(layout: Layout, catalog: Mapping[str, Source]) -> Verdict:
    """Every released model was trained only on sources that the catalogue lets pass on."""
    faults: list[str] = []
    released = released_models(layout)
    for one in released:
        try:
            _sources(
                [one.checkpoint(), *(Checkpoint(one.folder, "", stage) for stage in one.manifest["stages"][1:])], catalog
            )
        except InputError as error:
            faults.append(str(error))
    return no_faults("released models of sources that may not be passed on", faults, len(released))
