"""What stands in ``leaderboard.json``: each source's results on test, then what compares sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.benchmark.contenders import BM25
from thread_embed_assets.benchmark.embeddings import EmbeddingCache
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS
from thread_embed_assets.benchmark.result_tables import NOT_RUN, RUN
from thread_embed_assets.benchmark.statistics import RESAMPLES, bootstrap, holm
from thread_embed_assets.benchmark.tasks import TASK_NAMES
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table

Row = dict[str, Any]

ROLES = (
    *("baseline", "base", "base_hybrid", "reference", "control", "champion"),
    *("tuned", "tuned_transfer", "tuned_hybrid"),
)
NEAR = "near"
_MASKED, _CORPUS = "masked", "corpus"
NAME_VIEWS = {"intact": "real names", "names": "names only"}
ROBUSTNESS_VIEWS = {"typos": "typing errors in the query", "paraphrase": "another wording of the summary"}
_HYBRID_ROLES = ("base_hybrid", "tuned_hybrid")
_SECONDS_PER_HOUR = 3600
_MILLION = 1_000_000


def leaderboard_content(results: Sequence[Path], layout: Layout, platforms: Mapping[str, str]) -> Row:
    """What ``leaderboard.json`` holds; its arguments and errors are those of ``report.write_leaderboard``."""
    paths = dict(sorted((_source_of(path), path) for path in results))
    sources = [_source(name, path, platforms.get(name, "")) for name, path in paths.items()]
    return {
        "metrics": list(METRICS),
        "headline": HEADLINE,
        "family": _adjust(sources),
        "sources": sources,
        "transfer": [line for entry in sources for line in _transfer(entry)],
        "platforms": _platforms(sources, paths),
        **_costs(sources, layout),
    }


def by_role(rows: Iterable[Row]) -> list[Row]:
    """Sorted by role, a contender's rows together; else in the order given."""
    kept = list(rows)
    order = {name: place for place, name in enumerate(dict.fromkeys(row["contender"] for row in kept))}
    return sorted(kept, key=lambda row: (ROLES.index(row["role"]), order[row["contender"]]))


def task_order(names: Iterable[str]) -> list[str]:
    """Each task once, in the benchmark's order; tasks that it does not know come last, by name."""
    order = {name: place for place, name in enumerate(TASK_NAMES)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))


def is_main(row: Row) -> bool:
    """Whether a contender is BM25, a base or a tuned model: those in the plots of breakdowns and among the platforms."""
    return row["role"] in ("base", "tuned") or row["contender"] == BM25.name


def _source_of(path: Path) -> str:
    return next(str(row["source"]) for row in open_table(path, "summary").rows_as_dicts(["source"]))


def _source(name: str, path: Path, platform: str) -> Row:
    """One source's part of the content, test split only; the dev scores that chose the formats stand beside it."""
    summary = list(open_table(path, "summary").rows_as_dicts(where=f"view = '{_MASKED}'"))
    masked = by_role(row for row in summary if row["split"] == "test")
    whole = [row for row in masked if row["dim"] is None]
    indexes = {index: _tasks([row for row in whole if row["index"] == index]) for index in (_CORPUS, NEAR)}
    rows = []
    for contender in dict.fromkeys(row["contender"] for row in whole):
        mine = [row for row in whole if row["contender"] == contender]
        ran = [row for row in mine if row["status"] == RUN]
        missing = {row["task"]: row["reason"] for row in mine if row["status"] != RUN and row["index"] == _CORPUS}
        head = {key: (ran or mine)[0][key] for key in ("contender", "role", "format", "status", "reason")}
        scores = {
            key: {row["task"]: _scores(row) for row in ran if row["index"] == index}
            for key, index in (("scores", _CORPUS), ("near", NEAR))
        }
        rows.append({**head, **scores, "not_run": missing})
    rows.sort(key=lambda row: not row["scores"])  # who did not run comes last
    comparisons = open_table(path, "comparisons").rows_as_dicts(where=f"split = 'test' AND metric = '{HEADLINE}'")
    breakdowns = open_table(path, "breakdowns").rows_as_dicts(order_by="task, dimension, position")
    costs = open_table(path, "costs").rows_as_dicts()
    dev = [row for row in by_role(summary) if row["split"] == "dev" and row["index"] == _CORPUS and row["dim"] is None]
    kept = ("contender", "role", "format", "task", "n", "chosen", HEADLINE)
    return {
        "source": name,
        "platform": platform,
        "tasks": indexes[_CORPUS],
        "indexes": indexes,
        "rows": rows,
        "comparisons": [_without(row, "source", "split") for row in comparisons],
        "dev": [{key: row[key] for key in kept} for row in dev],
        "views": list(_views(name, path, [task["task"] for task in indexes[_CORPUS]])),
        "matryoshka": _matryoshka([row for row in masked if row["index"] == _CORPUS and row["status"] == RUN]),
        "breakdowns": [_without(row, "source") for row in by_role(breakdowns)],
        "costs": [_without(row, "source") for row in by_role(costs)],
    }


def _without(row: Row, *columns: str) -> Row:
    return {key: value for key, value in row.items() if key not in columns}


