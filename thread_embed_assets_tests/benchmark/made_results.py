"""Invented results of a benchmark, the leaderboard that is written of them, and what its Markdown says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thread_embed_assets.benchmark import report_plots
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS
from thread_embed_assets.benchmark.report import Leaderboard, write_leaderboard
from thread_embed_assets.benchmark.result_tables import SCHEMAS
from thread_embed_assets.benchmark.statistics import Floats, bootstrap, paired_p
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableWriter, write_tables

PNG = b"\x89PNG\r\n\x1a\n"
_BOUNDS = 3 * len(METRICS)


@dataclass(frozen=True)
class Made:
    """An invented contender: ``skill`` is what it is good at, ``missing`` why it did not run on ``tasks`` (none: on all)."""

    name: str
    role: str
    skill: float
    missing: str = ""
    tasks: Sequence[str] = ()

    def lacks(self, task: str) -> bool:
        return bool(self.missing) and (not self.tasks or task in self.tasks)


FEW = (
    Made("bm25", "baseline", 0.2),
    Made("base", "base", 0.4),
    Made("base+bm25", "base_hybrid", 0.5),
    Made("big", "reference", 0.0, "it is not on this machine"),
    Made("tuned", "tuned", 0.7),
    Made("tuned-without", "tuned_transfer", 0.6),
    Made("tuned+bm25", "tuned_hybrid", 0.8),
)
BINS = {
    "thread_length": ("up to 5 messages", "6 to 10", "over 10"),
    "time_gap": ("within a minute", "1 to 60 minutes", "over an hour"),
    "word_overlap": tuple(f"{i / 10:.2f} to {(i + 1) / 10:.2f}" for i in range(10)),
    "difficulty": ("BM25 finds it first", "BM25: rank 2 to 10", "beyond BM25's first ten"),
}
_PAIRS = (
    ("tuned", "base"),
    ("tuned", "baseline"),
    ("tuned_transfer", "base"),
    ("tuned", "tuned_transfer"),
    ("tuned_hybrid", "base_hybrid"),
)


@dataclass(frozen=True)
class MadeSource:
    """Invented results of one source, in which every number follows from per-query ranks that are drawn once."""

    name: str
    tasks: Sequence[str] = ("thread", "summary")
    contenders: Sequence[Made] = FEW
    queries: int = 40
    clusters: int = 8
    near: bool = True
    resamples: int = 200

    def write(self, path: Path) -> Path:
        with write_tables(path, SCHEMAS) as writer:
            for task in self.tasks:
                self._write_task(writer, task)
        return path

    def values(self, task: str, contender: Made, view: str = "masked", index: str = "corpus", dim: int = 384) -> Floats:
        """[queries, metrics]: what follows from a rank for a single relevant document."""
        hard = _draw(self.name, task).normal(size=self.queries)
        own = _draw(self.name, task, contender.name, view, index).normal(size=self.queries)
        lift = {"intact": 0.8, "names": -0.3, "typos": -0.2, "paraphrase": -0.3}.get(view, 0) + (
            0.3 if index == "near" else 0
        )
        ease = 1.4 * contender.skill + lift - 0.001 * (384 - dim) + 0.2 * ("summary" in task)
        ranks = np.ceil(np.exp(2.2 + 1.4 * (0.8 * hard + 0.6 * own) - 1.4 * ease))
        top = ranks <= 10
        reciprocal = np.where(top, 1 / ranks, 0.0)
        gain = np.where(top, 1 / np.log2(1 + ranks), 0.0)
        return np.stack([reciprocal, ranks == 1, ranks <= 5, top, gain], axis=1).astype(np.float64)

    def query_clusters(self) -> list[str]:
        return [f"general/day{number % self.clusters:02d}" for number in range(self.queries)]

    def _write_task(self, writer: TableWriter, task: str) -> None:
        for made in self.contenders:
            place = (self.name, task, "test", made.name, made.role)
            if made.lacks(task):
                sizes = (None, False, "gold", 0, 500, 0, None)
                bounds = [None] * _BOUNDS
                writer.add("summary", (*place, None, "masked", "corpus", *sizes, *bounds, "NOT RUN", made.missing))
                continue
            encoder = "" if made.role == "baseline" or "+" in made.name else f"f_{made.name}"
            encoder += f" to {self.name}" if made.name.endswith(", fitted") else ""
            writer.add("costs", (*place, "plain", encoder, 2.5, 120))
            self._write_values(writer, (*place, "plain"), task, made)
            self._write_dev(writer, task, made)
            self._write_breakdowns(writer, task, made)
        self._write_comparisons(writer, task)

    def _write_values(self, writer: TableWriter, head: tuple[str, ...], task: str, made: Made) -> None:
        plain: list[tuple[str, str, int | None]] = [
            ("masked", "corpus", None),
            *([("masked", "near", None)] if self.near else []),
        ]
        if made.name == "bm25" or made.role in ("base", "tuned"):
            plain += [("intact", "corpus", None), ("names", "corpus", None), ("typos", "corpus", None)]
            plain += [("paraphrase", "corpus", None)] if task == "summary" else []
        if made.role in ("base", "tuned"):
            plain += [("masked", "corpus", dim) for dim in (256, 128, 64)]
        for view, index, dim in plain:
            some = slice(0, self.queries // 2 if view == "paraphrase" else self.queries)
            values, clusters = self.values(task, made, view, index, dim or 384)[some], self.query_clusters()[some]
            if dim is None:
                rows = zip(clusters, values.tolist(), strict=True)
                writer.add_all("per_query", ((*head, view, index, f"q_{n:04d}", c, *v) for n, (c, v) in enumerate(rows)))
            found = bootstrap(values, clusters, 1, self.resamples)
            bounds = [number for i in found for number in (i.mean, i.low, i.high)]
            sizes = (dim, True, "gold", len(values), 500, found[0].clusters, found[0].by)
            writer.add("summary", (*head, view, index, *sizes, *bounds, "RUN", ""))

    def _write_dev(self, writer: TableWriter, task: str, made: Made) -> None:
        place = (self.name, task, "dev", made.name, made.role)
        for text_format, chosen in (("plain", True), ("speakers", False)):
            bounds = [0.31 if chosen else 0.29] * _BOUNDS
            sizes = (None, chosen, "gold", 15, 80, 5, "cluster")
            writer.add("summary", (*place, text_format, "masked", "corpus", *sizes, *bounds, "RUN", ""))

    def _write_breakdowns(self, writer: TableWriter, task: str, made: Made) -> None:
        if made.name != "bm25" and made.role not in ("base", "tuned"):
            return
        values = self.values(task, made)[:, :1]
        for dimension, bins in BINS.items():
            for position, name in enumerate(bins):
                part = values[position :: len(bins)]
                (found,) = bootstrap(part, self.query_clusters()[position :: len(bins)], 1, self.resamples)
                head = (self.name, task, made.name, made.role, dimension, name, position, len(part))
                writer.add("breakdowns", (*head, found.mean, found.low, found.high))

    def _write_comparisons(self, writer: TableWriter, task: str) -> None:
        roles = {(a, b): (a.role, b.role) for a in self.contenders for b in self.contenders}
        for a, b in (pair for wanted in _PAIRS for pair, found in roles.items() if found == wanted):
            if a.lacks(task) or b.lacks(task):
                continue
            for index in ("corpus", *(["near"] if self.near else [])):
                differences = (self.values(task, a, index=index) - self.values(task, b, index=index))[:, :1]
                (i,) = bootstrap(differences, self.query_clusters(), 1, self.resamples)
                (p,) = paired_p(differences, self.query_clusters(), 1, self.resamples)
                place = (self.name, task, "test", index, HEADLINE, a.name, b.name, self.queries)
                writer.add("comparisons", (*place, i.mean, i.low, i.high, p, i.by))


def _draw(*what: object) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha1(repr(what).encode()).hexdigest()[:12], 16))


PLATFORMS = {"alpha": "irc", "beta": "irc", "gamma": "slack"}
ALPHA = MadeSource("alpha")
BETA = MadeSource("beta", tasks=("thread",), queries=24)
GAMMA = MadeSource(
    "gamma", tasks=("thread",), clusters=3, near=False, contenders=[c for c in FEW if c.role != "tuned_transfer"]
)
TUNED = next(made for made in FEW if made.name == "tuned")


def write_all(layout: Layout, sources: Sequence[MadeSource]) -> Leaderboard:
    paths = [source.write(layout.results(source.name)) for source in sources]
    return write_leaderboard(paths, layout, PLATFORMS)


def undraw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes nearly all of a leaderboard's time; write what would be drawn in the place of a picture."""

    def note(path: Path, *what: object, **how: object) -> None:
        path.write_bytes(PNG + repr((what, how)).encode())

    monkeypatch.setattr(report_plots, "dot_plot", note)
    monkeypatch.setattr(report_plots, "line_plot", note)


def results(leaderboard: Leaderboard, source: MadeSource) -> Path:
    return leaderboard.json_path.parent / "results" / f"{source.name}.duckdb"


def entry(leaderboard: Leaderboard, source: MadeSource) -> dict[str, Any]:
    return next(dict(found) for found in leaderboard.content["sources"] if found["source"] == source.name)


def part(leaderboard: Leaderboard, *titles: str) -> str:
    """The Markdown below a heading, or below one within another."""
    text = "\n" + leaderboard.markdown
    for level, title in enumerate(titles, start=2):
        begin = text.index(f"\n{'#' * level} {title}\n") + 1
        ends = [text.find(f"\n{'#' * up} ", begin) for up in range(2, level + 1)]
        text = text[begin : min((end for end in ends if end >= 0), default=len(text))]
    return text


def table(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table of a text, by the names of its columns."""
    first = next(block for block in text.split("\n\n") if block.startswith("|"))
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in first.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def of(rows: Iterable[Mapping[str, Any]], **wanted: object) -> Mapping[str, Any]:
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found
