"""Where the tuned model loses most against the base, and where it wins most: the queries themselves, to be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.benchmark.contenders import BM25
from thread_embed_assets.benchmark.evaluate import file_name
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.tasks import TASK_NAMES
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.pages import Listing, Page, Section, Table, write_page
from thread_embed_assets.storage.tables import open_table

SHOWN = 10
_CHARACTERS = 400
_READING = (
    "Test queries in the whole index, names masked. A query is won or lost where the reciprocal rank of its first right "
    "document among the first ten differs; the queries below differ most, by reciprocal rank and then by rank. "
    "Of long texts the beginning is shown."
)


@dataclass(frozen=True)
class Ranked:
    """What one contender's run says of a query.

    Attributes:
        rank: of the first right document, from 1; None where the run does not hold one.
        depth: how many documents the run holds.
        right: the first right document, else any.
        first: the document put first.
    """

    rank: int | None
    depth: int
    right: str
    first: str

    @property
    def place(self) -> int:
        """The rank, or the first one that the run leaves open."""
        return self.depth + 1 if self.rank is None else self.rank

    def __str__(self) -> str:
        return f"beyond {self.depth}" if self.rank is None else str(self.rank)


@dataclass(frozen=True)
class Duel:
    """One query, as the tuned and the base model found its document.

    Attributes:
        gain: reciprocal rank of the tuned model, minus that of the base.
    """

    task: str
    query_id: str
    gain: float
    tuned: Ranked
    base: Ranked
    bm25: Ranked | None

    @property
    def order(self) -> tuple[float, int, str, str]:
        """Losses first, the worst of them at the very beginning."""
        return (self.gain, self.base.place - self.tuned.place, self.task, self.query_id)


def write_win_loss(results: Path, tasks: Path, runs: Path, folder: Path) -> str:
    """Write a source's page of wins and losses of each tuned model against each base model.

    Args:
        results: file written by ``evaluate.evaluate_source``.
        tasks: the tasks file that it scored.
        runs: folder of its TREC run files.
        folder: replaced by one with the page.

    Returns:
        The page as Markdown.

    Raises:
        InputError: a file is missing or damaged, or they are not of one evaluation.
    """
    summary = open_table(results, "summary")
    ran = {(row["contender"], row["role"]) for row in summary.rows_as_dicts(["contender", "role"], "status = 'RUN'")}
    tuned, bases = (sorted(name for name, role in ran if role == wanted) for wanted in ("tuned", "base"))
    counts: list[Sequence[str | int]] = []
    sections: list[Section] = []
    for one, base in ((one, base) for one in tuned for base in bases):
        duels: list[Duel] = []
        for task in TASK_NAMES:
            gains = _gains(results, task, one, base)
            if gains:
                wins, losses = (sum(sign * gain > 0 for gain in gains.values()) for sign in (1, -1))
                counts.append((one, base, task, len(gains), wins, losses, len(gains) - wins - losses))
                duels += _duels(task, _extremes(gains), tasks, runs, (one, base))
        sections += _sections(sorted(duels, key=lambda duel: duel.order), tasks, one, base)
    table = Table(["tuned", "base", "task", "queries", "wins", "losses", "ties"], counts)
    source = next(str(row["source"]) for row in summary.rows_as_dicts(["source"]))
    nothing = "No tuned model was scored beside a base model."
    counted = Section("Counts", [table if counts else nothing])
    return write_page(Page(f"{source}: wins and losses", _READING, [counted, *sections]), folder)


def _gains(results: Path, task: str, tuned: str, base: str) -> dict[str, float]:
    """Reciprocal rank of the tuned model minus that of the base, of the queries that both were asked."""
    where = f"split = 'test' AND view = 'masked' AND \"index\" = 'corpus' AND task = {_quoted([task])}"
    where += f" AND contender IN ({_quoted([tuned, base])})"
    values: dict[str, dict[str, float]] = {tuned: {}, base: {}}
    for row in open_table(results, "per_query").rows_as_dicts(["contender", "query_id", HEADLINE], where):
        values[row["contender"]][row["query_id"]] = row[HEADLINE]
    return {query: value - values[base][query] for query, value in values[tuned].items() if query in values[base]}


def _extremes(gains: Mapping[str, float]) -> dict[str, float]:
    """The queries among which the ones to show are: the most lost and the most won, with all that are equal to the last."""
    kept: dict[str, float] = {}
    for sign in (1, -1):
        some = {query: gain for query, gain in gains.items() if sign * gain > 0}
        bound = min(sorted((sign * gain for gain in some.values()), reverse=True)[:SHOWN], default=0.0)
        kept |= {query: gain for query, gain in some.items() if sign * gain >= bound}
    return kept


def _duels(task: str, gains: Mapping[str, float], tasks: Path, runs: Path, names: tuple[str, str]) -> list[Duel]:
    right: dict[str, dict[str, int]] = {}
    if gains:
        where = f"task = {_quoted([task])} AND split = 'test' AND query_id IN ({_quoted(gains)})"
        for row in open_table(tasks, "qrels").rows_as_dicts(["query_id", "doc_id", "grade"], where):
            right.setdefault(row["query_id"], {})[row["doc_id"]] = row["grade"]
    if right.keys() != gains.keys():
        raise InputError(tasks, f"{task!r} has not the queries of the results", "Evaluate the source again")
    tuned, base = (_ranked(_run(runs, name, task), right) for name in names)
    bm25 = _ranked(_run(runs, BM25.name, task), right) if _run(runs, BM25.name, task).exists() else {}
    return [Duel(task, query, gain, tuned[query], base[query], bm25.get(query)) for query, gain in gains.items()]


def _run(runs: Path, name: str, task: str) -> Path:
    return runs / f"{file_name(name)}.{task}.corpus.trec"


def _ranked(path: Path, right: Mapping[str, Mapping[str, int]]) -> dict[str, Ranked]:
    """What a run says of the queries of ``right``, which gives the grades of their right documents."""
    if not path.exists():
        raise InputError(path, "there is no such run", "Evaluate the source again")
    found = {query: Ranked(None, 0, max(sorted(grades), key=grades.__getitem__), "") for query, grades in right.items()}
    with path.open(encoding="utf-8") as file:
        for line in file:
            query, _, document, rank, *_ = line.split()
            if query not in found:
                continue
            known, place = found[query], int(rank)
            first = document if place == 1 else known.first
            if document in right[query] and place < (known.rank or place + 1):
                found[query] = Ranked(place, max(known.depth, place), document, first)
            else:
                found[query] = Ranked(known.rank, max(known.depth, place), known.right, first)
    return found


def _sections(duels: Sequence[Duel], tasks: Path, tuned: str, base: str) -> Iterator[Section]:
    """The worst losses and the best wins; ``duels`` come worst first."""
    for title, shown in (
        (f"{tuned} loses most against {base}", [duel for duel in duels if duel.gain < 0][:SHOWN]),
        (f"{tuned} wins most against {base}", [duel for duel in reversed(duels) if duel.gain > 0][:SHOWN]),
    ):
        queries = _texts(tasks, "queries", "query_id", (duel.query_id for duel in shown))
        wanted = (document for duel in shown for document in (duel.tuned.right, duel.base.right, duel.tuned.first))
        documents = _texts(tasks, "corpus", "doc_id", wanted)
        listings = [_listing(number, duel, queries, documents) for number, duel in enumerate(shown, start=1)]
        yield Section(title, listings or ["None."])


def _listing(number: int, duel: Duel, queries: Mapping[str, str], documents: Mapping[str, str]) -> Listing:
    bm25 = "not run" if duel.bm25 is None else str(duel.bm25)
    # The document that the better of the two found: where several are right, the other may have found another one.
    right = min(duel.tuned, duel.base, key=lambda ranked: ranked.place).right
    first = duel.tuned.first
    seen = "a right document" if duel.tuned.rank == 1 else documents.get(first) or "nothing"
    return Listing(
        f"{number}. {duel.task}: rank {duel.tuned} with the tuned model, {duel.base} with the base, {bm25} with BM25",
        [
            f"Query: {queries[duel.query_id]}",
            f"Right document: {documents[right]}",
            f"Put first by the tuned model: {seen}",
        ],
    )


def _texts(tasks: Path, table: str, key: str, ids: Iterable[str]) -> dict[str, str]:
    """The beginnings of texts by id."""
    wanted = sorted(set(ids) - {""})
    if not wanted:
        return {}
    rows = open_table(tasks, table).rows_as_dicts([key, "text_plain"], f"split = 'test' AND {key} IN ({_quoted(wanted)})")
    return {row[key]: _beginning(row["text_plain"]) for row in rows}


def _beginning(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS].rstrip() + " …"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)
