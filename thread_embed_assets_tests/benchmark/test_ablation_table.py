from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from thread_embed_assets.benchmark import ablation_table
from thread_embed_assets.benchmark.ablation_plan import REFERENCE, Plan
from thread_embed_assets.benchmark.ablation_table import write_table
from thread_embed_assets.benchmark.ablations import SCHEMAS, SCORES
from thread_embed_assets.benchmark.statistics import Cell, macro_bootstrap
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import write_tables

PLAN = Plan.model_validate(
    {
        "seeds": [0, 1],
        "tasks": ["thread", "response"],
        "stage": {"max_pairs": 100},
        "questions": {
            "size": {
                "asks": "How large?",
                "reference": "as it is",
                "arms": {
                    "better": {"level": "large", "stage": {"batch_size": 9}},
                    "same": {"level": "no other", "stage": {"batch_size": 8}},
                    "absent": {"level": "huge", "stage": {"batch_size": 10}},
                },
            },
            "use": {"asks": "How used?", "reference": "whole", "arms": {"windows": {"level": "in parts", "window": 3}}},
        },
    }
)
SETTING = {
    "seeds": [0, 1],
    "stage": {"max_pairs": 100, "epochs": 1, "base_model": "made/small"},
    "train": {"thread garden": "f1"},
    "dev": {"garden": "f2", "shed": "f3"},
    "tasks": ["thread", "response"],
}
SIZES = {("garden", "thread"): 60, ("garden", "response"): 30, ("shed", "thread"): 40}


def write_arm(layout: Layout, name: str, gain: float = 0.0, setting: Any = SETTING, seeds: tuple[int, ...] = (0, 1)) -> None:
    """Scores around .5 that depend on query and seed alone, plus ``gain`` on threads of the garden."""
    rows = []
    for number in seeds:
        for (source, task), size in SIZES.items():
            for query in range(size):
                score = 0.3 + (query % 7) / 20 + number / 50 + (gain if (source, task) == ("garden", "thread") else 0)
                rows.append((number, source, task, f"q{query:03d}", f"day{query // 3}", score))
    runs = [(n, f"c{n}", 100, '{"thread garden": 100}', 5, 7_000, 12.5, "made up", 300, 4.0) for n in seeds]
    arm = PLAN.arms[name].model_dump(mode="json")
    with write_tables(layout.ablation(name) / "scores.duckdb", SCHEMAS) as writer:
        writer.add_all("scores", reversed(rows))
        writer.add_all("runs", runs)
        writer.add_all("about", [(k, json.dumps(v)) for k, v in {"arm": arm, "setting": setting, "trained": []}.items()])


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thread_embed_assets.storage.charts.Chart.png", lambda chart: b"picture")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    write_arm(layout, REFERENCE)
    write_arm(layout, "better", 0.1)
    write_arm(layout, "same")
    return layout


def test_differences_are_paired_and_averaged_over_cells_and_seeds(layout: Layout) -> None:
    rows = {row.arm: row for row in write_table(PLAN, layout).rows}
    better, same, reference = rows["better"], rows["same"], rows[REFERENCE]
    assert better.difference is not None and same.difference is not None
    assert better.difference.mean == pytest.approx(0.1 / 3), "one of three cells is .1 better"
    assert better.difference.low == pytest.approx(0.1 / 3) == better.difference.high, "on every query"
    assert (same.difference.mean, same.difference.low, same.difference.high) == (0, 0, 0)
    assert better.score - reference.score == pytest.approx(0.1 / 3)  # type: ignore[operator]
    cells = better.cells or {}
    assert cells["garden thread"][1].mean == pytest.approx(0.1) and cells["shed thread"][1].mean == 0  # type: ignore[union-attr]
    expected = np.mean([0.3 + np.mean([q % 7 for q in range(n)]) / 20 for n in SIZES.values()])
    assert reference.by_seed == pytest.approx({0: expected, 1: expected + 0.02})
    assert reference.score == pytest.approx(expected + 0.01) and reference.difference is None
    assert better.cost == {"pairs": 200, "tokens": 14_000, "train_seconds": 25, "texts_embedded": 600, "score_seconds": 8}
    assert better.inputs == {"thread garden": 100} and better.devices == ["made up"]