def _tasks(rows: Sequence[Row]) -> list[Row]:
    """An index's tasks and sizes; those of contenders that did not run count only where none did."""
    tasks = []
    for name in task_order(row["task"] for row in rows):
        of_task = sorted((row for row in rows if row["task"] == name), key=lambda row: row["status"] != RUN)
        tasks.append({key: of_task[0][key] for key in ("task", "tier", "n", "documents", "clusters", "resampled")})
    return tasks


def _scores(row: Row) -> dict[str, dict[str, float]]:
    return {name: _bounds(row, name) for name in METRICS}


def _bounds(row: Row, metric: str = HEADLINE) -> dict[str, float]:
    return {"mean": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}


def _matryoshka(rows: Sequence[Row]) -> list[Row]:
    cut = {row["contender"] for row in rows if row["dim"] is not None}
    return [
        {**{key: row[key] for key in ("task", "contender", "role", "dim", "n")}, **_bounds(row)}
        for row in rows
        if row["contender"] in cut
    ]


@dataclass(frozen=True)
class _Queries:
    """Per-query values of a task: (contender, role, view) to query to value, and each query's cluster."""

    values: Mapping[tuple[str, str, str], Mapping[str, float]]
    clusters: Mapping[str, str]

    def column(self, key: tuple[str, str, str], queries: Sequence[str]) -> list[float]:
        return [self.values[key][query] for query in queries]


def _queries(path: Path, task: str, where: str) -> _Queries:
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    clusters: dict[str, str] = {}
    columns = ["contender", "role", "view", "query_id", "cluster", HEADLINE]
    where = f"split = 'test' AND \"index\" = '{_CORPUS}' AND task = '{task}' AND {where}"
    for row in open_table(path, "per_query").rows_as_dicts(columns, where):
        values.setdefault((row["contender"], row["role"], row["view"]), {})[row["query_id"]] = row[HEADLINE]
        clusters[row["query_id"]] = row["cluster"]
    return _Queries(values, clusters)


def _views(source: str, path: Path, tasks: Sequence[str]) -> Iterator[Row]:
    """Each view's score beside that of the masked view on the same queries, and the paired difference."""
    for task in tasks:
        viewed = f"contender IN (SELECT contender FROM per_query WHERE view <> '{_MASKED}' AND task = '{task}')"
        found = _queries(path, task, viewed)
        for view in (*NAME_VIEWS, *ROBUSTNESS_VIEWS):
            contenders = [
                (name, role) for name, role, of in found.values if of == view and (name, role, _MASKED) in found.values
            ]
            if not contenders:
                continue
            shared = (found.values[(*c, of)].keys() for c in contenders for of in (_MASKED, view))
            queries = sorted(set.intersection(*map(set, shared)))
            masked, seen = (np.array([found.column((*c, of), queries) for c in contenders]).T for of in (_MASKED, view))
            clusters = [found.clusters[query] for query in queries]
            differences = bootstrap(seen - masked, clusters, seed("view", source, task, view))
            for number, ((name, role), difference) in enumerate(zip(contenders, differences, strict=True)):
                yield {
                    "task": task,
                    "view": view,
                    "contender": name,
                    "role": role,
                    "n": len(queries),
                    "masked": float(masked[:, number].mean()),
                    "score": float(seen[:, number].mean()),
                    "difference": difference.mean,
                    "low": difference.low,
                    "high": difference.high,
                }


def _adjust(sources: Sequence[Row]) -> Row:
    """Give each comparison its ``p_holm``, over those of all sources, tasks and indexes; tells the family's size."""
    family = [row for entry in sources for row in entry["comparisons"]]
    for row, p_holm in zip(family, holm([row["p"] for row in family]), strict=True):
        row["p_holm"] = p_holm
    return {"metric": HEADLINE, "tests": len(family), "correction": "Holm", "smallest_p": 1 / (RESAMPLES + 1)}


def _transfer(entry: Row) -> Iterator[Row]:
    """Per task: base, trained without the platform, trained with it; the steps are null where they were not compared."""
    names = {role: [row for row in entry["rows"] if row["role"] == role] for role in ("base", "tuned_transfer", "tuned")}
    trios = [(b, t, f) for b in names["base"] for t in names["tuned_transfer"] for f in names["tuned"]]
    for base, transfer, tuned in trios:
        for task in entry["tasks"]:
            name = task["task"]
            means = [row["scores"].get(name, {}).get(HEADLINE, {}).get("mean") for row in (base, transfer, tuned)]
            yield {
                "source": entry["source"],
                "platform": entry["platform"],
                "task": name,
                "n": task["n"],
                **dict(zip(("base", "tuned_transfer", "tuned"), means, strict=True)),
                "contenders": [row["contender"] for row in (base, transfer, tuned)],
                "reason": transfer["not_run"].get(name, ""),
                "transfer_minus_base": _step(entry, name, transfer["contender"], base["contender"]),
                "tuned_minus_transfer": _step(entry, name, tuned["contender"], transfer["contender"]),
            }


