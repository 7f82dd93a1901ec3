from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark import evaluate as evaluation
from thread_embed_assets.benchmark import result_tables
from thread_embed_assets.benchmark.contenders import BM25, RECENCY, SPEAKERS, Contender, Model
from thread_embed_assets.benchmark.evaluate import evaluate_source, file_name
from thread_embed_assets.benchmark.metrics import METRICS, per_query
from thread_embed_assets.benchmark.readings import Reading, in_formats, whole_and_by_window
from thread_embed_assets.benchmark.result_tables import SCHEMAS
from thread_embed_assets.benchmark.statistics import bootstrap, paired_p
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.benchmark.written_queries import WrittenQuery
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.people import PEOPLE
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, write_tables
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talks, write_conversations

CONTENDERS = [
    BM25,
    RECENCY,
    SPEAKERS,
    Contender("base", "dense", "base", in_formats(FORMATS), Model("base", "nowhere", "weak")),
    Contender("base+bm25", "hybrid", "base_hybrid", parts=("bm25", "base")),
    Contender("base+bm25 (rrf)", "hybrid", "base_hybrid", parts=("bm25", "base"), fusion="reciprocal_rank"),
    Contender("tuned", "dense", "tuned", (Reading(),), Model("tuned", "nowhere", "strong")),
    Contender("tuned+bm25", "hybrid", "tuned_hybrid", parts=("bm25", "tuned")),
    Contender("elsewhere", "dense", "tuned_transfer", (Reading(),), Model("elsewhere", "nowhere", "middling")),
    Contender("big", "dense", "reference", in_formats(FORMATS), not_run="it is not on this machine"),
    Contender("big+bm25", "hybrid", "reference", parts=("bm25", "big")),
]
SIZES = {"weak": 6, "middling": 24, "strong": 512}
TASKS = ("thread", "thread_strict", "response", "reply", "summary")
WHOLE = "view = 'masked' AND index = 'corpus' AND dim IS NULL"


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
    words = {t.id: sorted({w for _, text in t.lines for w in text.split() if "p_" not in w}) for t in threads}
    written = {name: WrittenQuery(" ".join(w[::2][:6]), " ".join(w[1::2][:6])) for name, w in words.items()}
    build_tasks("made", conversations, messages, written, layout.tasks("made"))
    names = sorted({(author, f"name{author[-4:]}") for thread in threads for author, _ in thread.lines})
    with write_tables(layout.people("made"), {"people": PEOPLE}) as writer:
        writer.add_all("people", names)
    return layout


def evaluate(layout: Layout, contenders: list[Contender] = CONTENDERS) -> Bench:
    encoders: dict[str, HashEncoder] = {}

    def encoder_of(model: Model) -> HashEncoder:
        return encoders.setdefault(model.name, HashEncoder(model.fingerprint, SIZES[model.fingerprint]))

    return Bench(layout, encoders, evaluate_source(layout.tasks("made"), "made", contenders, layout, encoder_of))


@pytest.fixture(scope="module", autouse=True)
def fewer_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_tables, "bootstrap", lambda values, clusters, seed, *_: bootstrap(values, clusters, seed, 300))
        patch.setattr(result_tables, "paired_p", lambda values, clusters, seed: paired_p(values, clusters, seed, 300))
        yield


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, fewer_draws: None) -> Bench:
    return evaluate(prepare(tmp_path_factory.mktemp("bench")))


def test_each_contender_is_tested_in_the_format_that_won_on_dev_only(bench: Bench) -> None:
    for name, formats in (("bm25", FORMATS), ("base", FORMATS), ("tuned", ["plain"])):
        dev = bench.rows("summary", f"contender = '{name}' AND split = 'dev'")
        assert {row["task"] for row in dev if row["chosen"]} == set(TASKS)
        assert {row["format"] for row in dev} == set(formats)
        chosen_on = [row for row in dev if row["task"] in ("thread", "response")]
        means = {f: np.mean([row["MRR@10"] for row in chosen_on if row["format"] == f]) for f in formats}
        best = max(formats, key=lambda f: means[f])
        assert {row["format"] for row in dev if row["chosen"]} == {best}
        assert {row["format"] for row in bench.rows("summary", f"contender = '{name}' AND split = 'test'")} == {best}


