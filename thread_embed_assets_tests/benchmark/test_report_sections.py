from __future__ import annotations

from dataclasses import replace

import pytest

from thread_embed_assets.benchmark import report_content
from thread_embed_assets.benchmark.report import Leaderboard, terminal_table, write_leaderboard
from thread_embed_assets.benchmark.report_sections import FEW_CLUSTERS
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.benchmark.made_results import (
    ALPHA,
    BETA,
    BINS,
    FEW,
    Made,
    entry,
    of,
    part,
    results,
    table,
    write_all,
)


@pytest.mark.parametrize(("index", "title"), [("corpus", "Headline"), ("near", "Near slice")])
def test_the_markdown_holds_the_numbers_of_the_tables(leaderboard: Leaderboard, index: str, title: str) -> None:
    lines = table(part(leaderboard, "alpha", title))
    where = f"split = 'test' AND status = 'RUN' AND view = 'masked' AND dim IS NULL AND \"index\" = '{index}'"
    rows = list(open_table(results(leaderboard, ALPHA), "summary").rows_as_dicts(where=where))
    assert len(rows) == 12
    for row in rows:
        cell = of(lines, contender=row["contender"])[f"{row['task']} (40 queries, 500 documents)"]
        assert cell.replace("*", "") == f"{row['MRR@10']:.3f} [{row['MRR@10_low']:.3f}, {row['MRR@10_high']:.3f}]"
    others = table(part(leaderboard, "alpha", "Other metrics"))
    for row in rows if index == "corpus" else []:
        for metric in ("Recall@1", "Recall@5", "Recall@10", "NDCG@10"):
            assert of(others, contender=row["contender"])[f"{row['task']} {metric}"].strip("*") == f"{row[metric]:.3f}"


def test_the_first_thing_is_one_table_of_everything_with_the_best_in_bold(leaderboard: Leaderboard) -> None:
    top = leaderboard.markdown[: leaderboard.markdown.index("\n## ")]
    lines = table(top)
    assert [line["contender"] for line in lines] == sorted((c.name for c in FEW), key="big".__eq__), (
        "who did not run is last"
    )
    columns = [
        "alpha thread (n 40)",
        "alpha summary (n 40)",
        "beta thread (n 24)",
        "gamma thread (n 40)",
    ]
    assert list(lines[0]) == ["contender", *columns]
    for column in columns:
        numbers = {line["contender"]: line[column] for line in lines if line[column] not in ("", "NOT RUN")}
        best = max(float(cell.strip("*")) for cell in numbers.values())
        assert [name for name, cell in numbers.items() if "*" in cell] == [
            name for name, cell in numbers.items() if float(cell.strip("*")) == best
        ]
    assert set(of(lines, contender="big").values()) == {"big", "NOT RUN"}
    assert of(lines, contender="tuned-without")["gamma thread (n 40)"] == ""
    assert "- big: NOT RUN, it is not on this machine." in top


def test_a_contender_that_ran_on_some_tasks_says_where_it_did_not(undrawn: Layout) -> None:
    contenders = [FEW[0], Made("dear", "reference", 0.3, "the budget is spent", tasks=("summary",))]
    board = write_all(undrawn, [replace(ALPHA, contenders=contenders)])
    line = of(table(board.markdown), contender="dear")
    assert line["alpha summary (n 40)"] == "NOT RUN" and float(line["alpha thread (n 40)"].strip("*")) > 0
    assert "- dear: NOT RUN on alpha summary, the budget is spent." in board.markdown
    assert "dear: NOT RUN on alpha summary, the budget is spent." in terminal_table(board)


def test_comparisons_are_bold_where_they_hold_in_their_whole_family(leaderboard: Leaderboard) -> None:
    text = part(leaderboard, "beta", "Comparisons")
    assert f"over all {leaderboard.content['family']['tests']} comparisons" in text
    for line, row in zip(table(text), entry(leaderboard, BETA)["comparisons"], strict=True):
        assert (line["a"], line["b"], line["index"]) == (row["contender_a"], row["contender_b"], row["index"])
        assert line["a - b"].strip("*").startswith(f"{row['difference']:+.3f}")
        assert line["p (Holm)"].startswith("**") == (row["p_holm"] < 0.05)


def test_a_family_too_large_for_the_draws_is_said_to_be(
    leaderboard: Leaderboard, undrawn: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nothing can be bold" not in leaderboard.markdown
    monkeypatch.setattr(report_content, "RESAMPLES", 100)
    assert "nothing can be bold" in write_leaderboard([results(leaderboard, BETA)], undrawn).markdown


def test_a_source_without_a_transfer_model_is_named(leaderboard: Leaderboard) -> None:
    assert "trained without its platform was given for gamma." in part(leaderboard, "Transfer between platforms")


def test_a_view_stands_beside_the_masked_one(leaderboard: Leaderboard) -> None:
    leak = of(table(part(leaderboard, "alpha", "Name leak")), contender="bm25", task="thread")
    assert float(leak["real names this view"]) > float(leak["real names masked"])
    assert leak["names only n"] == "40"


def test_shorter_vectors_and_parts_stand_in_order(leaderboard: Leaderboard) -> None:
    lines = table(part(leaderboard, "alpha", "Matryoshka"))
    assert list(lines[0]) == ["contender", "task", "64", "128", "256", "all"]
    scores = of(entry(leaderboard, ALPHA)["rows"], contender="tuned")["scores"]["summary"]["MRR@10"]
    assert of(lines, contender="tuned", task="summary")["all"].startswith(f"{scores['mean']:.3f}")
    parts = table(part(leaderboard, "alpha", "Breakdowns"))
    assert [line["part"] for line in parts] == [name for bins in BINS.values() for name in bins]
    where = "task = 'thread' AND contender = 'base' AND bin = 'over 10'"
    (row,) = open_table(results(leaderboard, ALPHA), "breakdowns").rows_as_dicts(where=where)
    assert f"[{row['MRR@10_low']:.3f}, {row['MRR@10_high']:.3f}]" in of(parts, part="over 10")["base"]


def test_what_did_not_run_has_no_cost(leaderboard: Leaderboard) -> None:
    assert set(of(table(part(leaderboard, "Cost")), contender="big").values()) == {"big", "NOT RUN"}


def test_few_clusters_are_said_to_be_few(leaderboard: Leaderboard) -> None:
    assert FEW_CLUSTERS in part(leaderboard, "gamma")
    assert FEW_CLUSTERS not in part(leaderboard, "alpha")
