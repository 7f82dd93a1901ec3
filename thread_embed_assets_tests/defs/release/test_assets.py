from __future__ import annotations

import shutil

import dagster as dg

from thread_embed_assets.training.checkpoint import final_checkpoint
from thread_embed_assets.training.config import STAGE3
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import check, content, errors, materialization, run

WEIGHTS = "model.safetensors"


def _of(mix: str) -> dict[str, object]:
    return {"ops": {"model_package": {"config": {"mix": mix}}}}


def test_the_package_is_the_checkpoints_model(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = final_checkpoint(workspace.layout, SOURCE)
    assert checkpoint is not None
    metadata = {k: v.value for k, v in materialization(instance, "model_package", None).metadata.items()}
    assert metadata["mix"] == SOURCE and metadata["fingerprint"] == checkpoint.fingerprint
    assert content(workspace.layout.promoted_model / WEIGHTS) == content(checkpoint.model / WEIGHTS)


def test_a_checkpoint_that_a_check_refused_is_not_released(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    [weights] = workspace.layout.checkpoints(SOURCE, STAGE3).glob(f"*/model/{WEIGHTS}")
    released = content(workspace.layout.promoted_model)
    weights.write_bytes(weights.read_bytes()[:-100])
    assert not check(instance, "stage3_checkpoint", "loads_and_is_finite", SOURCE).passed
    refused = run(instance, ["model_package"], None)
    assert not refused.success and "blocked by stage3_checkpoint/loads_and_is_finite (failed)" in errors(refused)
    assert content(workspace.layout.promoted_model) == released


def test_a_checkpoint_whose_check_never_ran_is_not_released(workspace: Workspace) -> None:
    with dg.DagsterInstance.ephemeral() as fresh:
        refused = run(fresh, ["model_package"], None)
    assert not refused.success and "loads_and_is_finite (has not run)" in errors(refused)


def test_an_unknown_mix_and_one_without_a_checkpoint_are_named(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    unknown = run(instance, ["model_package"], None, _of("everything"))
    assert "model_package, field 'mix': unknown mix 'everything'. Known mixes: all, " in errors(unknown)
    empty = run(instance, ["model_package"], None, _of("without_irc"))
    assert "model_package: no checkpoint of without_irc. Run the train job first" in errors(empty)
    shutil.rmtree(workspace.layout.models / "checkpoints")
    none = run(instance, ["model_package"], None)
    assert "model_package: no checkpoint of any mix" in errors(none)
    assert (workspace.layout.promoted_model / WEIGHTS).exists()
