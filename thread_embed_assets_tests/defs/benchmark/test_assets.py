from __future__ import annotations

import json
import shutil

import dagster as dg
import pytest

from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import final_checkpoint
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import content, errors, materialization, run


def test_the_tasks_page_tells_how_many_there_are(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = {k: v.value for k, v in materialization(instance, "benchmark_tasks", SOURCE).metadata.items()}
    for name in ("queries", "corpus", "qrels", "candidates"):
        assert metadata[name] == open_table(workspace.layout.tasks(SOURCE), name).rows > 0
    assert "| thread_test_queries |" in str(metadata["counts"])


def test_a_source_that_is_not_for_the_benchmark_gets_no_tasks(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = content(workspace.layout.tasks(SOURCE))
    monkeypatch.setitem(CATALOG, SOURCE, CATALOG[SOURCE].model_copy(update={"roles": frozenset({"train"})}))
    refused = run(instance, ["benchmark_tasks"], SOURCE)
    assert not refused.success
    assert f"source '{SOURCE}': the catalogue does not give it the role 'benchmark'" in errors(refused)
    assert content(workspace.layout.tasks(SOURCE)) == good


def test_results_name_the_checkpoints_they_score(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = final_checkpoint(workspace.layout, SOURCE)
    assert checkpoint is not None
    metadata = {k: v.value for k, v in materialization(instance, "benchmark_results", SOURCE).metadata.items()}
    assert metadata["checkpoints"] == {SOURCE: checkpoint.fingerprint}
    rows = list(open_table(workspace.layout.results(SOURCE), "summary").rows_as_dicts(where="split = 'test'"))
    ran = {row["contender"] for row in rows if row["status"] == "RUN"}
    models = {"tiny", f"ThreadEmbed-{SOURCE}"}
    baselines = {"bm25", "recency", "speakers", "tiny+bm25 (rrf)"}
    assert ran == baselines | models | {f"{name}+bm25" for name in models}
    assert {row["reason"] for row in rows if row["contender"] == "all-mpnet-base-v2"} == {"left out of these tests"}
    assert metadata["summary"] == open_table(workspace.layout.results(SOURCE), "summary").rows


def test_without_a_checkpoint_there_is_nothing_to_score(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    shutil.rmtree(workspace.layout.models / "checkpoints")
    refused = run(instance, ["benchmark_results"], SOURCE)
    assert not refused.success
    none = f"no model is released, and none of the mixes all, open, without_slack, {SOURCE} has a checkpoint"
    assert f"source '{SOURCE}': {none}. Run the train" in errors(refused)


def test_a_checkpoint_of_another_configuration_is_named_and_the_last_results_stay(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    checkpoint = final_checkpoint(workspace.layout, SOURCE)
    assert checkpoint is not None
    foreign = checkpoint.folder.with_name("0123456789abcdef")
    shutil.copytree(checkpoint.folder, foreign)
    good = content(workspace.layout.results(SOURCE))
    refused = run(instance, ["benchmark_results"], SOURCE)
    assert not refused.success
    message = errors(refused)
    assert f"{foreign / 'manifest.json'}: the manifest belongs to another configuration" in message
    assert f"Delete the folder {foreign}" in message
    assert content(workspace.layout.results(SOURCE)) == good


def test_the_leaderboards_page_is_what_lies_on_disk(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = {k: v.value for k, v in materialization(instance, "leaderboard", None).metadata.items()}
    folder = workspace.layout.benchmark
    assert str(metadata["html"]).endswith("data/benchmark/leaderboard.html")
    assert "<html" in (folder / "leaderboard.html").read_text(encoding="utf-8")
    assert "](data:image/png;base64,iVBOR" in str(metadata["leaderboard"])
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    assert [entry["source"] for entry in board["sources"]] == [SOURCE]
    costs = {row["contender"] for row in board["costs"]}
    assert {"tiny", f"ThreadEmbed-{SOURCE}"} <= costs


def test_the_results_page_shows_wins_and_losses(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = {k: v.value for k, v in materialization(instance, "benchmark_results", SOURCE).metadata.items()}
    assert f"{SOURCE}: wins and losses" in str(metadata["wins_and_losses"])
    assert (workspace.layout.win_loss(SOURCE) / "report.md").exists()


def test_general_tasks_without_data_are_not_run_and_the_floor_is_not_known(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = {"ops": {"regression_results": {"config": {"mix": SOURCE}}}}
    assert run(instance, ["regression_results"], None, config).success
    metadata = {k: v.value for k, v in materialization(instance, "regression_results", None).metadata.items()}
    assert metadata["passes_floor"] == "not known" and metadata["tasks_run"] == 0
    assert "NOT RUN" in str(metadata["results"])
    refused = run(instance, ["regression_results"], None)
    assert "the mix 'all' has no checkpoint" in errors(refused)


def test_a_leaderboard_of_nothing_is_refused(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    workspace.layout.results(SOURCE).unlink()
    good = content(workspace.layout.benchmark / "leaderboard.json")
    refused = run(instance, ["leaderboard"], None)
    assert not refused.success and "leaderboard: no source has results yet" in errors(refused)
    assert content(workspace.layout.benchmark / "leaderboard.json") == good
