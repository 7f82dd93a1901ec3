"""Two models on the same dev queries: does the challenger beat the champion?

The duel is fought on dev. To promote is to choose between models, and a choice made on test would leave the winner's figures
there too good, the more so with each retraining. Each model reads a task as suits it best on dev (:mod:`.evaluate`); that
flatters both alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.statistics import Cell, Interval, macro_bootstrap
from thread_embed_assets.benchmark.tasks import TASK_NAMES
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, open_table

_WHOLE = "split = 'dev' AND view = 'masked' AND \"index\" = 'corpus'"
_AGAIN = "Materialise benchmark_results of {source!r}"


@dataclass(frozen=True)
class Duel:
    """Challenger minus champion, in the headline metric.

    Attributes:
        difference: mean of all (source, task) cells, each counted the same, with its paired interval.
        tasks: of each task the mean over the sources.
        sources: on which both were scored.
        queries: in all cells.
    """

    difference: Interval
    tasks: Mapping[str, float]
    sources: tuple[str, ...]
    queries: int

    def falls(self, margin: float) -> dict[str, float]:
        """The tasks in which the challenger is worse by more than ``margin``."""
        return {task: value for task, value in self.tasks.items() if value < -margin}


def duel(results: Mapping[str, Path], challenger: str, champion: str) -> Duel:
    """Compare two scored models, named by :func:`.checkpoint.identity_of`.

    Args:
        results: source to the file written by ``evaluate.evaluate_source``; those of sources on which the challenger's kind
            is not scored are passed over.
        challenger, champion: two models.

    Raises:
        InputError: results are missing, older than the challenger, or of other queries; the message names the source.
    """
    cells: list[tuple[str, Cell]] = []
    for source, path in results.items():
        names = _contenders(source, path, challenger, champion)
        if names is not None:
            cells += _cells(source, path, *names)
    if not cells:
        problem = f"no source has dev queries on which {challenger} was scored beside {champion}"
        raise InputError("benchmark_results", problem, "Materialise it for the sources that the model is scored on")
    by_task: dict[str, list[float]] = {}
    for task, cell in cells:
        by_task.setdefault(task, []).append(float(cell.values.mean()))
    return Duel(
        macro_bootstrap([cell for _, cell in cells], seed("duel", challenger, champion)),
        {task: float(np.mean(by_task[task])) for task in TASK_NAMES if task in by_task},
        tuple(dict.fromkeys(cell.group for _, cell in cells)),
        sum(len(cell.values) for _, cell in cells),
    )


def _contenders(source: str, path: Path, challenger: str, champion: str) -> tuple[str, str] | None:
    """Names of the two in a source's results; None where models such as the challenger are not scored."""
    rows = list(open_table(path, "models").rows_as_dicts())
    known = {row["identity"]: row["contender"] for row in rows}
    again = _AGAIN.format(source=source)
    if challenger not in known:
        for row in rows:
            if row["role"] != "champion" and _kind(row["identity"]) == _kind(challenger):
                raise InputError(path, f"the results are of {row['identity']}, not of {challenger}", again)
        return None
    if champion not in known:
        raise InputError(path, f"the champion {champion} was not scored beside {challenger}", again)
    return known[challenger], known[champion]


def _kind(identity: str) -> str:
    """A mix, or a released model by name: what is scored on the same sources, whichever training it is of."""
    head, _, rest = identity.partition("/")
    return f"{head}/{rest.partition('/')[0]}" if head == "released" else head


def _cells(source: str, path: Path, challenger: str, champion: str) -> list[tuple[str, Cell]]:
    """The per-query differences of each task that has dev queries."""
    found = []
    results = open_table(path, "per_query")
    chosen = _chosen(open_table(path, "summary"), (challenger, champion))
    for task in TASK_NAMES:
        if (task, challenger) not in chosen and (task, champion) not in chosen:
            continue
        mine, theirs = (_scores(results, task, name, chosen.get((task, name), "")) for name in (challenger, champion))
        if mine.keys() != theirs.keys():
            problem = f"the two models were asked other dev queries of {task!r}"
            raise InputError(path, problem, _AGAIN.format(source=source))
        values = np.array([mine[query][0] - theirs[query][0] for query in mine])
        found.append((task, Cell(source, values, [cluster for _, cluster in mine.values()])))
    return found


def _chosen(summary: TableHandle, names: Sequence[str]) -> dict[tuple[str, str], str]:
    """(task, contender) to the reading that suits it best."""
    rows = summary.rows_as_dicts(["task", "contender", "format"], f"{_WHOLE} AND dim IS NULL AND chosen")
    return {(row["task"], row["contender"]): row["format"] for row in rows if row["contender"] in names}


def _scores(results: TableHandle, task: str, name: str, reading: str) -> dict[str, tuple[float, str]]:
    """Query to its score and cluster, in the order of their names."""
    columns = ["query_id", "cluster", "contender", "format", HEADLINE]
    rows = results.rows_as_dicts(columns, f"{_WHOLE} AND task = '{task}'", order_by="query_id")
    return {r["query_id"]: (r[HEADLINE], r["cluster"]) for r in rows if (r["contender"], r["format"]) == (name, reading)}
