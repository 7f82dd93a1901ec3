"""The leaderboard: JSON for programs, Markdown and plots for people, a small table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS
from thread_embed_assets.benchmark.plots import Dot, dot_plot
from thread_embed_assets.benchmark.result_tables import RUN
from thread_embed_assets.benchmark.tasks import TASK_NAMES
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table

Row = dict[str, Any]
READING = (
    f"{HEADLINE} with its 95 % interval, bootstrapped over clusters of queries (channel and day; the conversation where a "
    "source has no times). Every contender searches the same index in the text format that suited it best on dev. "
    "Gold threads were annotated by people or are explicit on the platform; silver ones were predicted."
)
TESTS = (
    "Paired, on the same queries: the mean difference with its 95 % interval, the p-value of a permutation test that flips "
    "signs by cluster, and the same after Holm's correction over all comparisons of the source and metric."
)
FEW_CLUSTERS = "Fewer than five clusters: queries were resampled one by one, so the intervals are likely too narrow."


@dataclass(frozen=True)
class Leaderboard:
    """What was written.

    Attributes:
        content: as in ``leaderboard.json``: per source its tasks, rows and comparisons.
        plots: PNG files, one per source and task.
    """

    json_path: Path
    markdown_path: Path
    plots: tuple[Path, ...]
    content: Mapping[str, Any]

    @property
    def markdown(self) -> str:
        return self.markdown_path.read_text(encoding="utf-8")


def write_leaderboard(results: Sequence[Path], layout: Layout) -> Leaderboard:
    """Write ``leaderboard.json``, ``leaderboard.md`` and the plots below ``layout.benchmark``.

    Args:
        results: files written by ``evaluate.evaluate_source``, one per source.
        layout: where to write.

    Raises:
        InputError: a results file is missing or damaged.
    """
    sources = sorted((_source(path) for path in results), key=lambda entry: str(entry["source"]))
    content = {"metrics": list(METRICS), "headline": HEADLINE, "sources": sources}
    plots = tuple(path for entry in sources for path in _plots(entry, layout))
    paths = (layout.benchmark / "leaderboard.json", layout.benchmark / "leaderboard.md")
    write_text(paths[0], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(paths[1], _markdown(sources))
    return Leaderboard(*paths, plots, content)


def read_leaderboard(layout: Layout) -> Leaderboard:
    """The leaderboard as it was last written.

    Raises:
        InputError: there is none.
    """
    paths = (layout.benchmark / "leaderboard.json", layout.benchmark / "leaderboard.md")
    if not paths[0].exists():
        raise InputError(paths[0], "there is no leaderboard yet", "Materialise the leaderboard")
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    return Leaderboard(*paths, tuple(sorted((layout.benchmark / "plots").glob("*.png"))), content)


def terminal_table(leaderboard: Leaderboard) -> str:
    """The headline metric per source, one line per contender, columns aligned with spaces."""
    blocks = []
    for entry in leaderboard.content["sources"]:
        tasks = [task["task"] for task in entry["tasks"]]
        table = [[entry["source"], *(f"{task['task']} (n={task['n']})" for task in entry["tasks"])]]
        table += [[row["contender"], *(_cell(row, task, HEADLINE) for task in tasks)] for row in entry["rows"]]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
        blocks.append("\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *_reasons(entry)]))
    return f"{HEADLINE} [95 % interval]\n\n" + "\n\n".join(blocks)


def _source(path: Path) -> Row:
    """One source's part of the leaderboard, test split only; the dev scores that chose the formats stand beside it."""
    summary = list(open_table(path, "summary").rows_as_dicts())
    test = [row for row in summary if row["split"] == "test"]
    ran = [row for row in test if row["status"] == RUN]
    order = list(dict.fromkeys(row["contender"] for row in _by_role(test)))
    tasks = []
    for name in TASK_NAMES:
        of_task = [row for row in ran if row["task"] == name]
        if of_task:
            tasks.append({key: of_task[0][key] for key in ("task", "tier", "n", "documents", "clusters", "resampled")})
    rows = []
    for contender in order:
        mine = [row for row in test if row["contender"] == contender]
        head = {key: mine[0][key] for key in ("contender", "role", "format", "status", "reason")}
        scores = {row["task"]: _scores(row) for row in mine if row["status"] == RUN}
        rows.append({**head, "scores": scores})
    dev = [
        {
            "contender": r["contender"],
            "format": r["format"],
            "task": r["task"],
            "n": r["n"],
            "chosen": r["chosen"],
            HEADLINE: r[HEADLINE],
        }
        for r in _by_role(row for row in summary if row["split"] == "dev")
    ]
    drop = {"source", "split"}
    comparisons = [
        {key: value for key, value in row.items() if key not in drop}
        for row in open_table(path, "comparisons").rows_as_dicts()
    ]
    return {"source": test[0]["source"], "tasks": tasks, "rows": rows, "comparisons": comparisons, "dev": dev}


