"""The table of the fusion runs at a tiny size, with a model that counts words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import search
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import HashEncoder
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.performance import search_fusion
from thread_embed_assets_tests.performance.search_fusion import Given, cells, grid, report, scored


def test_every_way_is_scored_on_every_cell(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_task_file(layout.tasks("made"), "made", 1)
    kept = list(cells(layout, ["made", "not_here"], "dev", HashEncoder(size=256), "plain"))
    found = json.loads(json.dumps(report([scored(cell) for cell in kept])))
    assert [(row["source"], row["task"], row["cut"], row["queries"]) for row in found["cells"]] == [
        ("made", "reply", False, 12),
        ("made", "summary", False, 12),
        ("made", "summary", True, 12),
    ]
    for cell in kept:
        run = search(Given(cell.dense), cell.task.query_ids, cell.task.document_ids)
        expected = per_query(run, cell.task.relevant, cell.task.query_ids)["MRR@10"]
        assert cell.mrr(Given(cell.dense)) == pytest.approx(expected)
    for row in found["cells"]:
        better = row["search_gains"]["over"]
        assert row[better] == max(row["bm25"], row["dense"])
        assert row["search_gains"]["mean"] == pytest.approx(row["search"] - row[better], abs=2e-4)
    assert found["lost"]["search"] <= 0 and found["mean"]["bm25"] > 0.2


def test_the_grid_is_judged_by_what_is_gained_and_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_fusion, "GRID", [(10, 0.75, 0.2), (10, 0.75, 0.0), (2, 0.5, 50.0)])
    write_task_file(Layout(tmp_path).tasks("made"), "made", 1)
    rows = grid(list(cells(Layout(tmp_path), ["made"], "dev", HashEncoder(size=256), "plain")))
    assert [row["judged_by"] for row in rows] == sorted((row["judged_by"] for row in rows), reverse=True)
    assert all(row["judged_by"] <= row["mean"] + 1e-4 and row["lost"] <= 0 for row in rows)
