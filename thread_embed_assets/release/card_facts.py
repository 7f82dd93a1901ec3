"""What a model's card tells: taken from its manifests, the leaderboard and the general tasks, never typed in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.contamination import lineage
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.report import read_leaderboard
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.standing import contender_name
from thread_embed_assets.release.weights import RESULTS, Released
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint

Row = Mapping[str, Any]

_BESIDE = ("base", "base_hybrid")  # roles that stand in the table beside the model and BM25
_BM25 = "bm25"
_ADDRESSES = {
    "github": "https://github.com/{}",
    "hub": "https://huggingface.co/datasets/{}",
    "hub_stream": "https://huggingface.co/datasets/{}",
}


@dataclass(frozen=True)
class Facts:
    """About one model.

    Attributes:
        name: of the model.
        base: hub id or folder of the model that its first stage started from.
        stages: manifests, the first stage first.
        sources: name to title, ``address``, licence, revision, ``rows_used`` and whether its texts may be passed on
            (``redistribute``).
        scores: source, tier, task, n, contender, reading, mean, low, high; the test split, the headline metric.
        shorter: source, task, dim, mean, low, high of the model, the whole vector first.
        general: what the general tasks gave, as ``benchmark.regression`` writes it; None where they have not been run.
        compared: source to how many of its texts stand in training texts; empty where that was not compared.
        rebuild: commands that train it again; empty where they are not known.
    """

    name: str
    base: str
    stages: Sequence[Row] = field(repr=False)
    sources: Mapping[str, Row]
    scores: Sequence[Row] = ()
    shorter: Sequence[Row] = ()
    general: Row | None = None
    compared: Mapping[str, Row] = field(default_factory=dict)
    rebuild: Sequence[str] = ()

    @property
    def dims(self) -> list[int]:
        """Sizes it was trained for, the largest first; empty where its manifest does not say."""
        return [int(dim) for dim in self.stages[-1].get("matryoshka_dims") or ()]

    @property
    def withheld(self) -> list[str]:
        """Sources whose texts may not be passed on, or of which nobody knows."""
        return sorted(name for name, about in self.sources.items() if not about["redistribute"])


def facts_of_checkpoint(checkpoint: Checkpoint, layout: Layout, catalog: Mapping[str, Source]) -> Facts:
    """Of the last stage's checkpoint; a stage that is not on this machine counts as one of a source that nobody knows.

    Args:
        checkpoint: earlier stages are found from it.
        layout: where they, the leaderboard and the general tasks lie.
        catalog: tells titles and licences.
    """
    unproved: list[str] = []
    stages = list(lineage(checkpoint, layout, unproved))[::-1]
    sources = {name: _about(name, rows, catalog) for name, rows in _rows_used(stages)}
    if unproved:
        sources["an earlier stage"] = _about("not on this machine any more", 0, catalog)
    contender = f"ThreadEmbed-{checkpoint.manifest['mix']}"
    scores, shorter = _of_leaderboard(layout, contender)
    base = checkpoint.manifest.get("original_base") or stages[0].manifest["config"]["base_model"]
    return Facts(
        name="thread-embed",
        base=str(base),
        stages=[stage.manifest for stage in stages],
        sources=sources,
        scores=scores,
        shorter=shorter,
        general=_general(layout.regression, contender),
    )


def facts_of_released(released: Released, layout: Layout, catalog: Mapping[str, Source]) -> Facts:
    """Of a model that travels in the repository; its own scores stand in it, the others' in the leaderboard, if here."""
    manifest = released.manifest
    contender = contender_name(released)
    scores, shorter = _of_leaderboard(layout, contender)
    if not any(row["contender"] == contender for row in scores):
        stored = json.loads((released.folder / RESULTS).read_text(encoding="utf-8"))["leaderboard"]
        scores = [{"contender": contender, "reading": "", "tier": "", "n": None, **row} for row in stored]
    last = {**manifest["stages"][0], "matryoshka_dims": manifest["matryoshka_dims"], "dimension": manifest["dimension"]}
    return Facts(
        name=released.name,
        base=str(manifest["base_model"]["id"]),
        stages=[last, *manifest["stages"][1:]][::-1],
        sources={name: {**_of_catalog(name, catalog), **about} for name, about in manifest["sources"].items()},
        scores=scores,
        shorter=shorter,
        general=_general(layout.regression, contender),
        compared=manifest["compared"],
        rebuild=manifest["rebuild"],
    )


def _rows_used(stages: Sequence[Checkpoint]) -> list[tuple[str, int]]:
    rows: dict[str, int] = {}
    for stage in stages:
        for given in stage.manifest["inputs"]:
            if given["rows_used"]:
                rows[given["source"]] = rows.get(given["source"], 0) + int(given["rows_used"])
    return sorted(rows.items())


def _about(name: str, rows: int, catalog: Mapping[str, Source]) -> Row:
    return {**_of_catalog(name, catalog), "rows_used": rows}


def _of_catalog(name: str, catalog: Mapping[str, Source]) -> Row:
    source = catalog.get(name)
    if source is None:
        return {"title": name, "address": "", "licence": "not stated", "revision": "", "redistribute": False}
    address = _ADDRESSES.get(source.origin.kind, "").format(getattr(source.origin, "repository", ""))
    return {"address": address, **{key: getattr(source, key) for key in ("title", "licence", "revision", "redistribute")}}


def _of_leaderboard(layout: Layout, contender: str) -> tuple[list[Row], list[Row]]:
    """Scores and the model's shorter vectors; both empty where there is no leaderboard, or the model is not on it."""
    try:
        sources = read_leaderboard(layout).content["sources"]
    except InputError:
        return [], []
    scored = [s for s in sources if any(r["contender"] == contender and r["scores"] for r in s["rows"])]
    shorter: list[Row] = [
        {"source": entry["source"], **row}
        for entry in scored
        for row in sorted(entry.get("matryoshka", ()), key=lambda row: -(row["dim"] or 1_000_000))
        if row["contender"] == contender
    ]
    return [row for entry in scored for row in _scores(entry, contender)], shorter


def _scores(entry: Row, contender: str) -> Iterator[Row]:
    shown = [
        row
        for row in entry["rows"]
        if row["contender"] in (contender, f"{contender}, unfitted", _BM25, f"{contender}+{_BM25}") or row["role"] in _BESIDE
    ]
    for task in entry["tasks"]:
        for row in shown:
            if task["task"] in row["scores"]:
                yield {
                    "source": entry["source"],
                    **{key: task[key] for key in ("task", "tier", "n")},
                    "contender": row["contender"],
                    "reading": row["format"],
                    **row["scores"][task["task"]][HEADLINE],
                }


def _general(folder: Path, contender: str) -> Row | None:
    path = folder / "general_tasks.json"
    found: Row | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found if found and found["model"] == contender else None