def test_each_task_is_read_whole_or_by_window_as_its_dev_queries_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = whole_and_by_window(in_formats(("plain", "speakers")))
    contenders = [BM25, Contender("tuned", "dense", "tuned", readings, Model("tuned", "nowhere", "middling"))]
    contenders.append(Contender("both", "hybrid", "tuned_hybrid", parts=("bm25", "tuned")))
    monkeypatch.setattr(evaluation, "windows", lambda text: text.split("\n"))
    bench = evaluate(prepare(tmp_path), contenders)
    rows = bench.rows("summary", "contender = 'tuned' AND dim IS NULL AND view = 'masked' AND index = 'corpus'")
    dev = {(row["task"], row["format"]): row["MRR@10"] for row in rows if row["split"] == "dev"}
    [text_format] = {str(row["format"]).removesuffix(" by window") for row in rows if row["split"] == "test"}
    taken = {row["task"]: row["format"] for row in rows if row["split"] == "test"}
    assert len(set(taken.values())) == 2, "this data has tasks of either kind"
    for task in TASKS:
        readings = (text_format, f"{text_format} by window")
        assert taken[task] == max(readings, key=lambda name: dev[task, name]), task
    hybrids = bench.rows("summary", "contender = 'both' AND split = 'test'")
    assert all(str(row["format"]).endswith(str(taken[row["task"]])) for row in hybrids)


def test_a_fitted_model_is_fitted_to_the_threads_of_each_split(tmp_path: Path) -> None:
    fitted: list[tuple[str, ...] | None] = []

    def encoder_of(model: Model, fitted_to: Sequence[str] | None = None) -> HashEncoder:
        fitted.append(tuple(fitted_to) if fitted_to else None)
        return HashEncoder("fitted" if fitted_to else model.fingerprint, SIZES["strong"] if fitted_to else SIZES["weak"])

    contenders = [
        BM25,
        Contender("tuned", "dense", "tuned", (Reading(), Reading(fitted=True)), Model("tuned", "nowhere", "weak")),
    ]
    layout = prepare(tmp_path)
    tables = evaluate_source(layout.tasks("made"), "made", contenders, layout, encoder_of)
    threads = {
        task.split: tuple(task.document_texts("plain")) for task in load_tasks(layout.tasks("made")) if task.name == "thread"
    }
    assert fitted == [None, threads["dev"], threads["test"]]
    rows = list(tables["summary"].rows_as_dicts(where="contender = 'tuned' AND split = 'test'"))
    assert {row["format"] for row in rows} == {"plain, fitted"}, "it is better on dev"
    assert {row["dim"] for row in rows} == {None, 256, 128, 64}


def test_documents_read_by_window_are_scored_by_their_best_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model("tuned", "nowhere", "strong")
    contenders = [
        BM25,
        Contender("whole", "dense", "tuned", (Reading(),), model),
        Contender("cut", "dense", "tuned", (Reading(by_window=True),), model),
        Contender("cut+bm25", "hybrid", "tuned_hybrid", parts=("bm25", "cut")),
    ]
    layout = prepare(tmp_path)
    monkeypatch.setattr(evaluation, "windows", lambda text: text.split("\n"))
    lines = evaluate(layout, contenders)
    asked = "source = 'made' AND split = 'test' AND task = 'thread' AND contender = '{}'"
    rows = {name: lines.rows("summary", asked.format(name)) for name in ("whole", "cut", "cut+bm25")}
    assert {row["format"] for row in rows["cut"]} == {"plain by window"}
    assert {row["format"] for row in rows["cut+bm25"]} <= {f"{name}+plain by window" for name in FORMATS}
    assert {row["dim"] for row in rows["cut"]} == {None, 256, 128, 64}
    assert [row["MRR@10"] for row in rows["cut"]] != [row["MRR@10"] for row in rows["whole"]]
    monkeypatch.setattr(evaluation, "windows", lambda text: [text])
    one = evaluate(layout, contenders).rows("summary", asked.format("cut"))
    assert [row["MRR@10"] for row in one] == [row["MRR@10"] for row in rows["whole"]]


