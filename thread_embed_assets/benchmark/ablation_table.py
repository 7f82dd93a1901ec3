"""All arms in one table: dev scores, the difference to the reference with its interval, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.benchmark.ablation_plan import REFERENCE, TABLE, Arm, Plan
from thread_embed_assets.benchmark.ablations import SCORES, read_about
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.result_tables import NOT_RUN, RUN
from thread_embed_assets.benchmark.statistics import Cell, Floats, Interval, bootstrap, macro_bootstrap
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.charts import Chart, Intervals
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.pages import Page, Part, Section, Table, write_page
from thread_embed_assets.storage.tables import open_table

RESULTS = "table.json"
_CELL_RESAMPLES = 2_000
_DIFFERENCE = f"mean {HEADLINE} minus the reference's"

Place = tuple[str, str]
"""(source, task)"""


@dataclass(frozen=True)
class _Scored:
    """Per-query scores of an arm in one cell, the mean over its seeds."""

    query_ids: Sequence[str]
    clusters: Sequence[str]
    values: Floats


@dataclass(frozen=True)
class _Arm:
    """An arm as its file tells it.

    Attributes:
        by_seed: seed to the mean of the cells' means.
        runs: a row a seed, of ``ablations.SCHEMAS['runs']``.
    """

    cells: Mapping[Place, _Scored]
    by_seed: Mapping[int, float]
    runs: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One level of one question.

    Attributes:
        reason: why it was not run.
        score: mean of the means of all cells (source x task).
        difference: to the reference, with a 95 % interval over clusters; None for the reference itself.
        cells: ``source task`` to its score, and the difference to the reference with its interval.
        by_seed: seed to ``score``.
        cost: of all seeds together: pairs, tokens and seconds of training, texts embedded and seconds for scoring.
        devices: on which it was trained.
        inputs: strategy and source to pairs, of the first seed.
    """

    question: str
    level: str
    arm: str
    status: str
    reason: str = ""
    score: float | None = None
    difference: Interval | None = None
    cells: Mapping[str, tuple[float, Interval | None]] | None = None
    by_seed: Mapping[int, float] | None = None
    cost: Mapping[str, float] | None = None
    devices: Sequence[str] = ()
    inputs: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Written:
    """The table as it was written: its page with the picture inside, and its rows."""

    page: str
    rows: Sequence[Row]
    folder: Path


def write_table(plan: Plan, layout: Layout) -> Written:
    """Compare all arms that are there with the reference; writes ``report.md``, its picture and ``table.json``.

    Raises:
        InputError: the reference was not run.
    """
    reference = _read(layout, REFERENCE)
    if reference is None:
        problem = "the reference was not run, so there is nothing to compare an arm with"
        raise InputError(layout.ablation(REFERENCE), problem, f"Materialise the partition '{REFERENCE}' of ablation")
    rows = list(_rows(plan, layout, reference))
    setting = reference.about["setting"]
    described = {"metric": HEADLINE, "split": "dev", "setting": setting, "rows": [asdict(row) for row in rows]}
    content = json.dumps(described, indent=1, sort_keys=True) + "\n"
    page = write_page(_page(plan, rows, setting), layout.ablation(TABLE), {RESULTS: content})
    return Written(page, rows, layout.ablation(TABLE))


def _read(layout: Layout, name: str) -> _Arm | None:
    path = layout.ablation(name) / SCORES
    if not path.exists():
        return None
    found: dict[Place, dict[str, list[float]]] = {}
    cluster_of: dict[tuple[str, str, str], str] = {}
    means: dict[int, dict[Place, list[float]]] = {}
    for row in open_table(path, "scores").rows_as_dicts(order_by="seed, source, task, query_id"):
        place = (row["source"], row["task"])
        found.setdefault(place, {}).setdefault(row["query_id"], []).append(row[HEADLINE])
        cluster_of[(*place, row["query_id"])] = row["cluster"]
        means.setdefault(row["seed"], {}).setdefault(place, []).append(row[HEADLINE])
    cells = {
        place: _Scored(
            list(queries),
            [cluster_of[(*place, query)] for query in queries],
            np.array([np.mean(values) for values in queries.values()]),
        )
        for place, queries in found.items()
    }
    by_seed = {number: float(np.mean([np.mean(v) for v in of_seed.values()])) for number, of_seed in means.items()}
    return _Arm(cells, by_seed, list(open_table(path, "runs").rows_as_dicts(order_by="seed")), read_about(path))


def _rows(plan: Plan, layout: Layout, reference: _Arm) -> Iterator[Row]:
    for question in plan.questions.values():
        yield _compared(question.asks, question.reference, REFERENCE, reference, None)
        for name, arm in question.arms.items():
            found = _read(layout, name)
            reason = _reason(name, arm, found, reference)
            if found is None or reason:
                yield Row(question.asks, arm.level, name, NOT_RUN, reason)
            else:
                yield _compared(question.asks, arm.level, name, found, reference)


def _reason(name: str, arm: Arm, found: _Arm | None, reference: _Arm) -> str:
    """Why an arm cannot stand beside the reference; empty where it can."""
    if found is None:
        return f"the partition {name} of ablation was not materialised"
    if found.about["arm"] != arm.model_dump(mode="json"):
        return "it was run as something else than what is declared now"
    if found.about["setting"] != reference.about["setting"]:
        ours, theirs = found.about["setting"], reference.about["setting"]
        differing = [part for part in theirs if ours.get(part) != theirs[part]]
        return f"it was run with other {', '.join(differing)} than the reference"
    return ""


