"""The leaderboard's content as headings, sentences, tables and pictures, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from thread_embed_assets.benchmark.html_report import Block, Bullets, Cell, Column, Folded, Grid, Part, Picture, Report
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS
from thread_embed_assets.benchmark.report_cells import (
    DID_NOT_RUN,
    NOTHING,
    bounds_cell,
    count_cell,
    difference_cell,
    name_cell,
    number_cell,
    p_cell,
    score_cell,
    with_best,
)
from thread_embed_assets.benchmark.report_content import NAME_VIEWS, NEAR, ROBUSTNESS_VIEWS, Row, by_role, task_order
from thread_embed_assets.benchmark.report_plots import (
    DIMENSIONS,
    bins_of,
    breakdown_panels,
    dim_name,
    dimensions_of,
    dims_of,
    dots,
    plot_name,
    sizes,
)
from thread_embed_assets.benchmark.result_tables import NOT_RUN, RUN
from thread_embed_assets.benchmark.statistics import RESAMPLES

_SIGNIFICANT = 0.05
_TASK_MEANING = {
    "thread": "thread: one message, to its thread without that message.",
    "thread_strict": "thread_strict: the same messages, to threads that end before the message was written.",
    "response": "response: up to five messages, to the window of up to five that follows them.",
    "reply": "reply: that window, to single messages after it; its direct answers count double in NDCG.",
    "summary": "summary: a sentence written by hand, to the thread it tells of.",
}
_READING = (
    f"Numbers are {HEADLINE} with a 95 % interval, bootstrapped over clusters of queries (channel and day; the conversation "
    "where a source has no times). Names are masked unless a table says otherwise. Every contender searches the same index "
    "in the text format that suited it best on dev; everything but the formats is measured on test.",
    "The index is every held-out document of the source; the near slice has only documents of the query's channel that are "
    "nearest in time, which takes away what the platform, the channel and the season give away.",
    "Gold threads were annotated by people or are explicit on the platform; silver ones were predicted.",
)
_TESTS = (
    "Paired, on the same queries: the mean difference with its 95 % interval, the p-value of a permutation test that flips "
    "signs by cluster, and the same after Holm's correction over all {tests} comparisons of {metric} on this page: all "
    "sources, tasks and indexes. Bold: below " + f"{_SIGNIFICANT} after the correction."
)
_TOO_FEW_DRAWS = (
    f"With so many comparisons the smallest p that {RESAMPLES:,} draws can give does not stay below {_SIGNIFICANT}: where "
    "the test was drawn, not exact, nothing can be bold, however large the difference."
)
FEW_CLUSTERS = "Fewer than five clusters: queries were resampled one by one, so the intervals are likely too narrow."
_TRANSFER = (
    "Does training carry over to a platform that it never saw? The base model, the model trained without this source's "
    "platform, and the one trained with it, on the same queries. p is Holm's, over the family of all comparisons."
)
_VIEWS = (
    "Both scores are of the same queries, those that have this view; the difference is paired, with its 95 % interval and "
    "without a test."
)
_COSTS = (
    "Hours of the machine that ran this benchmark, from the time in which texts were really embedded, never from cached "
    "ones. A million texts are such as this benchmark embeds: messages, windows and threads. A million messages are worked "
    "out from the same time by characters{length}; short texts cost a little more than that. Dollars are worked out alike, "
    "from the tokens that the service counted and its declared price. Seconds are this benchmark's, search included; they "
    "leave out what had been embedded before."
)
_BREAKDOWNS = f"{HEADLINE} of parts of the test queries, masked, in the whole index. Parts of a few queries say little."
_MATRYOSHKA = f"{HEADLINE} with only the first components of each vector, normalised again."


def leaderboard_report(content: Row, folder: Path) -> Report:
    """The page that tells ``content``; its pictures are those that ``write_plots`` wrote to ``folder``."""
    sources = content["sources"]
    tasks = task_order(task["task"] for entry in sources for task in entry["tasks"])
    family = content["family"]
    tests = _TESTS.format(tests=family["tests"], metric=HEADLINE)
    if family["tests"] * family["smallest_p"] >= _SIGNIFICANT:
        tests += " " + _TOO_FEW_DRAWS
    blocks = [
        Block("How to read it", [*_READING, Bullets([_TASK_MEANING[name] for name in tasks if name in _TASK_MEANING])]),
        Block("Transfer between platforms", [_TRANSFER, *_transfer_parts(content)]),
        Block("Platforms", _platform_parts(content["platforms"])),
        Block("Cost", _cost_parts(content)),
        *(Block(entry["source"], _lead(entry), _source_blocks(entry, tests, folder)) for entry in sources),
    ]
    return Report("Leaderboard", _summary(sources), blocks)


def why_not_run(sources: Sequence[Row]) -> list[str]:
    """Who did not run, where and why; places are told where the contender ran elsewhere, or for another reason."""
    places: dict[tuple[str, str], list[str]] = {}
    takes_part: dict[str, int] = {}
    for entry in sources:
        for row in entry["rows"]:
            takes_part[row["contender"]] = takes_part.get(row["contender"], 0) + len(row["scores"]) + len(row["not_run"])
            for task, reason in row["not_run"].items():
                places.setdefault((row["contender"], reason), []).append(f"{entry['source']} {task}")
    lines = []
    for (name, reason), where in places.items():
        at = "" if len(where) == takes_part[name] else f" on {', '.join(where)}"
        lines.append(f"{name}: {NOT_RUN}{at}, {reason.rstrip('.')}.")
    return lines


def _summary(sources: Sequence[Row]) -> list[Part]:
    """One row per contender, one column per source and task."""
    ran = {row["contender"] for entry in sources for row in entry["rows"] if row["scores"]}
    everybody = sorted(
        by_role(row for entry in sources for row in entry["rows"]), key=lambda row: row["contender"] not in ran
    )
    heads = {row["contender"]: row["role"] for row in everybody}
    columns, cells = [Column("contender")], []
    for entry in sources:
        rows = {row["contender"]: row for row in entry["rows"]}
        for task in entry["tasks"]:
            columns.append(Column(task["task"], f"n {task['n']:,}", entry["source"]))
            found = {name: score_cell(row, "scores", task["task"], HEADLINE, words=False) for name, row in rows.items()}
            cells.append(with_best(found))
    lines = [[name_cell(name, role), *(column.get(name, NOTHING) for column in cells)] for name, role in heads.items()]
    caption = f"{HEADLINE} in the whole index, names masked; the best of each column in bold."
    caption += " Lines are 95 % intervals. Empty: not a contender of this source."
    return [Grid(columns, lines, caption), *_bullets(why_not_run(sources))]


def _bullets(lines: Sequence[str]) -> list[Part]:
    return [Bullets(lines)] if lines else []


def _transfer_parts(content: Row) -> list[Part]:
    lines = []
    for row in content["transfer"]:
        steps = (row["transfer_minus_base"], row["tuned_minus_transfer"])
        scores = [number_cell(row[key]) for key in ("base", "tuned_transfer", "tuned")]
        if row["reason"]:
            scores[1] = DID_NOT_RUN
        compared = [cell for step in steps for cell in _step_cells(step)]
        lines.append(
            [Cell(row["source"]), Cell(row["platform"]), Cell(row["task"]), count_cell(row["n"]), *scores, *compared]
        )
    without = [
        e["source"] for e in content["sources"] if not any(row["source"] == e["source"] for row in content["transfer"])
    ]
    rest = [f"No model trained without its platform was given for {', '.join(without)}."] if without else []
    names = ("source", "platform", "task", "n", "base", "without it", "with it")
    steps_ = ("without it - base", "p (Holm)", "with it - without it", "p (Holm)")
    return [*([Grid([Column(name) for name in (*names, *steps_)], lines)] if lines else []), *rest]


def _step_cells(step: dict[str, float] | None) -> tuple[Cell, Cell]:
    sure = step is not None and step["p_holm"] < _SIGNIFICANT
    return difference_cell(step, sure), p_cell(step["p_holm"] if step else None, sure)


def _platform_parts(rows: Sequence[Row]) -> list[Part]:
    if not rows:
        return ["No source of a known platform."]
    places = {(row["platform"], row["task"]): row for row in rows}
    contenders = {row["contender"]: row["role"] for row in by_role(rows)}
    lines = []
    for (platform, task), place in places.items():
        found = {r["contender"]: bounds_cell(r) for r in rows if (r["platform"], r["task"]) == (platform, task)}
        cells = [with_best(found).get(name, NOTHING) for name in contenders]
        lines.append([Cell(platform), Cell(", ".join(place["sources"])), Cell(task), count_cell(place["n"]), *cells])
    columns = [Column(name) for name in ("platform", "sources", "task", "n", *contenders)]
    return [f"{HEADLINE}; queries of a platform's sources are pooled and count alike.", Grid(columns, lines)]


def _cost_parts(content: Row) -> list[Part]:
    length = content["message_characters"]
    lines = []
    for row in content["costs"]:
        ran = row["status"] == RUN
        numbers = [
            number_cell(row["seconds"], 1),
            count_cell(row["texts_embedded"]),
            number_cell(row["characters_per_text"], 0),
            number_cell(row["hours_per_million_texts"], 2),
            number_cell(row["hours_per_million_messages"], 2),
            number_cell(row["dollars_per_million_messages"], 2),
        ]
        lines.append([name_cell(row["contender"], row["role"]), *(numbers if ran else [DID_NOT_RUN] * len(numbers))])
    columns = [
        Column("contender"),
        *(Column("seconds", "of this benchmark"), Column("texts", "embedded"), Column("characters", "a text")),
        *(Column("hours", "a million texts"), Column("hours", "a million messages")),
        Column("dollars", "a million messages"),
    ]
    return [_COSTS.format(length=f" ({length:.0f} a message)" if length else ""), Grid(columns, lines)]


def _lead(entry: Row) -> list[Part]:
    parts = [f"{t['task']}: {sizes(t)}, {t['clusters'] or 0:,} clusters, {t['tier']}" for t in entry["tasks"]]
    platform = f"Platform: {entry['platform']}. " if entry["platform"] else ""
    few = [FEW_CLUSTERS] if any(task["resampled"] == "query" for task in entry["tasks"]) else []
    return [platform + "; ".join(parts) + ".", *few]


def _source_blocks(entry: Row, tests: str, folder: Path) -> list[Block]:
    near = entry["indexes"][NEAR]
    nothing = "None: this source has no channels or times, or nothing was searched there."
    pictures = [
        Picture(folder / plot_name(entry, name), f"{entry['source']}, {name}: {HEADLINE} of each contender, best on top")
        for name in (task["task"] for task in entry["tasks"])
        if dots(entry, name)
    ]
    blocks = [
        Block("Headline", [_scores_grid(entry, "scores", entry["tasks"]), *_bullets(why_not_run([entry])), *pictures]),
        Block("Near slice", [_scores_grid(entry, "near", near) if near else nothing]),
        Block("Other metrics", [_others_grid(entry)]),
        Block("Comparisons", [tests, _comparisons_grid(entry)]),
        Block("Name leak", _view_parts(entry, NAME_VIEWS)),
        Block("Robustness", _view_parts(entry, ROBUSTNESS_VIEWS)),
        Block("Breakdowns", _breakdown_parts(entry, folder)),
        Block("Matryoshka", _matryoshka_parts(entry, folder)),
        Block("Text formats on dev", [_dev_grid(entry["dev"])] if entry["dev"] else []),
    ]
    return [block for block in blocks if block.parts]


def _scores_grid(entry: Row, index: str, tasks: Sequence[Row]) -> Grid:
    columns = [Column("contender"), Column("text format"), *(Column(t["task"], sizes(t)) for t in tasks)]
    found = [
        with_best({row["contender"]: score_cell(row, index, task["task"], HEADLINE) for row in entry["rows"]})
        for task in tasks
    ]
    lines = [
        [
            name_cell(row["contender"], row["role"]),
            Cell(row["format"] or ""),
            *(column[row["contender"]] for column in found),
        ]
        for row in entry["rows"]
    ]
    return Grid(columns, lines)


def _others_grid(entry: Row) -> Grid:
    wanted = [(task["task"], metric) for task in entry["tasks"] for metric in METRICS if metric != HEADLINE]
    columns = [Column("contender"), *(Column(metric, group=task) for task, metric in wanted)]
    found = []
    for task, metric in wanted:
        cells = {row["contender"]: score_cell(row, "scores", task, metric, words=False) for row in entry["rows"]}
        found.append(with_best({name: replace(cell, interval=None) for name, cell in cells.items()}))
    lines = [
        [name_cell(row["contender"], row["role"]), *(column[row["contender"]] for column in found)] for row in entry["rows"]
    ]
    return Grid(columns, lines)


def _comparisons_grid(entry: Row) -> Grid:
    columns = [Column(name) for name in ("a", "b", "task", "index", "n", "a - b", "p", "p (Holm)")]
    lines = []
    for row in entry["comparisons"]:
        sure = row["p_holm"] < _SIGNIFICANT
        names = [Cell(row[key]) for key in ("contender_a", "contender_b", "task", "index")]
        lines.append(
            [*names, count_cell(row["n"]), difference_cell(row, sure), p_cell(row["p"]), p_cell(row["p_holm"], sure)]
        )
    return Grid(columns, lines)


def _view_parts(entry: Row, views: Mapping[str, str]) -> list[Part]:
    """A row per contender and task; the contenders of one task stand together."""
    rows = [row for row in entry["views"] if row["view"] in views]
    if not rows:
        return []
    columns = [Column("contender"), Column("task")]
    shown = [view for view in views if any(row["view"] == view for row in rows)]
    for view in shown:
        columns += [Column(name, group=views[view]) for name in ("n", "masked", "this view", "difference")]
    found = {(row["task"], row["contender"], row["view"]): row for row in rows}
    lines = []
    for (task, name), role in {(row["task"], row["contender"]): row["role"] for row in rows}.items():
        line = [name_cell(name, role), Cell(task)]
        for view in shown:
            row = found.get((task, name, view))
            cells = (
                [count_cell(row["n"]), number_cell(row["masked"]), number_cell(row["score"]), difference_cell(row)]
                if row
                else []
            )
            line += cells or [NOTHING] * 4
        lines.append(line)
    return [_VIEWS, Grid(columns, lines)]


def _breakdown_parts(entry: Row, folder: Path) -> list[Part]:
    parts: list[Part] = []
    for task in task_order(row["task"] for row in entry["breakdowns"]):
        rows = [row for row in entry["breakdowns"] if row["task"] == task]
        if breakdown_panels(entry, task):
            alt = f"{entry['source']}, {task}: {HEADLINE} of BM25, base and tuned by {', '.join(dimensions_of(rows))}"
            parts.append(Picture(folder / plot_name(entry, task, "breakdown"), alt))
        parts.append(Folded(f"{task} in numbers", [_breakdown_grid(rows)]))
    return [_BREAKDOWNS, *parts] if parts else []


def _breakdown_grid(rows: Sequence[Row]) -> Grid:
    contenders = list(dict.fromkeys(row["contender"] for row in by_role(rows)))
    lines = []
    for dimension in dimensions_of(rows):
        of_dimension = [row for row in rows if row["dimension"] == dimension]
        for name, n in bins_of(of_dimension).items():
            found = {row["contender"]: bounds_cell(row, HEADLINE) for row in of_dimension if row["bin"] == name}
            cells = [with_best(found).get(contender, NOTHING) for contender in contenders]
            lines.append([Cell(DIMENSIONS.get(dimension, dimension)), Cell(name), count_cell(n), *cells])
    return Grid([Column(name) for name in ("by", "part", "n", *contenders)], lines)


def _matryoshka_parts(entry: Row, folder: Path) -> list[Part]:
    rows = entry["matryoshka"]
    if not rows:
        return []
    dims = dims_of(rows)
    found = {(row["task"], row["contender"], row["dim"]): row for row in rows}
    lines = []
    for (task, name), role in {(row["task"], row["contender"]): row["role"] for row in rows}.items():
        cells = (found.get((task, name, dim)) for dim in dims)
        lines.append([name_cell(name, role), Cell(task), *(bounds_cell(row) if row else NOTHING for row in cells)])
    columns = [Column(name) for name in ("contender", "task", *map(dim_name, dims))]
    alt = f"{entry['source']}: {HEADLINE} over the number of components used, base and tuned"
    return [_MATRYOSHKA, Picture(folder / plot_name(entry, "matryoshka"), alt), Grid(columns, lines)]


def _dev_grid(rows: Sequence[Row]) -> Grid:
    columns = [Column(name) for name in ("contender", "text format", "task", "n", HEADLINE, "chosen")]
    lines = [
        [
            name_cell(row["contender"], row["role"]),
            *(Cell(row["format"] or ""), Cell(row["task"]), count_cell(row["n"]), number_cell(row[HEADLINE])),
            Cell("yes" if row["chosen"] else ""),
        ]
        for row in rows
    ]
    return Grid(columns, lines)
