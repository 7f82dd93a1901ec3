"""Ablations: arms that differ from a reference in one choice, trained on one small budget, scored on dev.

``ablation_plan`` declares the arms, this module trains and scores one, ``ablation_table`` compares them all.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from thread_embed_assets.benchmark.ablation_plan import REFERENCE, Arm, Plan
from thread_embed_assets.benchmark.ablation_scores import DevSource, score_dev
from thread_embed_assets.benchmark.contenders import Model, open_encoder
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, precision_wanted
from thread_embed_assets.benchmark.evaluate import EncoderOf
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.chat.duplicates import dropped_ids, held_out_shingles
from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.build import build_pairs
from thread_embed_assets.pairs.quality import no_held_out_text
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.columns import described
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import Wanted
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.stage import describe

logger = logging.getLogger(__name__)

MIX = "ablation"  # of all arms, since it seeds the training: arms see the same order of batches where they can
SCORES = "scores.duckdb"
# Raise it when a change of this code changes the scores of the same arm.
CODE_VERSION = "1"
_TASK_TABLES = ("queries", "corpus", "qrels")
_ROOM = 50  # an arm's own tables hold so many times the pairs that it trains on, where there are as many

SCHEMAS = {
    "scores": described(
        [
            ("seed", pa.int32(), "of the training"),
            ("source", pa.string(), "the catalogue's name of the source"),
            ("task", pa.string(), "of its dev split"),
            ("query_id", pa.string(), "the query of the task"),
            ("cluster", pa.string(), "channel and day: what is resampled"),
            (HEADLINE, pa.float64(), "of this query"),
        ]
    ),
    "runs": described(
        [
            ("seed", pa.int32(), "of the training"),
            ("checkpoint", pa.string(), "fingerprint; empty of a model that was not trained"),
            ("pairs", pa.int64(), "that it trained on"),
            ("inputs", pa.string(), "JSON: of which strategy and source how many"),
            ("steps", pa.int64(), "of the optimiser"),
            ("tokens", pa.int64(), "that went through the model"),
            ("train_seconds", pa.float64(), "by the clock"),
            ("device", pa.string(), "what it trained on"),
            ("texts_embedded", pa.int64(), "to score it"),
            ("score_seconds", pa.float64(), "by the clock"),
        ]
    ),
    "about": described([("name", pa.string(), "arm, setting or identity"), ("value", pa.string(), "as JSON")]),
}


@dataclass(frozen=True)
class Material:
    """What all arms are made from.

    Attributes:
        catalog: the sources by name.
        inputs: the project's pair tables of the sources that train, with their ``hard_negatives`` where there are any.
        dev: the sources whose dev tasks are scored.
        mined: hard negatives that a stage 2 model mined; None where there are none.
    """

    layout: Layout
    catalog: Mapping[str, Source]
    inputs: Sequence[PairInput]
    dev: Sequence[DevSource]
    mined: TableHandle | None = None


def run_arm(
    plan: Plan,
    name: str,
    material: Material,
    device: Wanted = "auto",
    train: Callable[[Job], Checkpoint] = Job.run,
    encoder_of: EncoderOf = open_encoder,
) -> Path:
    """Train an arm with each seed, score it on dev, and write ``layout.ablation(name)/scores.duckdb``.

    An arm that is there already, from the same data, code and plan, is not made again. Its models and pair tables are thrown
    away when they have been scored, but for the reference's, which other arms use. A run that was killed goes on where it
    stopped.

    Args:
        train: does a job, here or in a process of its own.
        encoder_of: makes a model's encoder.

    Raises:
        InputError: a table that the arm needs is not there, its own pairs hold held-out text, there are no dev tasks, or a
            text of another split poses as dev.
    """
    if name not in plan.arms:
        raise InputError(f"arm {name!r}", "there is no such arm", f"Declared are {', '.join(plan.arms)}")
    arm, path = plan.arms[name], material.layout.ablation(name) / SCORES
    inputs = [] if arm.untrained else _inputs(plan, name, material)
    configs = [plan.config(name, seed) for seed in (plan.seeds[:1] if arm.untrained else plan.seeds)]
    about = {
        "arm": arm.model_dump(mode="json"),
        "setting": setting(plan, material),
        "trained": [describe(config, inputs, MIX) for config in configs],
    }
    if path.exists() and read_about(path) == _as_read(about):
        logger.info("the arm %s is there already", name)
        return path
    home = material.layout.ablation(name if arm.trains else REFERENCE)
    cache = EmbeddingCache(home / "embeddings")
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in SCHEMAS}
    for config in configs:
        checkpoint = None if arm.untrained else train(Job.of(config, inputs, Layout(home), MIX, device))
        began, embedded = time.monotonic(), cache.embedded
        encoder = encoder_of(_model(name, arm, config, checkpoint, material.layout.ablation(name)))
        for one in score_dev(material.dev, plan.tasks, encoder, cache, config.text_format, arm.window, arm.together):
            queries = zip(one.query_ids, one.clusters, one.values.tolist(), strict=True)
            rows["scores"] += ((config.seed, one.source, one.task, *query) for query in queries)
            logger.info("%s, seed %d: %s %s %.3f", name, config.seed, one.source, one.task, one.values.mean())
        costs = (cache.embedded - embedded, time.monotonic() - began)
        rows["runs"].append((config.seed, *_training(checkpoint), *costs))
    if not rows["scores"]:
        raise InputError("ablations", "there is not one dev query to score", "Materialise benchmark_tasks of a source")
    rows["about"] = [(key, _json(value)) for key, value in about.items()]
    with write_tables(path, SCHEMAS) as writer:
        for table, found in rows.items():
            writer.add_all(table, found)
    if name != REFERENCE:
        for left in ("models", "data", "embeddings", "averaged"):
            shutil.rmtree(material.layout.ablation(name) / left, ignore_errors=True)
    return path


def setting(plan: Plan, material: Material) -> dict[str, Any]:
    """What two arms must share to be compared, as JSON."""
    config = plan.config(REFERENCE, plan.seeds[0])
    trained = describe(config, [i for i in material.inputs if i.strategy in config.strategies], MIX)
    return {
        "seeds": list(plan.seeds),
        "stage": config.model_dump(mode="json", exclude={"seed"}),
        "pairs": plan.pairs,
        "tasks": list(plan.tasks),
        "train": {f"{one['strategy']} {one['source']}": one["pairs"] for one in trained["data"]},
        "dev": {
            one.name: of_json([open_table(one.tasks, table).fingerprint for table in _TASK_TABLES]) for one in material.dev
        },
        "base_model": trained["base_model"],
        "precision": precision_wanted(),
        "code": {"scores": CODE_VERSION, "training": trained["code_version"], **trained["versions"]},
    }


def read_about(path: Path) -> dict[str, Any]:
    """What an arm's file says of itself: ``arm``, ``setting``, ``trained``. A field that came later has its default."""
    about = {row["name"]: json.loads(row["value"]) for row in open_table(path, "about").rows_as_dicts()}
    with suppress(ValidationError, KeyError):  # what is no arm of today differs from all of them
        about["arm"] = Arm.model_validate(about["arm"]).model_dump(mode="json")
    return about


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _as_read(value: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(_json(value))
    return read


def _inputs(plan: Plan, name: str, material: Material) -> list[PairInput]:
    """The pair tables that an arm trains on: the project's, or its own where it wants other windows or another format."""
    config = plan.config(name, plan.seeds[0])
    inputs = [i for i in material.inputs if i.strategy in config.strategies]
    for strategy in config.strategies:
        if not any(i.pairs.rows for i in inputs if i.strategy == strategy):
            raise InputError(f"arm '{name}'", f"there are no {strategy} pairs", f"Materialise {strategy}_pairs of a source")
    if config.hard_negatives == "mined":
        inputs = [replace(i, hard_negatives=material.mined) for i in inputs]
    if plan.pairs or plan.arms[name].pairs:
        rows = sum(i.pairs.rows for i in inputs)
        share = min(1.0, _ROOM * (config.max_pairs or rows) / rows)
        sources = dict.fromkeys(i.source for i in inputs)
        inputs = [own for source in sources for own in _own(source, inputs, share, plan, name, material)]
    without = [i for i in inputs if i.hard_negatives is None]
    if config.wants_mined_negatives and without:
        asset = (
            "mined_negatives of the mix" if config.hard_negatives == "mined" else f"hard_negatives of {without[0].source}"
        )
        problem = f"{without[0].name} has no table of hard negatives, and the arm wants {config.hard_negatives!r} ones"
        raise InputError(f"arm '{name}'", problem, f"Materialise {asset}")
    return inputs


def _own(
    source: str, inputs: Sequence[PairInput], share: float, plan: Plan, name: str, material: Material
) -> Iterator[PairInput]:
    """Pairs of the same strategies as those of ``inputs`` from this source, but cut and written as the arm wants them.

    They are no more than ``share`` of those given: strategies and sources share the budget by the rows of their tables, and
    smaller windows make more pairs.
    """
    layout = material.layout
    stored = open_normalised(layout.conversations(source))
    others = [dev.stored for dev in material.dev if dev.name != source]
    duplicates = open_table(layout.duplicates(source), "duplicates")
    dropped, held_out = dropped_ids(duplicates), held_out_shingles(duplicates)
    for given in (i for i in inputs if i.source == source):
        options, strategy = plan.options(name), Strategy(given.strategy)
        handle = build_pairs(
            strategy,
            source,
            stored.conversations,
            stored.messages,
            replace(options, keep_share=min(options.keep_share, share), most_pairs=round(given.pairs.rows * share)),
            Layout(layout.ablation(name)).pairs(strategy, source),
            allowed=material.catalog[source].strategies,
            dropped=dropped,
            held_out=held_out,
            summaries=open_table(layout.summaries(source), "summaries") if strategy is Strategy.SUMMARY else None,
        )
        verdict = no_held_out_text(handle, stored, others)
        if handle.rows and not verdict.passed:
            remedy = "Materialise duplicates of all sources, then run the arm again"
            raise InputError(handle.path, verdict.description, remedy)
        yield PairInput(given.strategy, source, handle)


def _model(name: str, arm: Arm, config: StageConfig, checkpoint: Checkpoint | None, folder: Path) -> Model:
    if checkpoint is None:
        base = local_folder(config.base_model)
        return Model(name, base, model_fingerprint(base))
    if not arm.base_share:
        return Model(name, checkpoint.model, checkpoint.fingerprint)
    averaged = folder / "averaged" / str(config.seed)
    _average(checkpoint.model, local_folder(config.base_model), arm.base_share, averaged)
    return Model(name, averaged, model_fingerprint(averaged))


def _average(tuned: Path, base: Path, base_share: float, folder: Path) -> None:
    """Save ``(1 - base_share) * tuned + base_share * base`` (LM-Cocktail, arXiv 2311.13534)."""
    import torch
    from sentence_transformers import SentenceTransformer

    model, other = (SentenceTransformer(str(path), device="cpu", local_files_only=True) for path in (tuned, base))
    originals = other.state_dict()
    mixed = {
        weight: torch.lerp(value, originals[weight], base_share) if value.is_floating_point() else value
        for weight, value in model.state_dict().items()
    }
    model.load_state_dict(mixed)
    with atomic_folder(folder) as part:
        model.save_pretrained(str(part), create_model_card=False)


def _training(checkpoint: Checkpoint | None) -> tuple[Any, ...]:
    """The columns of ``runs`` from ``checkpoint`` to ``device``."""
    if checkpoint is None:
        return "", 0, "{}", 0, 0, 0.0, ""
    manifest = checkpoint.manifest
    inputs = {f"{one['strategy']} {one['source']}": one["rows_used"] for one in manifest["inputs"]}
    pairs = sum(inputs.values()) * manifest["config"]["epochs"]
    done = (manifest["steps"], manifest["tokens"], manifest["seconds"], manifest["device"]["name"])
    return checkpoint.fingerprint, pairs, _json(inputs), *done