def _step(entry: Row, task: str, a: str, b: str) -> dict[str, float] | None:
    """The comparison of a with b in the whole index, whichever way round it was made."""
    for row in entry["comparisons"]:
        if (row["task"], row["index"]) != (task, _CORPUS):
            continue
        kept = {key: row[key] for key in ("difference", "low", "high", "p", "p_holm")}
        if (row["contender_a"], row["contender_b"]) == (a, b):
            return kept
        if (row["contender_a"], row["contender_b"]) == (b, a):
            return {**kept, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return None


def _platforms(sources: Sequence[Row], paths: Mapping[str, Path]) -> list[Row]:
    """BM25, base and tuned models per platform and task, the queries of its sources pooled, each counting the same."""
    lines = []
    for platform in sorted({entry["platform"] for entry in sources} - {""}):
        entries = [entry for entry in sources if entry["platform"] == platform]
        for task in task_order(task["task"] for entry in entries for task in entry["tasks"]):
            of_task = [entry for entry in entries if any(t["task"] == task and t["n"] for t in entry["tasks"])]
            names = [entry["source"] for entry in of_task]
            head = {"platform": platform, "sources": names, "task": task}
            if len(of_task) == 1:
                lines += [{**head, **line} for line in _of_one_source(of_task[0], task)]
            elif of_task:
                lines += [{**head, **line} for line in _pooled(task, {name: paths[name] for name in names})]
    return lines


def _of_one_source(entry: Row, task: str) -> Iterator[Row]:
    n = next(t["n"] for t in entry["tasks"] if t["task"] == task)
    for row in entry["rows"]:
        if is_main(row) and task in row["scores"]:
            yield {"contender": row["contender"], "role": row["role"], "n": n, **row["scores"][task][HEADLINE]}


def _pooled(task: str, paths: Mapping[str, Path]) -> Iterator[Row]:
    where = f"view = '{_MASKED}' AND (role IN ('base', 'tuned') OR contender = '{BM25.name}')"
    found = {source: _queries(path, task, where) for source, path in paths.items()}
    contenders = [key for key in next(iter(found.values())).values if all(key in q.values for q in found.values())]
    if not contenders:
        return
    order = {source: sorted(q.clusters) for source, q in found.items()}
    clusters = [f"{source}/{q.clusters[query]}" for source, q in found.items() for query in order[source]]
    columns = [[v for s, q in found.items() for v in q.column(key, order[s])] for key in contenders]
    intervals = bootstrap(np.array(columns).T, clusters, seed("platform", task, *paths))
    for (name, role, _), i in sorted(zip(contenders, intervals, strict=True), key=lambda pair: ROLES.index(pair[0][1])):
        yield {"contender": name, "role": role, "n": len(clusters), "mean": i.mean, "low": i.low, "high": i.high}


def _costs(sources: Sequence[Row], layout: Layout) -> Row:
    """What each contender's vectors cost; sums of two contenders are left out, their vectors are their parts'."""
    length = _message_characters([layout.tasks(entry["source"]) for entry in sources])
    cache = EmbeddingCache(layout.embedding_cache)
    heads = {row["contender"]: row["role"] for row in by_role(row for entry in sources for row in entry["rows"])}
    lines = []
    for name, role in heads.items():
        mine = [row for entry in sources for row in entry["costs"] if row["contender"] == name]
        encoders = {row["encoder"] for row in mine} - {""}
        if role in _HYBRID_ROLES or (mine and not encoders and role != "baseline"):
            continue
        timing: Counter[str] = Counter()
        for encoder in encoders:  # fitted, a contender has one for each source
            timing.update(cache.timing(encoder))
        lines.append(
            {
                "contender": name,
                "role": role,
                "status": RUN if mine else NOT_RUN,
                "seconds": sum(row["seconds"] for row in mine) if mine else None,
                "texts_embedded": sum(row["texts_embedded"] for row in mine) if mine else None,
                **_rates(timing, length),
            }
        )
    return {"message_characters": length, "costs": lines}


def _rates(timing: Mapping[str, float], length: float | None) -> dict[str, float | None]:
    """What a million texts and a million messages of ``length`` characters cost, from what has been embedded so far."""
    texts, characters = timing.get("texts"), timing.get("characters")
    hours, dollars = timing.get("seconds", 0.0) / _SECONDS_PER_HOUR, timing.get("dollars")
    messages = characters / length if characters and length else None
    return {
        "characters_per_text": characters / texts if characters and texts else None,
        "hours_per_million_texts": hours / texts * _MILLION if texts else None,
        "hours_per_million_messages": hours / messages * _MILLION if messages else None,
        "dollars_per_million_messages": dollars / messages * _MILLION if messages and dollars is not None else None,
    }


def _message_characters(paths: Sequence[Path]) -> float | None:
    """Mean length of a message in characters: those of the reply tasks' documents, which are single messages."""
    messages, characters = 0, 0
    for path in paths:
        if path.exists():
            for row in open_table(path, "corpus").rows_as_dicts(["text_plain"], "task = 'reply' AND split = 'test'"):
                messages += 1
                characters += len(row["text_plain"])
    return characters / messages if messages else None