def _compared(asks: str, level: str, name: str, arm: _Arm, reference: _Arm | None) -> Row:
    cells: dict[str, tuple[float, Interval | None]] = {}
    differences = []
    for place, scored in arm.cells.items():
        source, task = place
        interval = None
        if reference is not None:
            other = reference.cells[place]
            assert scored.query_ids == other.query_ids
            apart = scored.values - other.values
            differences.append(Cell(source, apart, scored.clusters))
            [interval] = bootstrap(apart[:, None], scored.clusters, seed("ablation", *place), _CELL_RESAMPLES)
        cells[f"{source} {task}"] = (float(scored.values.mean()), interval)
    sums = {cost: float(sum(run[cost] for run in arm.runs)) for cost in _COSTS}
    return Row(
        *(asks, level, name, RUN),
        score=float(np.mean([score for score, _ in cells.values()])),
        difference=macro_bootstrap(differences, seed("ablation")) if differences else None,
        cells=cells,
        by_seed=arm.by_seed,
        cost=sums,
        devices=sorted({run["device"] for run in arm.runs if run["device"]}),
        inputs=json.loads(arm.runs[0]["inputs"]),
    )


_COSTS = ("pairs", "tokens", "train_seconds", "texts_embedded", "score_seconds")


def _page(plan: Plan, rows: Sequence[Row], setting: Mapping[str, Any]) -> Page:
    chart = Chart("differences", f"{_DIFFERENCE}, with intervals", [_panel(rows)], columns=1)
    sections = [Section("All differences", [chart])]
    for asks in dict.fromkeys(row.question for row in rows):
        members = [row for row in rows if row.question == asks]
        parts: list[Part] = [_scores(members), _costs(members)]
        sections.append(Section(asks, parts))
    note = "An arrow: the 95 % interval of the cell's difference to the reference leaves out 0."
    sections.append(Section("Each source and task", [note, _by_cell(rows)]))
    return Page("Ablations", _lead(plan, rows, setting), sections)


def _lead(plan: Plan, rows: Sequence[Row], setting: Mapping[str, Any]) -> str:
    stage = setting["stage"]
    devices = sorted({device for row in rows for device in row.devices})
    run = sum(row.status == RUN and row.arm != REFERENCE for row in rows)
    return (
        f"{run} of {len(plan.arms) - 1} arms, each the reference but for one choice. Budget of each: "
        f"{stage['max_pairs']:,} pairs, {stage['epochs']} epoch(s), seeds {', '.join(map(str, setting['seeds']))}, from "
        f"`{stage['base_model']}`, trained on {', '.join(sorted({name.split()[1] for name in setting['train']}))} "
        f"({'; '.join(devices)}). Scored on dev alone: {HEADLINE} of the tasks {', '.join(setting['tasks'])} of "
        f"{', '.join(setting['dev'])}, names masked, over each task's whole index; the score of an arm is the mean over "
        "sources and tasks, and over seeds. `reference` is what the others differ from.\n\n"
        "A difference is paired by query; its 95 % interval is drawn over clusters of queries (channel and day), not "
        "over training runs, of which the columns by seed tell. Where it holds 0, nothing is decided. It is not "
        "corrected for the number of arms: of 20 choices without effect one will look like one. Strategies and sources "
        "share the budget by the rows of their tables, which some choices change (`inputs` in the JSON). Test was not "
        "looked at, and nothing here sets a default: people do, who have read it."
    )


def _panel(rows: Sequence[Row]) -> Intervals:
    shown: dict[str, tuple[float, float, float] | None] = {}
    for row in rows:
        if row.arm != REFERENCE:
            found = row.difference
            shown[row.arm] = (found.mean, found.low, found.high) if found else None
    return Intervals("Arms against the reference", _DIFFERENCE, shown)


def _scores(rows: Sequence[Row]) -> Table:
    numbers = sorted({number for row in rows for number in row.by_seed or {}})
    columns = [
        "level",
        "arm",
        f"mean {HEADLINE}",
        "difference",
        "95 % interval",
        *(f"seed {n}" for n in numbers),
        "clusters",
    ]
    return Table(columns, [[row.level, row.arm, *_numbers(row, numbers)] for row in rows])


def _numbers(row: Row, numbers: Sequence[int]) -> list[str | int]:
    by_seed = row.by_seed or {}
    if row.score is None:
        return [f"{NOT_RUN}: {row.reason}", *[""] * (3 + len(numbers))]
    found = row.difference
    apart = [_signed(found.mean), f"{_signed(found.low)} to {_signed(found.high)}"] if found else ["reference", ""]
    seeds = [f"{by_seed[number]:.3f}" if number in by_seed else "" for number in numbers]
    return [f"{row.score:.3f}", *apart, *seeds, found.clusters if found else ""]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _costs(rows: Sequence[Row]) -> Table:
    columns = ["level", "pairs trained on", "tokens", "seconds of training", "texts embedded", "seconds of scoring"]
    return Table(columns, [[row.level, *(round(row.cost[cost]) for cost in _COSTS)] for row in rows if row.cost])


def _by_cell(rows: Sequence[Row]) -> Table:
    """An arrow where the interval of the difference leaves out 0."""
    ran = list({row.arm: row for row in rows if row.cells}.values())
    places = list(ran[0].cells or {})
    return Table(["arm", *places], [[row.arm, *(_cell(row, place) for place in places)] for row in ran])


def _cell(row: Row, place: str) -> str:
    score, interval = (row.cells or {})[place]
    sure = "" if interval is None or interval.low <= 0 <= interval.high else " ↑" if interval.low > 0 else " ↓"
    return f"{score:.3f}{sure}"