def test_every_text_is_embedded_once_for_all_tasks_and_a_second_run_embeds_none(bench: Bench) -> None:
    for encoder in bench.encoders.values():
        assert len(encoder.seen) == len(set(encoder.seen)) > 0
    again = evaluate(bench.layout)
    assert all(encoder.seen == [] for encoder in again.encoders.values())
    for table in ("per_query", "summary", "comparisons", "breakdowns"):
        assert again.tables[table].fingerprint == bench.tables[table].fingerprint


def test_names_are_read_in_memory_and_their_vectors_lie_in_private(bench: Bench) -> None:
    named = [text for text in bench.encoders["base"].seen if "name" in text]
    assert named, "the intact view shows names"
    assert not any(b"name0" in path.read_bytes() for path in bench.layout.benchmark.rglob("*") if path.is_file())
    assert list((bench.layout.private / "embeddings").rglob("*.vectors"))
    public = evaluate_source(
        bench.layout.tasks("made"),
        "made",
        [BM25, CONTENDERS[3]],
        Layout(bench.layout.root / "bare"),
        lambda _: HashEncoder(),
    )
    views = {row["view"] for row in public["summary"].rows_as_dicts()}
    assert views == {"masked", "typos", "paraphrase"}, "without the private table nothing can show names"


def test_every_reading_of_a_task_is_scored(bench: Bench) -> None:
    rows = bench.rows("summary", "split = 'test' AND status = 'RUN' AND contender = 'base' AND dim IS NULL")
    masked = {(t, "masked", i) for t in TASKS for i in ("corpus", "near")}
    views = {("thread", "intact"), *((t, "typos") for t in ("thread", "response", "summary")), ("summary", "paraphrase")}
    assert {(r["task"], r["view"], r["index"]) for r in rows} == masked | {(t, v, "corpus") for t, v in views}
    names = bench.rows("summary", "view = 'names'")
    assert {(r["contender"], r["task"]) for r in names} == {("bm25", "thread")}
    by_view = {
        r["view"]: r["MRR@10"]
        for r in bench.rows("summary", "contender = 'bm25' AND task = 'thread' AND split = 'test' AND index = 'corpus'")
    }
    assert by_view["intact"] > by_view["masked"] > by_view["typos"]  # type: ignore[operator]
    whole = {r["task"]: r for r in bench.rows("summary", f"contender = 'tuned' AND split = 'test' AND {WHOLE}")}
    near = {r["task"]: r for r in bench.rows("summary", "contender = 'tuned' AND split = 'test' AND index = 'near'")}
    assert all(near[task]["documents"] <= 50 for task in TASKS)  # type: ignore[operator]
    assert near["reply"]["documents"] < whole["reply"]["documents"]  # type: ignore[operator]


def test_shorter_vectors_give_the_matryoshka_curve(bench: Bench) -> None:
    rows = bench.rows("summary", "dim IS NOT NULL")
    assert {(r["contender"], r["dim"]) for r in rows} == {("tuned", 256), ("tuned", 128), ("tuned", 64)}
    assert {r["task"] for r in rows} == set(TASKS)
    scores = {r["dim"]: r["MRR@10"] for r in rows if r["task"] == "thread"}
    full = bench.rows("summary", f"contender = 'tuned' AND task = 'thread' AND split = 'test' AND {WHOLE}")[0]["MRR@10"]
    assert full >= scores[64]  # type: ignore[operator]


def test_summaries_are_the_means_of_the_queries_within_their_intervals(bench: Bench) -> None:
    keys = ("task", "split", "contender", "format", "view", "index")
    queries: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in bench.rows("per_query"):
        queries.setdefault(tuple(row[k] for k in keys), []).append(row)
    rows = bench.rows("summary", "status = 'RUN' AND dim IS NULL")
    assert len(rows) == len(queries)
    for row in rows:
        mine = queries[tuple(row[k] for k in keys)]
        assert len(mine) == row["n"]
        for metric in METRICS:
            assert row[metric] == pytest.approx(np.mean([float(str(q[metric])) for q in mine]))
            assert 0 <= row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"] <= 1  # type: ignore[operator]


