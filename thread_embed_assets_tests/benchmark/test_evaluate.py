from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.contenders import BM25, Contender, Model
from thread_embed_assets.benchmark.evaluate import evaluate_source
from thread_embed_assets.benchmark.metrics import METRICS, per_query
from thread_embed_assets.benchmark.result_tables import SCHEMAS
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talks, write_conversations

CONTENDERS = [
    BM25,
    Contender("base", "dense", "base", tuple(FORMATS), Model("base", "nowhere", "weak")),
    Contender("base+bm25", "hybrid", "base_hybrid", parts=("bm25", "base")),
    Contender("tuned", "dense", "tuned", ("plain",), Model("tuned", "nowhere", "strong")),
    Contender("tuned+bm25", "hybrid", "tuned_hybrid", parts=("bm25", "tuned")),
    Contender("big", "dense", "reference", tuple(FORMATS), not_run="it is not on this machine"),
    Contender("big+bm25", "hybrid", "reference", parts=("bm25", "big")),
]
SIZES = {"weak": 6, "strong": 512}


@dataclass
class Bench:
    layout: Layout
    encoders: dict[str, HashEncoder]
    tables: dict[str, TableHandle]

    def rows(self, table: str, where: str = "") -> list[dict[str, object]]:
        return list(self.tables[table].rows_as_dicts(where=where))


def prepare(root: Path, dev: int = 15) -> Layout:
    layout = Layout(root)
    threads = talks(75, dev=dev)
    conversations, messages = write_conversations(layout.conversations("made"), threads)
    build_tasks("made", conversations, messages, {}, layout.tasks("made"))
    return layout


def evaluate(layout: Layout, contenders: list[Contender] = CONTENDERS) -> Bench:
    encoders: dict[str, HashEncoder] = {}

    def encoder_of(model: Model) -> HashEncoder:
        return encoders.setdefault(model.name, HashEncoder(model.fingerprint, SIZES[model.fingerprint]))

    return Bench(layout, encoders, evaluate_source(layout.tasks("made"), "made", contenders, layout, encoder_of))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return evaluate(prepare(tmp_path_factory.mktemp("bench")))


def test_each_contender_is_tested_in_the_format_that_won_on_dev_only(bench: Bench) -> None:
    for name, formats in (("bm25", FORMATS), ("base", FORMATS), ("tuned", ["plain"])):
        dev = bench.rows("summary", f"contender = '{name}' AND split = 'dev'")
        assert {row["format"] for row in dev} == set(formats)
        means = {f: np.mean([row["MRR@10"] for row in dev if row["format"] == f]) for f in formats}
        best = max(formats, key=lambda f: means[f])
        assert {row["format"] for row in dev if row["chosen"]} == {best}
        assert {row["format"] for row in bench.rows("summary", f"contender = '{name}' AND split = 'test'")} == {best}


def test_every_text_is_embedded_once_for_all_tasks_and_a_second_run_embeds_none(bench: Bench) -> None:
    for encoder in bench.encoders.values():
        assert len(encoder.seen) == len(set(encoder.seen)) > 0
    embedded = sum(int(str(row["texts_embedded"])) for row in bench.rows("costs"))
    assert embedded == sum(len(encoder.seen) for encoder in bench.encoders.values())
    again = evaluate(bench.layout)
    assert all(encoder.seen == [] for encoder in again.encoders.values())
    for table in ("per_query", "summary", "comparisons"):
        assert again.tables[table].fingerprint == bench.tables[table].fingerprint


def test_summaries_are_the_means_of_the_queries_within_their_intervals(bench: Bench) -> None:
    for row in bench.rows("summary", "status = 'RUN'"):
        place = " AND ".join(f"{k} = '{row[k]}'" for k in ("task", "split", "contender", "format"))
        queries = bench.rows("per_query", place)
        assert len(queries) == row["n"]
        for metric in METRICS:
            assert row[metric] == pytest.approx(np.mean([float(str(q[metric])) for q in queries]))
            assert 0 <= row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"] <= 1  # type: ignore[operator]


