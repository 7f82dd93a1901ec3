"""A run launched alone does not go on from data that a check refused."""

from types import SimpleNamespace
from typing import cast

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.defs.gates import keys_of, not_passed, require_passed
from thread_embed_assets.defs.partitions import mixes
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.errors import InputError
from thread_embed_assets.training.checkpoint import latest_checkpoint
from thread_embed_assets.training.config import STAGE1, STAGE3
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import TRAIN, check, content, errors, made, plant, run
from thread_embed_assets_tests.defs.training.fake_pipes import FakePipes


def _pipes(workspace: Workspace) -> FakePipes:
    """A training process that finds the finished checkpoint."""
    found = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert found is not None
    return FakePipes([{"fingerprint": found.fingerprint, "reused": True}])


def _train(instance: dg.DagsterInstance, pipes: FakePipes) -> dg.ExecuteInProcessResult:
    asset_alone = dg.AssetSelection.assets("stage1_checkpoint").without_checks()
    return run(instance, asset_alone, SOURCE, TRAIN, pipes=pipes)


def test_training_goes_on_when_every_check_of_its_inputs_has_passed(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    pipes = _pipes(workspace)
    assert _train(instance, pipes).success
    assert len(pipes.commands) == 1


def test_a_check_that_was_planned_and_is_not_done_holds_up_without_being_called_failed() -> None:
    planned = SimpleNamespace(status=AssetCheckExecutionRecordStatus.PLANNED)
    storage = SimpleNamespace(get_asset_check_execution_history=lambda *_, **__: [planned])
    key = dg.AssetCheckKey(dg.AssetKey("conversations"), "non_empty")
    found = not_passed(cast("dg.DagsterInstance", SimpleNamespace(event_log_storage=storage)), [key], SOURCE)
    assert found == ["conversations/non_empty (is running, or was cut off)"]


def test_training_refuses_data_whose_checks_never_ran(workspace: Workspace) -> None:
    pipes = _pipes(workspace)
    with dg.DagsterInstance.ephemeral() as fresh:
        refused = _train(fresh, pipes)
    assert not refused.success and pipes.commands == []
    message = errors(refused)
    assert f"partition '{SOURCE}': blocked by conversations/non_empty (has not run)" in message
    assert "hard_negatives/negatives_from_elsewhere (has not run)" in message and "materialise it again" in message


@pytest.mark.parametrize(
    ("asset", "name", "fault", "repair"),
    [
        ("conversations", "filter_rates", "UPDATE stored_tables SET counts = '{}'", "conversations"),
        ("temporal_pairs", "window_sizes", "UPDATE pairs SET anchor_ids = []", "temporal_pairs"),
        ("hard_negatives", "negatives_from_elsewhere", "UPDATE hard_negatives SET pair_id = 'x'", "hard_negatives"),
    ],
)
def test_training_refuses_data_that_failed_a_check_until_it_is_mended(
    asset: str, name: str, fault: str, repair: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    path = STORED[asset].path(workspace.layout, SOURCE)
    sound = path.read_bytes()
    plant(path, fault)
    assert not check(instance, asset, name, SOURCE).passed
    pipes = _pipes(workspace)
    refused = _train(instance, pipes)
    assert not refused.success and pipes.commands == []
    assert f"blocked by {asset}/{name} (failed). Look at the checks' pages" in errors(refused)
    path.write_bytes(sound)
    assert check(instance, repair, name, SOURCE).passed
    assert _train(instance, pipes).success


def test_results_are_not_made_from_a_checkpoint_or_tasks_that_a_check_refused(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    [weights] = workspace.layout.checkpoints(SOURCE, STAGE3).glob("*/model/model.safetensors")
    sound, results = weights.read_bytes(), content(workspace.layout.results(SOURCE))
    weights.write_bytes(sound[:-100])
    assert not check(instance, "stage3_checkpoint", "loads_and_is_finite", SOURCE).passed
    refused = run(instance, ["benchmark_results"], SOURCE)
    assert not refused.success and "blocked by stage3_checkpoint/loads_and_is_finite (failed)" in errors(refused)
    weights.write_bytes(sound)
    assert check(instance, "stage3_checkpoint", "loads_and_is_finite", SOURCE).passed
    plant(workspace.layout.tasks(SOURCE), "UPDATE queries SET split = 'dev'")
    assert not check(instance, "benchmark_tasks", "held_out_only", SOURCE).passed
    refused = run(instance, ["benchmark_results"], SOURCE)
    assert not refused.success and "blocked by benchmark_tasks/held_out_only (failed)" in errors(refused)
    assert content(workspace.layout.results(SOURCE)) == results, "the last good results stay"


def test_the_leaderboard_does_not_show_results_that_a_check_refused(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    shown = content(workspace.layout.benchmark / "leaderboard.json")
    plant(workspace.layout.results(SOURCE), f'UPDATE per_query SET "{HEADLINE}" = -0.1')
    assert not check(instance, "benchmark_results", "metrics_in_range", SOURCE).passed
    refused = run(instance, ["leaderboard"], None)
    assert made(refused) == [] and "blocked by benchmark_results/metrics_in_range (failed)" in errors(refused)
    assert content(workspace.layout.benchmark / "leaderboard.json") == shown


def test_the_latest_execution_on_the_partition_counts() -> None:
    passes = {"all": True, SOURCE: True}

    @dg.asset(partitions_def=mixes)
    def thing() -> None: ...

    @dg.asset_check(asset=thing, partitions_def=mixes)
    def sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passes[context.partition_key])

    [key] = keys_of([sound])
    with dg.DagsterInstance.ephemeral() as instance:

        def materialise(partition: str, outcome: bool) -> None:
            passes[partition] = outcome
            dg.materialize([thing, sound], instance=instance, partition_key=partition)

        materialise("all", True)
        assert not_passed(instance, [key], "all") == []
        assert not_passed(instance, [key], SOURCE) == ["thing/sound (has not run)"]
        materialise("all", False)
        materialise(SOURCE, True)
        with pytest.raises(InputError, match=r"partition 'all': blocked by thing/sound \(failed\)"):
            require_passed(instance, [key], "all")
        require_passed(instance, [key], SOURCE)
        materialise("all", True)
        require_passed(instance, [key], "all")
