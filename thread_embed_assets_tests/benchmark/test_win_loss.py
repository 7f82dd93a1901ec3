from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.evaluate import file_name, write_run
from thread_embed_assets.benchmark.metrics import METRICS
from thread_embed_assets.benchmark.result_tables import SCHEMAS
from thread_embed_assets.benchmark.tasks import SCHEMAS as TASK_SCHEMAS
from thread_embed_assets.benchmark.win_loss import write_win_loss
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import write_tables

DEPTH = 30
ROLES = {"bm25": "baseline", "the base": "base", "tuned": "tuned"}


@dataclass
class Bench:
    """A source whose runs hold each query's right document at a given rank; beyond ``DEPTH`` they do not hold it.

    ``ranks`` are of the base, the tuned model and BM25.
    """

    folder: Path
    ranks: Mapping[str, Sequence[tuple[int, int, int]]]
    texts: dict[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)

    def write(self) -> str:
        self._write_tasks()
        self._write_results()
        runs = self.folder / "runs"
        runs.mkdir(exist_ok=True)
        for task, ranks in self.ranks.items():
            for place, name in enumerate(("the base", "tuned", "bm25")):
                run = {f"q_{task}_{n:02d}": self._found(task, n, rank[place], name) for n, rank in enumerate(ranks)}
                write_run(runs / f"{file_name(name)}.{task}.corpus.trec", run, name)
        return self.page()

    def page(self) -> str:
        place = self.folder
        return write_win_loss(place / "results.duckdb", place / "tasks.duckdb", place / "runs", place / "page")

    def _found(self, task: str, number: int, rank: int, name: str) -> dict[str, float]:
        wrong = [f"d_{task}_wrong_{name.split()[-1]}_{n}" for n in range(DEPTH)]
        wrong[0] = f"d_{task}_first_{name.split()[-1]}"
        if rank <= DEPTH:
            wrong[rank - 1] = f"d_{task}_{number:02d}"
        return {document: 1.0 / (place + 1) for place, document in enumerate(wrong)}

    def _write_tasks(self) -> None:
        with write_tables(self.folder / "tasks.duckdb", TASK_SCHEMAS) as writer:
            for task, ranks in self.ranks.items():
                documents = [f"d_{task}_{n:02d}" for n in range(len(ranks))]
                for document in [*documents, f"d_{task}_first_tuned", f"d_{task}_first_base"]:
                    row = {"task": task, "split": "test", "doc_id": document, "text_plain": self._text(document)}
                    writer.add("corpus", tuple(row.get(name) for name in TASK_SCHEMAS["corpus"].names))
                for document in documents:
                    query = document.replace("d_", "q_", 1)
                    row = {"task": task, "split": "test", "query_id": query, "text_plain": self._text(query)}
                    writer.add("queries", tuple(row.get(name) for name in TASK_SCHEMAS["queries"].names))
                    writer.add("qrels", (task, "test", query, document, 1))

    def _text(self, name: str) -> str:
        return self.texts.get(name, f"text of {name.replace('_', ' ')}")

    def _write_results(self) -> None:
        with write_tables(self.folder / "results.duckdb", SCHEMAS) as writer:
            for task, ranks in self.ranks.items():
                for place, (name, role) in enumerate(
                    zip(("the base", "tuned", "bm25"), ("base", "tuned", "baseline"), strict=True)
                ):
                    head = ("made", task, "test", name, self.roles.get(name, role), "plain")
                    bounds = [0.5] * 3 * len(METRICS)
                    sizes = (None, True, "gold", len(ranks), 50, 5, "cluster")
                    writer.add("summary", (*head, "masked", "corpus", *sizes, *bounds, "RUN", ""))
                    for view, index in (("masked", "corpus"), ("masked", "near"), ("typos", "corpus")):
                        for number, rank in enumerate(ranks):
                            seen = rank[place] if (view, index) == ("masked", "corpus") else 1
                            values = [1 / seen if seen <= 10 else 0.0] * len(METRICS)
                            writer.add("per_query", (*head, view, index, f"q_{task}_{number:02d}", "c", *values))


def listed(page: str, section: str) -> list[str]:
    """The titles of a section's listings."""
    return [line.strip("*") for line in part(page, section).splitlines() if line.startswith("**")]


def part(page: str, section: str) -> str:
    return page.split(f"## {section}\n")[1].split("\n## ")[0]


LOSES, WINS = "tuned loses most against the base", "tuned wins most against the base"


def test_counts_are_of_reciprocal_ranks_per_task(tmp_path: Path) -> None:
    thread = [(1, 2, 1), (2, 1, 1), (3, 1, 1), (4, 4, 1), (11, 29, 1)]  # beyond the tenth all ranks count the same
    page = Bench(tmp_path, {"thread": thread, "summary": [(1, 1, 1)]}).write()
    lines = [line for line in part(page, "Counts").splitlines() if line.startswith("| tuned | the base")]
    assert lines == ["| tuned | the base | thread | 5 | 2 | 1 | 2 |", "| tuned | the base | summary | 1 | 0 | 0 | 1 |"]