def test_the_interval_draws_the_clusters_of_a_source_together(layout: Layout) -> None:
    draw = np.random.default_rng(1)
    given = {place: draw.normal(0.02, 0.2, size) for place, size in SIZES.items()}
    reference = ablation_table._read(layout, REFERENCE)
    assert reference is not None
    changed = {
        place: ablation_table._Scored(scored.query_ids, scored.clusters, scored.values + given[place])
        for place, scored in reference.cells.items()
    }
    arm = ablation_table._Arm(changed, reference.by_seed, reference.runs, reference.about)
    found = ablation_table._compared("?", "l", "better", arm, reference).difference
    cells = [Cell(place[0], given[place], reference.cells[place].clusters) for place in reference.cells]
    expected = macro_bootstrap(cells, seed("ablation"))
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_an_arm_that_was_run_before_a_field_came_still_counts(layout: Layout) -> None:
    path = layout.ablation("same") / SCORES
    [(text,)] = duckdb.connect(str(path)).execute("SELECT value FROM about WHERE name = 'arm'").fetchall()
    older = {name: value for name, value in json.loads(text).items() if name != "together"}
    assert older != json.loads(text)
    for arm, status in ((older, "RUN"), ({**older, "withdrawn": 1}, "NOT RUN")):
        with duckdb.connect(str(path)) as connection:
            connection.execute("UPDATE about SET value = ? WHERE name = 'arm'", [json.dumps(arm)])
        assert {row.arm: row.status for row in write_table(PLAN, layout).rows}["same"] == status


def test_what_was_not_run_says_so(layout: Layout) -> None:
    rows = {row.arm: row for row in write_table(PLAN, layout).rows}
    assert rows["absent"].status == "NOT RUN" and rows["absent"].score is None
    assert rows["absent"].reason == "the partition absent of ablation was not materialised"
    assert rows["windows"].status == "NOT RUN"
    write_arm(layout, "windows", setting={**SETTING, "seeds": [0], "dev": {"garden": "other"}}, seeds=(0,))
    rows = {row.arm: row for row in write_table(PLAN, layout).rows}
    assert rows["windows"].reason == "it was run with other seeds, dev than the reference"
    changed = {**PLAN.model_dump(), "questions": {**PLAN.model_dump()["questions"]}}
    changed["questions"]["size"]["arms"]["better"]["stage"] = {"batch_size": 11}
    rows = {row.arm: row for row in write_table(Plan.model_validate(changed), layout).rows}
    assert rows["better"].reason == "it was run as something else than what is declared now"


def test_the_page_and_the_json_tell_the_same(layout: Layout) -> None:
    written = write_table(PLAN, layout)
    folder = layout.ablations / "table"
    assert written.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == ["differences.png", "report.md", "table.json"]
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "2 of 4 arms" in page and "100 pairs, 1 epoch(s), seeds 0, 1" in page and "scored on dev alone" in page.lower()
    assert r"| large | better | 0.487 | \+0.033 | \+0.033 to +0.033 | 0.477 | 0.497 | 34 |" in page
    assert "| huge | absent | NOT RUN: the partition absent of ablation was not materialised |" in page
    assert "| as it is | reference | 0.4" in page
    assert "| better | 0.452 | 0.555 ↑ | 0.454 |" in page
    assert "data:image/png;base64," in written.page
    found = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    assert found["setting"] == SETTING and found["split"] == "dev" and found["metric"] == "MRR@10"
    [better] = [row for row in found["rows"] if row["arm"] == "better"]
    assert better["difference"]["mean"] == pytest.approx(0.1 / 3) and better["cells"]["garden thread"][1]["by"] == "cluster"
    assert [row["arm"] for row in found["rows"]] == [REFERENCE, "better", "same", "absent", REFERENCE, "windows"]


def test_without_the_reference_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    write_arm(Layout(tmp_path), "better")
    with pytest.raises(InputError, match=r"the reference was not run.*Materialise the partition 'reference' of ablation"):
        write_table(PLAN, Layout(tmp_path))
