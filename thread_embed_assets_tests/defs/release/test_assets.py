from __future__ import annotations

import shutil

import dagster as dg

from thread_embed_assets.release.history import promoted_package
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import Checkpoint, final_checkpoint, identity_of
from thread_embed_assets.training.config import STAGE3
from thread_embed_assets_tests.defs.conftest import PROFILE, SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import check, content, errors, materialization, run

WEIGHTS = "model.safetensors"


def _of(mix: str) -> dict[str, object]:
    return {"ops": {"model_package": {"config": {"mix": mix}}}}


def test_the_package_is_the_checkpoints_model(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = final_checkpoint(workspace.layout, SOURCE)
    assert checkpoint is not None
    metadata = {k: v.value for k, v in materialization(instance, "model_package", None).metadata.items()}
    assert metadata["model"] == f"{SOURCE}/{STAGE3}/{checkpoint.fingerprint}" and metadata["promoted"] is True
    assert "| contamination | **PASSED** |" in metadata["decision"]
    assert "| general floor | **UNKNOWN** | NOT RUN: the general tasks have not been run here" in metadata["decision"]
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


def _trained_otherwise(workspace: Workspace, instance: dg.DagsterInstance) -> Checkpoint:
    """The third stage again, on other settings: a challenger."""
    config = {"profile": PROFILE, "overrides": {"learning_rate": 1e-3, "epochs": 2}}
    trained = run(instance, ["stage3_checkpoint"], SOURCE, {"ops": {"stage3_checkpoint": {"config": config}}})
    assert trained.success, errors(trained)
    checkpoint = final_checkpoint(workspace.layout, SOURCE)
    assert checkpoint is not None
    return checkpoint


def test_a_new_checkpoint_is_scored_beside_the_promoted_model_and_decided_on(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    champion = promoted_package(workspace.layout)
    assert champion is not None
    challenger = _trained_otherwise(workspace, instance)
    unscored = run(instance, ["model_package"], None)
    assert unscored.success, errors(unscored)
    told = materialization(instance, "model_package", None).metadata
    assert told["promoted"].value is False and told["model"].value == champion.identity
    assert f"the results are of {champion.identity}, not of {identity_of(challenger.model)}" in str(told["decision"].value)

    scored = run(instance, ["benchmark_results"], SOURCE)
    assert scored.success, errors(scored)
    models = list(open_table(workspace.layout.results(SOURCE), "models").rows_as_dicts(["contender", "role", "identity"]))
    assert models == [
        {"contender": f"ThreadEmbed-{SOURCE}", "role": "tuned", "identity": identity_of(challenger.model)},
        {"contender": "champion", "role": "champion", "identity": champion.identity},
    ]
    decided = run(instance, ["model_package"], None)
    assert decided.success, errors(decided)
    told = materialization(instance, "model_package", None).metadata
    page = str(told["decision"].value)
    assert "| same dev queries | **PASSED** |" in page and "| contamination | **PASSED** |" in page
    better = "| beats the champion | **PASSED** |" in page and "| no task falls | **PASSED** |" in page
    assert told["promoted"].value is better
    now = promoted_package(workspace.layout)
    assert now is not None and now.identity == (identity_of(challenger.model) if better else champion.identity)
