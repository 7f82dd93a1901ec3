from __future__ import annotations

import math
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.evaluate import write_run
from thread_embed_assets.benchmark.metrics import METRICS, per_query


def run_of(*documents: str) -> dict[str, dict[str, float]]:
    return {"q": {d: 1.0 - 0.01 * rank for rank, d in enumerate(documents)}}


def score(run: dict[str, dict[str, float]], **grades: int) -> dict[str, float]:
    return {name: float(values[0]) for name, values in per_query(run, {"q": grades}, ["q"]).items()}


def test_one_relevant_document_third() -> None:
    found = score(run_of("a", "b", "c", "d"), c=1)
    assert found == pytest.approx(
        {"MRR@10": 1 / 3, "Recall@1": 0, "Recall@5": 1, "Recall@10": 1, "NDCG@10": 1 / math.log2(4)}
    )


def test_beyond_the_tenth_counts_nothing() -> None:
    found = score(run_of(*"abcdefghijk"), k=1)
    assert found == dict.fromkeys(METRICS, 0.0)


def test_recall_is_a_share_of_the_relevant_not_a_hit_rate() -> None:
    found = score(run_of("a", "x", "b", "y", "z", "c"), a=1, b=1, c=1, d=1)
    assert (found["Recall@1"], found["Recall@5"], found["Recall@10"]) == (0.25, 0.5, 0.75)
    assert found["MRR@10"] == 1.0


def test_grades_are_gains() -> None:
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert score(run_of("one", "two"), one=1, two=2)["NDCG@10"] == pytest.approx((1 + 2 / math.log2(3)) / ideal)
    assert score(run_of("two", "one"), one=1, two=2)["NDCG@10"] == pytest.approx(1.0)


def test_equal_scores_rank_in_the_order_of_the_run_for_every_metric() -> None:
    run = {"q": {"a": 0.5, "b": 0.5, "c": 0.5}}
    first, last = score(run, a=1), score(run, c=1)
    assert first == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert (last["MRR@10"], last["Recall@1"], last["NDCG@10"]) == pytest.approx((1 / 3, 0.0, 0.5))


def test_a_query_without_results_scores_zero_and_keeps_its_place() -> None:
    run = {"b": {"y": 1.0}, "a": {}}
    values = per_query(run, {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}}, ["c", "b", "a"])
    assert values["MRR@10"].tolist() == [0.0, 1.0, 0.0]


def test_run_files_are_trec_and_give_the_same_scores(tmp_path: Path) -> None:
    import ir_measures

    run = {"q1": {"d2": 0.75, "d1": 0.5}, "q2": {"d1": 1.0}}
    relevant = {"q1": {"d1": 1}, "q2": {"d1": 1}}
    write_run(tmp_path / "x.trec", run, "some model")
    assert (tmp_path / "x.trec").read_text().splitlines()[0] == "q1 Q0 d2 1 0.750000 some_model"
    read = list(ir_measures.read_trec_run(str(tmp_path / "x.trec")))
    again = ir_measures.calc_aggregate([ir_measures.parse_measure("RR@10")], relevant, read)
    ours = per_query(run, relevant, ["q1", "q2"])["MRR@10"].mean()
    assert list(again.values()) == [pytest.approx(ours)]
