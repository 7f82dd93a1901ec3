"""An arm and the table as Dagster runs them; the training process is made up, its checkpoint is the finished workspace's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from thread_embed_assets.benchmark.ablation_plan import REFERENCE, load_plan
from thread_embed_assets.benchmark.ablations import MIX, SCORES
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import latest_checkpoint
from thread_embed_assets.training.config import STAGE1
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import errors, materialization, run
from thread_embed_assets_tests.defs.training.fake_pipes import FakePipes


def _trained(workspace: Workspace) -> FakePipes:
    """A training process that leaves the stage 1 checkpoint of the workspace among the reference's."""
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None
    there = Layout(workspace.layout.ablation(REFERENCE)).checkpoints(MIX, STAGE1)
    shutil.copytree(checkpoint.folder, there / checkpoint.fingerprint)
    return FakePipes([{"fingerprint": checkpoint.fingerprint, "reused": False}])


def _config(tiny_model: Path, mix: str = SOURCE) -> dict[str, Any]:
    overrides = {"base_model": str(tiny_model), "max_pairs": 40, "batch_size": 8, "max_tokens": 16}
    return {"ops": {"ablation": {"config": {"mix": mix, "seeds": [0], "overrides": overrides}}}}


def test_arms_are_run_compared_and_shown(workspace: Workspace, instance: dg.DagsterInstance, tiny_model: Path) -> None:
    early = run(instance, ["ablation_table"], None)
    assert not early.success and "the reference was not run" in errors(early)
    pipes = _trained(workspace)
    for arm in (REFERENCE, "untrained", "best_of_windows_3"):
        result = run(instance, ["ablation"], arm, _config(tiny_model), pipes=pipes)
        assert result.success, errors(result)
    assert [(job.mix, job.root) for job in pipes.jobs] == [(MIX, workspace.layout.ablation(REFERENCE))] * 2
    assert {(i.strategy, i.source) for i in pipes.jobs[0].inputs} == {
        (strategy, SOURCE) for strategy in ("thread", "response", "temporal")
    }
    shown = {k: v.value for k, v in materialization(instance, "ablation", REFERENCE).metadata.items()}
    assert f"| {SOURCE} | thread | 0 |" in str(shown["scores"])
    compared = run(instance, ["ablation_table"], None)
    assert compared.success, errors(compared)
    page = str(materialization(instance, "ablation_table", None).metadata["table"].value)
    assert f"2 of {len(load_plan().arms) - 1} arms" in page
    assert "NOT RUN: the partition batch_32 of ablation was not materialised" in page
    assert "](data:image/png;base64," in page
    found = json.loads((workspace.layout.ablations / "table" / "table.json").read_text(encoding="utf-8"))
    assert {row["arm"] for row in found["rows"] if row["status"] == "RUN"} == {REFERENCE, "untrained", "best_of_windows_3"}


def test_a_score_of_test_stops_the_arm_and_the_table(
    workspace: Workspace, instance: dg.DagsterInstance, tiny_model: Path
) -> None:
    assert run(instance, ["ablation"], REFERENCE, _config(tiny_model), pipes=_trained(workspace)).success
    path = workspace.layout.ablation(REFERENCE) / SCORES
    queries = open_table(workspace.layout.tasks(SOURCE), "queries")
    planted = next(queries.rows_as_dicts(["query_id"], "split = 'test'"))["query_id"]
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE scores SET query_id = ? WHERE query_id = (SELECT min(query_id) FROM scores)", [planted])
    again = run(instance, ["ablation"], REFERENCE, _config(tiny_model), pipes=FakePipes([]))
    assert not again.success, "it is there already, and its check looks again"
    assert not run(instance, ["ablation_table"], None).success


def test_an_unknown_mix_is_named_and_not_tried_again(
    workspace: Workspace, instance: dg.DagsterInstance, tiny_model: Path
) -> None:
    refused = run(instance, ["ablation"], REFERENCE, _config(tiny_model, "nowhere"))
    assert not refused.success and "mix 'nowhere': there is no such mix" in errors(refused)
    assert not refused.filter_events(lambda event: event.is_step_up_for_retry)