def _by_role(rows: Iterable[Row]) -> list[Row]:
    roles = ("baseline", "base", "base_hybrid", "reference", "tuned", "tuned_hybrid")
    return sorted(rows, key=lambda row: roles.index(row["role"]))


def _scores(row: Row) -> dict[str, dict[str, float]]:
    return {name: {"mean": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]} for name in METRICS}


def _plots(entry: Row, layout: Layout) -> list[Path]:
    paths = []
    for task in entry["tasks"]:
        name = task["task"]
        dots = [
            Dot(row["contender"], row["role"], *(row["scores"][name][HEADLINE][key] for key in ("mean", "low", "high")))
            for row in entry["rows"]
            if name in row["scores"]
        ]
        path = layout.benchmark / "plots" / f"{entry['source']}_{name}.png"
        title = f"{entry['source']}: {name} ({task['n']} queries, {task['documents']} documents, {task['tier']})"
        dot_plot(path, title, HEADLINE, dots)
        paths.append(path)
    return paths


def _markdown(sources: Sequence[Row]) -> str:
    parts = ["# Leaderboard", READING]
    for entry in sources:
        parts += _markdown_source(entry)
    return "\n\n".join(parts) + "\n"


def _markdown_source(entry: Row) -> list[str]:
    tasks = entry["tasks"]
    parts = [f"## {entry['source']}"]
    sizes = (
        f"{t['task']}: {t['n']} queries, {t['documents']} documents, {t['clusters']} clusters, {t['tier']}" for t in tasks
    )
    parts.append("; ".join(sizes) + ".")
    if any(task["resampled"] == "query" for task in tasks):
        parts.append(FEW_CLUSTERS)
    header = ["contender", "text format", *(task["task"] for task in tasks)]
    parts.append(_table(header, [_line(row, [(t["task"], HEADLINE) for t in tasks]) for row in entry["rows"]]))
    others = [(task["task"], metric) for task in tasks for metric in METRICS if metric != HEADLINE]
    parts += _reasons(entry)
    lines = [_line(row, others, interval=False) for row in entry["rows"]]
    parts += ["### Other metrics", _table(["contender", "text format", *(f"{t} {m}" for t, m in others)], lines)]
    if entry["comparisons"]:
        header = ["task", "metric", "a", "b", "a - b", "p", "p (Holm)"]
        parts += ["### Comparisons", TESTS, _table(header, [_comparison(c) for c in entry["comparisons"]])]
    if entry["dev"]:
        header = ["contender", "text format", "task", "n", HEADLINE, "chosen"]
        lines = [
            [d["contender"], d["format"], d["task"], str(d["n"]), f"{d[HEADLINE]:.3f}", "yes" if d["chosen"] else ""]
            for d in entry["dev"]
        ]
        parts += ["### Text formats on dev", _table(header, lines)]
    return parts


def _line(row: Row, columns: Iterable[tuple[str, str]], interval: bool = True) -> list[str]:
    return [row["contender"], row["format"] or "", *(_cell(row, task, metric, interval) for task, metric in columns)]


def _cell(row: Row, task: str, metric: str, interval: bool = True) -> str:
    if row["status"] != RUN:
        return str(row["status"])
    score = row["scores"][task][metric]
    mean = f"{score['mean']:.3f}"
    return f"{mean} [{score['low']:.3f}, {score['high']:.3f}]" if interval else mean


def _reasons(entry: Row) -> list[str]:
    return [f"{row['contender']}: {row['status']}, {row['reason']}." for row in entry["rows"] if row["status"] != RUN]


def _comparison(row: Row) -> list[str]:
    difference = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    names = [row[key] for key in ("task", "metric", "contender_a", "contender_b")]
    return [*names, difference, f"{row['p']:.4f}", f"{row['p_holm']:.4f}"]


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
