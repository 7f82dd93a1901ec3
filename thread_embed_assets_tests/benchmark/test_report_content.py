from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from thread_embed_assets.benchmark import report_content
from thread_embed_assets.benchmark.report import Leaderboard
from thread_embed_assets.benchmark.statistics import holm
from thread_embed_assets.benchmark.tasks import SCHEMAS as TASK_SCHEMAS
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.benchmark.made_results import (
    ALPHA,
    BETA,
    FEW,
    GAMMA,
    TUNED,
    Made,
    entry,
    of,
    results,
    write_all,
)


def test_a_source_tells_its_tasks_and_rows_and_dev_apart_from_test(leaderboard: Leaderboard) -> None:
    alpha = entry(leaderboard, ALPHA)
    assert [row["contender"] for row in alpha["rows"]] == sorted((c.name for c in FEW), key="big".__eq__), (
        "who did not run is last"
    )
    assert alpha["tasks"][0] == {
        **{"task": "thread", "tier": "gold", "n": 40, "documents": 500, "clusters": 8, "resampled": "cluster"}
    }
    assert {row["n"] for row in alpha["dev"]} == {15}
    assert entry(leaderboard, GAMMA)["indexes"]["near"] == []


def test_holm_goes_over_the_comparisons_of_all_sources_at_once(leaderboard: Leaderboard) -> None:
    paths = [results(leaderboard, source) for source in (ALPHA, BETA, GAMMA)]
    stored = [row for path in paths for row in open_table(path, "comparisons").rows_as_dicts()]
    told = [row for found in leaderboard.content["sources"] for row in found["comparisons"]]
    assert leaderboard.content["family"]["tests"] == len(stored) == len(told)
    assert [row["p_holm"] for row in told] == holm([row["p"] for row in stored])
    alone = holm([row["p"] for row in stored if row["source"] == "beta"])
    assert alone != [row["p_holm"] for row in entry(leaderboard, BETA)["comparisons"]]


def test_transfer_stands_between_base_and_tuned(leaderboard: Leaderboard) -> None:
    rows = leaderboard.content["transfer"]
    assert [(row["source"], row["task"]) for row in rows] == [("alpha", "thread"), ("alpha", "summary"), ("beta", "thread")]
    scores = {row["contender"]: row["scores"] for row in entry(leaderboard, ALPHA)["rows"]}
    comparisons = entry(leaderboard, ALPHA)["comparisons"]
    for key, name in (("base", "base"), ("tuned_transfer", "tuned-without"), ("tuned", "tuned")):
        assert rows[0][key] == scores[name]["thread"]["MRR@10"]["mean"]
    for key, a, b in (("transfer_minus_base", "tuned-without", "base"), ("tuned_minus_transfer", "tuned", "tuned-without")):
        tested = of(comparisons, task="thread", index="corpus", contender_a=a, contender_b=b)
        assert rows[0][key] == {name: tested[name] for name in ("difference", "low", "high", "p", "p_holm")}


def test_a_comparison_made_the_other_way_round_changes_its_sign() -> None:
    row = {"task": "thread", "index": "corpus", "contender_a": "base", "contender_b": "x"}
    made = {"comparisons": [{**row, "difference": 0.1, "low": -0.1, "high": 0.3, "p": 0.2, "p_holm": 0.4}]}
    turned = report_content._step(made, "thread", "x", "base")
    assert turned == {"difference": -0.1, "low": -0.3, "high": 0.1, "p": 0.2, "p_holm": 0.4}
    assert report_content._step(made, "thread", "x", "y") is None


def test_a_view_is_compared_on_the_queries_that_have_it(leaderboard: Leaderboard) -> None:
    row = of(entry(leaderboard, ALPHA)["views"], task="summary", view="paraphrase", contender="tuned")
    masked, seen = (ALPHA.values("summary", TUNED, view)[:20, 0] for view in ("masked", "paraphrase"))
    assert row["n"] == 20
    assert (row["masked"], row["score"]) == pytest.approx((masked.mean(), seen.mean()))
    assert row["difference"] == pytest.approx((seen - masked).mean())
    assert masked.mean() != pytest.approx(ALPHA.values("summary", TUNED)[:, 0].mean())


def test_a_platform_pools_the_queries_of_its_sources(leaderboard: Leaderboard) -> None:
    both = np.concatenate([ALPHA.values("thread", TUNED)[:, 0], BETA.values("thread", TUNED)[:, 0]])
    row = of(leaderboard.content["platforms"], platform="irc", task="thread", contender="tuned")
    assert (row["n"], row["sources"]) == (64, ["alpha", "beta"])
    assert row["mean"] == pytest.approx(both.mean())
    alone = of(leaderboard.content["platforms"], platform="irc", task="summary", contender="tuned")
    scores = of(entry(leaderboard, ALPHA)["rows"], contender="tuned")["scores"]["summary"]["MRR@10"]
    assert {key: alone[key] for key in scores} == scores
    for task in ("thread", "summary"):
        told = [r for r in leaderboard.content["platforms"] if (r["platform"], r["task"]) == ("irc", task)]
        assert [r["contender"] for r in told] == ["bm25", "base", "tuned"]


def test_costs_are_worked_out_from_what_was_really_embedded(undrawn: Layout) -> None:
    timing = {"texts": 1_000, "characters": 200_000, "seconds": 36.0, "tokens": 50_000, "dollars": 0.1}
    cache = undrawn.embedding_cache / "f_base"
    cache.mkdir(parents=True)
    (cache / "timing.json").write_text(json.dumps(timing))
    texts = ["x" * 30, "x" * 70]
    with write_tables(undrawn.tasks("beta"), {"corpus": TASK_SCHEMAS["corpus"]}) as writer:
        for number, (task, text) in enumerate([*(("reply", text) for text in texts), ("thread", "x" * 900)]):
            row = {"task": task, "split": "test", "doc_id": f"d_{number}", "text_plain": text}
            writer.add("corpus", tuple(row.get(name) for name in TASK_SCHEMAS["corpus"].names))
    board = write_all(undrawn, [replace(BETA, contenders=[*FEW, Made("big+bm25", "reference", 0.4)])])
    lines = board.content["costs"]
    assert board.content["message_characters"] == 50
    base = of(lines, contender="base")
    assert base["characters_per_text"] == 200
    assert base["hours_per_million_texts"] == pytest.approx(10)
    assert base["hours_per_million_messages"] == pytest.approx(2.5)
    assert base["dollars_per_million_messages"] == pytest.approx(25)
    assert of(lines, contender="tuned")["hours_per_million_texts"] is None  # nothing of it was timed
    assert of(lines, contender="bm25")["seconds"] == 2.5
    assert not [line for line in lines if line["contender"].endswith("+bm25")]


def test_the_costs_of_a_fitted_model_are_those_of_all_sources_it_was_fitted_to(undrawn: Layout) -> None:
    for source, texts, seconds in (("alpha", 100, 36.0), ("beta", 900, 0.0)):
        write_text(
            undrawn.embedding_cache / f"f_base, fitted to {source}" / "timing.json",
            json.dumps({"texts": texts, "characters": texts, "seconds": seconds}),
        )
    fitted = [*FEW, Made("base, fitted", "control", 0.4)]
    board = write_all(undrawn, [replace(ALPHA, contenders=fitted), replace(BETA, contenders=fitted)])
    assert of(board.content["costs"], contender="base, fitted")["hours_per_million_texts"] == pytest.approx(10)