def test_the_stronger_model_wins_and_the_comparison_says_so(bench: Bench) -> None:
    comparisons = {
        (row["task"], row["contender_a"], row["contender_b"]): row for row in bench.rows("comparisons", "metric = 'MRR@10'")
    }
    pairs = {("tuned", "base"), ("tuned", "bm25"), ("tuned", "base+bm25"), ("tuned+bm25", "base+bm25")}
    assert set(comparisons) == {(task, a, b) for task in ("thread", "response") for a, b in pairs}
    row = comparisons["thread", "tuned", "base"]
    means = {
        r["contender"]: r["MRR@10"] for r in bench.rows("summary", "split = 'test' AND task = 'thread' AND status = 'RUN'")
    }
    assert row["difference"] == pytest.approx(means["tuned"] - means["base"])  # type: ignore[operator]
    assert 0 < row["low"] < row["difference"] < row["high"]  # type: ignore[operator]
    assert row["p"] < row["p_holm"] < 0.05  # type: ignore[operator]
    assert row["n"] == 60


def test_what_cannot_run_says_not_run_and_so_does_its_hybrid(bench: Bench) -> None:
    for name in ("big", "big+bm25"):
        rows = bench.rows("summary", f"contender = '{name}'")
        assert {(r["task"], r["split"], r["status"]) for r in rows} == {
            (t, "test", "NOT RUN") for t in ("thread", "response")
        }
        for row in rows:
            assert row["reason"] == "it is not on this machine"
            assert row["MRR@10"] is None
    assert not bench.rows("per_query", "contender = 'big'")


def test_run_files_hold_the_runs_that_were_scored(bench: Bench) -> None:
    import ir_measures

    files = {path.name for path in bench.layout.runs("made").iterdir()}
    names = ("bm25", "base", "base+bm25", "tuned", "tuned+bm25")
    assert files == {f"{name}.{task}.trec" for name in names for task in ("thread", "response")}
    task = next(t for t in load_tasks(bench.layout.tasks("made")) if (t.name, t.split) == ("thread", "test"))
    run: dict[str, dict[str, float]] = {}
    for line in ir_measures.read_trec_run(str(bench.layout.runs("made") / "tuned.thread.trec")):
        run.setdefault(line.query_id, {})[line.doc_id] = line.score
    stored = {
        str(r["query_id"]): r["NDCG@10"]
        for r in bench.rows("per_query", "contender = 'tuned' AND split = 'test' AND task = 'thread'")
    }
    again = per_query(run, task.relevant, task.query_ids)["NDCG@10"]
    assert [stored[q] for q in task.query_ids] == again.tolist()


def test_without_dev_tasks_everybody_gets_the_default_format(tmp_path: Path) -> None:
    bench = evaluate(prepare(tmp_path, dev=0), CONTENDERS[:3])
    assert {row["format"] for row in bench.rows("summary")} == {"plain"}


def test_a_failure_keeps_the_last_results_and_runs(tmp_path: Path) -> None:
    layout = prepare(tmp_path)
    evaluate(layout, CONTENDERS[:1])
    before = (layout.results("made").read_bytes(), sorted(p.name for p in layout.runs("made").iterdir()))

    def broken(model: Model) -> HashEncoder:
        raise InputError(model.name, "no such model", "Train it")

    with pytest.raises(InputError, match="no such model"):
        evaluate_source(layout.tasks("made"), "made", CONTENDERS, layout, broken)
    assert (layout.results("made").read_bytes(), sorted(p.name for p in layout.runs("made").iterdir())) == before


def test_two_contenders_of_one_name_are_refused(tmp_path: Path) -> None:
    layout = prepare(tmp_path)
    with pytest.raises(InputError, match="share a name"):
        evaluate(layout, [BM25, BM25])


def test_the_tables_have_the_declared_columns(bench: Bench) -> None:
    for name, schema in SCHEMAS.items():
        assert bench.tables[name].schema.names == schema.names
