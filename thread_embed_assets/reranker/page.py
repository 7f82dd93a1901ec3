"""What a reranker's assets show: tables by tier, what becomes of messages, and pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thread_embed_assets.benchmark.disentangling import markdown
from thread_embed_assets.reranker.clear_cases import Spoken
from thread_embed_assets.reranker.evaluate import Evaluated
from thread_embed_assets.reranker.linking import Linked
from thread_embed_assets.reranker.results import FUSED
from thread_embed_assets.training.loss_curve import DevPoint, LossPoint, loss_curve

_WRITTEN = {"route": "routed", "ask": "asked about", "new": "started a thread"}


def pages(found: Evaluated) -> dict[str, str]:
    """Markdown tables by name: ``hit@1``, ``differences``, ``outcomes``."""
    tables = {name: list(table.rows_as_dicts()) for name, table in found.tables.items() if name != "reliability"}
    return {
        "hit@1": _hits(tables["summary"]),
        "differences": _differences(tables["comparisons"]),
        "outcomes": _outcomes(tables["outcomes"]),
    }


def links_table(linked: Linked) -> str:
    """Links and clusters of annotated logs by split, and what dev chose."""
    parts = [f"**{split}**\n\n{markdown(rows)}" for split, rows in linked.rows.items()]
    chosen = [
        f"{method}: weight {f.reranker:g}, new thread {f.new:+g}" for method, f in linked.fusions.items() if f.reranker
    ]
    return "\n\n".join([*parts, f"Chosen on dev: {'; '.join(chosen)}."])


def rules_table(found: Mapping[str, Sequence[Spoken]]) -> str:
    """A line for each origin and rule that spoke: messages decided, and the share of these that is right."""
    lines = [
        [origin, one.rule, f"{one.decided:,}", f"{100 * one.decided / one.messages:.1f}", f"{one.right / one.decided:.3f}"]
        for origin, rows in found.items()
        for one in rows
        if one.decided
    ]
    return _table(["messages of", "rule", "decided", "% of messages", "right"], lines)


def _hits(rows: Iterable[Mapping[str, Any]]) -> str:
    """A line for each population and slice, a column for each system; MRR and new threads of the whole."""
    systems: dict[str, None] = {}
    cells: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        systems.setdefault(row["system"])
        cells.setdefault((row["population"], row["slice"]), {})[row["system"]] = row
    lines = []
    for (population, part), of_system in cells.items():
        any_row = next(iter(of_system.values()))
        found = [of_system.get(system) for system in systems]
        hits = [f"{r['hit@1']:.3f} [{r['hit@1_low']:.3f}, {r['hit@1_high']:.3f}]" if r else "" for r in found]
        fused = of_system.get(FUSED, any_row)
        f1 = "" if fused["new_f1"] is None else f"{fused['new_f1']:.3f}"
        lines.append([population, part, f"{any_row['n']:,}", *hits, f"{fused['MRR']:.3f}", f1])
    return _table(["messages of", "", "n", *(f"hit@1, {s}" for s in systems), "MRR, fused", "new thread F1, fused"], lines)


def _differences(rows: Iterable[Mapping[str, Any]]) -> str:
    """The fused model minus each other system, over all messages of a population."""
    lines = [
        [
            row["population"],
            row["system_b"],
            f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            f"{row['p']:.4f}",
        ]
        for row in rows
        if row["system_a"] == FUSED and row["dimension"] == "all" and row["metric"] == "hit@1"
    ]
    return _table(["messages of", "fused minus", "hit@1", "p"], lines)


def _outcomes(rows: Iterable[Mapping[str, Any]]) -> str:
    """Per cent of test messages that the fused model routes, asks about or starts a thread with, and how many rightly."""
    counts: dict[tuple[str, str], dict[tuple[str, bool], int]] = {}
    for row in rows:
        if row["system"] == FUSED and row["split"] == "test":
            of_truth = counts.setdefault((row["population"], row["truth"]), {})
            of_truth[row["outcome"], row["right"]] = row["count"]
    lines = []
    for (population, truth), found in counts.items():
        total = sum(found.values())
        cells = []
        for outcome in _WRITTEN:
            right, wrong = found.get((outcome, True), 0), found.get((outcome, False), 0)
            cells.append(f"{100 * (right + wrong) / total:.1f} ({100 * right / max(1, right + wrong):.0f} % right)")
        lines.append([population, truth, f"{total:,}", *cells])
    return _table(["messages of", "truth", "n", *(f"{words}, %" for words in _WRITTEN.values())], lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join(rows)


def training_curve(history: Mapping[str, Any]) -> bytes:
    """A PNG: loss by step, and hit@1 on dev of each tier after each epoch."""
    steps: list[LossPoint] = history["steps"]
    dev: list[DevPoint] = [
        {
            "step": epoch["step"],
            "mrr": epoch["dev"]["hit@1"],
            "sets": {tier: found["hit@1"] for tier, found in epoch["dev"]["tiers"].items()},
        }
        for epoch in history["epochs"]
    ]
    return loss_curve(steps, dev, "Reranker: training loss", "hit@1")


def calibration_curve(found: Evaluated) -> bytes:
    """A PNG: of the fused model's decisions on test, the share that is right by confidence, a line for each population."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    lines: dict[str, list[tuple[float, float, int]]] = {}
    for row in found.tables["reliability"].rows_as_dicts(where=f"system = '{FUSED}' AND split = 'test'"):
        lines.setdefault(row["population"], []).append((row["confidence"], row["right"], row["count"]))
    for population, points in lines.items():
        confidence, right, counts = zip(*points, strict=True)
        axes.plot(confidence, right, marker="o", label=f"{population} (n={sum(counts):,})")
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1), title="Calibration on test")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