def test_the_worst_come_first_by_reciprocal_rank_then_by_rank(tmp_path: Path) -> None:
    ranks = [(1, 2, 5), (1, 20, 5), (1, 99, 40), (2, 12, 5), (2, 1, 5), (25, 1, 5), (12, 1, 5), (3, 3, 1)]
    page = Bench(tmp_path, {"thread": ranks}).write()
    assert listed(page, LOSES) == [
        "1. thread: rank beyond 30 with the tuned model, 1 with the base, beyond 30 with BM25",
        "2. thread: rank 20 with the tuned model, 1 with the base, 5 with BM25",
        "3. thread: rank 12 with the tuned model, 2 with the base, 5 with BM25",
        "4. thread: rank 2 with the tuned model, 1 with the base, 5 with BM25",
    ]
    assert [title.split(",")[0:2] for title in listed(page, WINS)] == [
        ["1. thread: rank 1 with the tuned model", " 25 with the base"],
        ["2. thread: rank 1 with the tuned model", " 12 with the base"],
        ["3. thread: rank 1 with the tuned model", " 2 with the base"],
    ]


def test_ten_of_many_are_shown_from_all_tasks(tmp_path: Path) -> None:
    many = [(1, 11 + n, 5) for n in range(14)]
    page = Bench(tmp_path, {"thread": many, "reply": [(1, 30, 5), (1, 2, 5)]}).write()
    titles = listed(page, LOSES)
    assert len(titles) == 10
    assert titles[0].startswith("1. reply: rank 30")
    assert [title.split("rank ")[1].split()[0] for title in titles] == ["30", *(str(24 - n) for n in range(9))]
    assert part(page, WINS).strip() == "None."


def test_each_shows_query_right_document_and_what_was_put_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"thread": [(1, 9, 5), (9, 1, 5)]})
    bench.texts = {"d_thread_00": "right *words* <b>\nmore " + "x" * 900, "d_thread_first_tuned": "what came first"}
    page = bench.write()
    query, right, first = (line for line in part(page, LOSES).splitlines() if line.startswith("- "))
    assert query == "- Query: text of q thread 00"
    assert right.startswith("- Right document: right \\*words\\* &lt;b&gt; ⏎ more xxx") and right.endswith("x …")
    assert len(right) < 500
    assert first == "- Put first by the tuned model: what came first"
    assert part(page, WINS).strip().endswith("- Put first by the tuned model: a right document")
    assert (tmp_path / "page" / "report.md").read_text(encoding="utf-8") == page


def test_the_better_of_several_right_documents_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"reply": [(2, 12, 5)]})
    bench.write()
    with write_tables(tmp_path / "tasks.duckdb", TASK_SCHEMAS) as writer:
        for document, grade in (("d_reply_00", 1), ("d_reply_wrong_tuned_6", 2)):
            writer.add("qrels", ("reply", "test", "q_reply_00", document, grade))
            row = {"task": "reply", "split": "test", "doc_id": document, "text_plain": f"text of {document}"}
            writer.add("corpus", tuple(row.get(name) for name in TASK_SCHEMAS["corpus"].names))
        row = {"task": "reply", "split": "test", "query_id": "q_reply_00", "text_plain": "query"}
        writer.add("queries", tuple(row.get(name) for name in TASK_SCHEMAS["queries"].names))
    page = bench.page()
    assert listed(page, LOSES) == ["1. reply: rank 7 with the tuned model, 2 with the base, 5 with BM25"]
    assert "- Right document: text of d_reply_00\n" in page  # the one that the base found at rank 2


def test_without_bm25_the_page_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"thread": [(1, 2, 3)]})
    bench.write()
    (tmp_path / "runs" / "bm25.thread.corpus.trec").unlink()
    assert listed(bench.page(), LOSES)[0].endswith("not run with BM25")


@pytest.mark.parametrize("name", ["tuned", "the_base"])
def test_a_missing_run_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path, {"thread": [(1, 2, 3)]})
    bench.write()
    (tmp_path / "runs" / f"{name}.thread.corpus.trec").unlink()
    with pytest.raises(InputError, match=rf"{name}\.thread\.corpus\.trec"):
        bench.page()


def test_tasks_of_another_build_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"thread": [(1, 2, 3)]})
    bench.write()
    with write_tables(tmp_path / "tasks.duckdb", TASK_SCHEMAS) as writer:
        writer.add("qrels", ("thread", "test", "q_other", "d_other", 1))
    with pytest.raises(InputError, match="has not the queries of the results"):
        bench.page()


def test_without_a_tuned_model_there_is_nothing_to_compare(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"thread": [(1, 2, 3)]}, roles={**ROLES, "tuned": "reference"})
    assert part(bench.write(), "Counts").strip() == "No tuned model was scored beside a base model."