def test_the_stronger_model_wins_and_the_comparison_says_so(bench: Bench) -> None:
    comparisons = {
        (row["task"], row["index"], row["contender_a"], row["contender_b"]): row for row in bench.rows("comparisons")
    }
    pairs = {
        *(("tuned", other) for other in ("bm25", "base", "base+bm25", "elsewhere")),
        ("tuned+bm25", "base+bm25"),
        ("elsewhere", "base"),
    }
    assert set(comparisons) == {(task, index, a, b) for task in TASKS for index in ("corpus", "near") for a, b in pairs}
    row = comparisons["thread", "corpus", "tuned", "base"]
    means = {
        r["contender"]: r["MRR@10"]
        for r in bench.rows("summary", f"split = 'test' AND task = 'thread' AND status = 'RUN' AND {WHOLE}")
    }
    assert row["difference"] == pytest.approx(means["tuned"] - means["base"])  # type: ignore[operator]
    assert 0 < row["low"] < row["difference"] < row["high"]  # type: ignore[operator]
    assert row["p"] < 0.01  # type: ignore[operator]
    assert row["n"] == 60


def test_breakdowns_add_up_to_the_whole(bench: Bench) -> None:
    rows = list(bench.rows("breakdowns", "contender = 'tuned' AND task = 'thread'"))
    whole = bench.rows("summary", f"contender = 'tuned' AND task = 'thread' AND split = 'test' AND {WHOLE}")[0]
    assert {r["dimension"] for r in rows} == {"thread_length", "time_gap", "word_overlap", "difficulty"}
    for dimension in ("thread_length", "time_gap", "word_overlap", "difficulty"):
        mine = [r for r in rows if r["dimension"] == dimension]
        assert sum(int(str(r["n"])) for r in mine) == whole["n"]
        mean = sum(int(str(r["n"])) * float(str(r["MRR@10"])) for r in mine) / int(str(whole["n"]))
        assert mean == pytest.approx(whole["MRR@10"])
    bm25 = {r["position"]: r["MRR@10"] for r in bench.rows("breakdowns", "contender = 'bm25' AND dimension = 'difficulty'")}
    assert bm25[0] == 1
    assert bm25.get(2, 0) == 0


def test_what_cannot_run_says_not_run_and_so_does_its_hybrid(bench: Bench) -> None:
    for name in ("big", "big+bm25"):
        rows = bench.rows("summary", f"contender = '{name}'")
        assert {(r["task"], r["split"], r["status"]) for r in rows} == {(t, "test", "NOT RUN") for t in TASKS}
        for row in rows:
            assert row["reason"] == "it is not on this machine"
            assert row["MRR@10"] is None
    assert not bench.rows("per_query", "contender = 'big'")


def test_run_files_hold_the_runs_that_were_scored(bench: Bench) -> None:
    import ir_measures

    files = {path.name for path in bench.layout.runs("made").iterdir()}
    names = [file_name(c.name) for c in CONTENDERS if not c.name.startswith("big")]
    assert files == {f"{n}.{task}.{index}.trec" for n in names for task in TASKS for index in ("corpus", "near")}
    task = next(t for t in load_tasks(bench.layout.tasks("made")) if (t.name, t.split) == ("thread", "test"))
    run: dict[str, dict[str, float]] = {}
    for line in ir_measures.read_trec_run(str(bench.layout.runs("made") / "tuned.thread.corpus.trec")):
        run.setdefault(line.query_id, {})[line.doc_id] = line.score
    stored = {
        str(r["query_id"]): r["NDCG@10"]
        for r in bench.rows(
            "per_query",
            "contender = 'tuned' AND split = 'test' AND task = 'thread' AND view = 'masked' AND index = 'corpus'",
        )
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
