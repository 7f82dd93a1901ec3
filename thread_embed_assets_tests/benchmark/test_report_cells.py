from __future__ import annotations

from typing import Any

from thread_embed_assets.benchmark.html_report import Cell
from thread_embed_assets.benchmark.report_cells import DID_NOT_RUN, NOTHING, difference_cell, p_cell, score_cell, with_best

SCORE = {"mean": 0.51249, "low": 0.4, "high": 0.6}
ROW: dict[str, Any] = {"role": "base", "scores": {"thread": {"MRR@10": SCORE}}, "not_run": {"reply": "no money"}}


def test_a_score_is_told_from_none_and_from_one_that_was_not_run() -> None:
    cell = score_cell(ROW, "scores", "thread", "MRR@10")
    assert (cell.text, cell.small, cell.value, cell.interval) == ("0.512", "[0.400, 0.600]", 0.51249, (0.4, 0.6))
    assert score_cell(ROW, "scores", "thread", "MRR@10", words=False).small == ""
    assert score_cell(ROW, "scores", "reply", "MRR@10") == DID_NOT_RUN
    assert score_cell(ROW, "scores", "summary", "MRR@10") == NOTHING


def test_all_that_are_written_like_the_best_are_bold() -> None:
    cells = {"a": Cell("0.512", 0.51249), "b": Cell("0.512", 0.5118), "c": Cell("0.511", 0.511), "d": DID_NOT_RUN}
    assert [name for name, cell in with_best(cells).items() if cell.best] == ["a", "b"]
    assert not any(cell.best for cell in with_best({"d": DID_NOT_RUN, "e": NOTHING}).values())


def test_differences_have_a_sign_and_small_p_a_bound() -> None:
    assert difference_cell({"difference": 0.1, "low": -0.05, "high": 0.25}).text == "+0.100"
    assert difference_cell({"difference": 0.1, "low": -0.05, "high": 0.25}).small == "[-0.050, +0.250]"
    assert [p_cell(p).text for p in (0.00009, 0.0001, 0.5, None)] == ["< 0.0001", "0.0001", "0.5000", ""]
