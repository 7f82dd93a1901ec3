from __future__ import annotations

import json
import shutil

import dagster as dg
import pytest

from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.resources import STAGE1
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import latest_checkpoint
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import content, errors, materialization, run


def test_the_tasks_page_tells_how_many_there_are(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = {k: v.value for k, v in materialization(instance, "benchmark_tasks", SOURCE).metadata.items()}
    for name in ("queries", "corpus", "qrels"):
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
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None
    metadata = {k: v.value for k, v in materialization(instance, "benchmark_results", SOURCE).metadata.items()}
    assert metadata["checkpoints"] == {SOURCE: checkpoint.fingerprint}
    rows = list(open_table(workspace.layout.results(SOURCE), "summary").rows_as_dicts(where="split = 'test'"))
    ran = {row["contender"] for row in rows if row["status"] == "RUN"}
    assert ran == {"bm25", "tiny", "tiny+bm25", f"ThreadEmbed-{SOURCE}", f"ThreadEmbed-{SOURCE}+bm25"}
    assert metadata["summary"] == open_table(workspace.layout.results(SOURCE), "summary").rows


def test_without_a_checkpoint_there_is_nothing_to_score(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    shutil.rmtree(workspace.layout.models / "checkpoints")
    refused = run(instance, ["benchmark_results"], SOURCE)
    assert not refused.success
    expected = f"source '{SOURCE}': none of the mixes all, without_slack, {SOURCE} has a checkpoint. Materialise stage1"
    assert expected in errors(refused)


def test_a_checkpoint_of_another_configuration_is_named_and_the_last_results_stay(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
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
    assert metadata["leaderboard"] == (folder / "leaderboard.md").read_text(encoding="utf-8")
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    assert [entry["source"] for entry in board["sources"]] == [SOURCE]
    for task in ("thread", "response"):
        assert str(metadata[f"{SOURCE}_{task}"]).startswith(f"![{SOURCE}_{task}](data:image/png;base64,iVBOR")


def test_a_leaderboard_of_nothing_is_refused(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    workspace.layout.results(SOURCE).unlink()
    good = content(workspace.layout.benchmark / "leaderboard.json")
    refused = run(instance, ["leaderboard"], None)
    assert not refused.success and "leaderboard: no source has results yet" in errors(refused)
    assert content(workspace.layout.benchmark / "leaderboard.json") == good
