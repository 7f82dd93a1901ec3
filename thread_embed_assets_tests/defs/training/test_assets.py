"""The stage 1 asset over its real training process, killed, resumed, reused and refused."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.training.checkpoint import final_checkpoint, latest_checkpoint, open_checkpoint, verify
from thread_embed_assets.training.config import STAGE1, STAGES
from thread_embed_assets_tests.defs.conftest import PROFILE, SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import TRAIN, check, content, errors, log, materialization, run
from thread_embed_assets_tests.defs.training.fake_pipes import FakePipes

ALONE = dg.AssetSelection.assets("stage1_checkpoint").without_checks()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda *_: 0.1)


def _retries(result: dg.ExecuteInProcessResult) -> int:
    return len(result.filter_events(lambda event: event.is_step_up_for_retry))


def test_the_page_shows_manifest_and_loss_curve(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None
    metadata = {k: v.value for k, v in materialization(instance, "stage1_checkpoint", SOURCE).metadata.items()}
    assert str(metadata["loss_curve"]).startswith("![loss over steps](data:image/png;base64,iVBOR")
    assert metadata["manifest"] == dict(checkpoint.manifest)
    assert metadata["fingerprint"] == checkpoint.fingerprint and metadata["reused"] is False
    rows = str(metadata["rows_used"])
    for used in checkpoint.manifest["inputs"]:
        assert used["rows_used"] > 0 and f"| {used['strategy']} {SOURCE} | {used['rows_used']} |" in rows
    assert {i["strategy"] for i in checkpoint.manifest["inputs"]} == {"thread", "temporal"}
    assert {d["strategy"] for d in checkpoint.manifest["dev_data"]} == set(Strategy)


def test_each_stage_starts_from_the_one_before(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    stages = [latest_checkpoint(workspace.layout, SOURCE, stage) for stage in STAGES]
    manifests = [stage.manifest for stage in stages if stage]
    assert [m["parent"] for m in manifests] == [None, *(m["fingerprint"] for m in manifests[:2])]
    assert len({m["original_base"] for m in manifests}) == 1
    assert {i["strategy"] for i in manifests[1]["inputs"]} == {"response", "summary"}
    mined = {given["hard_negatives"] for given in manifests[2]["data"]}
    assert mined == {STORED["mined_negatives"].open(workspace.layout, SOURCE).fingerprint}
    assert final_checkpoint(workspace.layout, SOURCE) == stages[2]


def test_a_stage_does_not_go_on_from_one_that_a_check_refused(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    [weights] = workspace.layout.checkpoints(SOURCE, STAGE1).glob("*/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    assert not check(instance, "stage1_checkpoint", "loads_and_is_finite", SOURCE).passed
    pipes = FakePipes([])
    second = dg.AssetSelection.assets("stage2_checkpoint").without_checks()
    config = {"ops": {"stage2_checkpoint": {"config": {"profile": PROFILE}}}}
    refused = run(instance, second, SOURCE, config, pipes=pipes)
    assert not refused.success and pipes.commands == []
    assert "blocked by stage1_checkpoint/loads_and_is_finite (failed)" in errors(refused)


class _KillOnce(threading.Thread):
    """Kills the training process, which has written its id into the run folder's lock, once it has saved a checkpoint."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self.runs = runs
        self.killed = 0

    def run(self) -> None:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            for mark in self.runs.glob("*/trainer/checkpoint-*/whole.json"):
                self.killed = int((mark.parents[2] / ".lock").read_text(encoding="ascii"))
                os.kill(self.killed, signal.SIGKILL)
                return
            time.sleep(0.005)


def test_a_killed_training_process_goes_on_from_its_last_checkpoint_in_the_same_run(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    earlier = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert earlier is not None
    overrides = {"epochs": 5, "save_every": 10, "dev_pairs": 0}
    config = {"ops": {"stage1_checkpoint": {"config": {"profile": PROFILE, "overrides": overrides}}}}
    killer = _KillOnce(workspace.layout.checkpoints(SOURCE, STAGE1))
    killer.start()
    result = run(instance, ALONE, SOURCE, config)
    killer.join(1)
    assert killer.killed, "the process had ended before it could be killed"
    assert result.success, errors(result)
    assert _retries(result) == 1
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None and checkpoint.fingerprint != earlier.fingerprint and verify(checkpoint) == []
    start, steps = checkpoint.manifest["resumed_from_step"], checkpoint.manifest["steps"]
    assert 0 < start < steps and start % 10 == 0
    lines = log(instance, result.run_id)
    assert sum(line.startswith(f"step 1/{steps} ") for line in lines) == 1, "it began only once"
    assert any(line.startswith(f"going on from {checkpoint.folder}/trainer/checkpoint-{start}") for line in lines)
    assert any(line.startswith(f"step {start + 1}/{steps} ") for line in lines)
    assert [point["step"] for point in checkpoint.loss_history()] == list(range(1, steps + 1))
    assert not list(workspace.layout.checkpoints(SOURCE, STAGE1).glob("job-*.json"))


def test_an_error_that_people_must_mend_ends_the_run_at_once(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None
    manifest = checkpoint.folder / "manifest.json"
    foreign = dict(checkpoint.manifest) | {"fingerprint": "0123456789abcdef"}
    manifest.write_text(json.dumps(foreign), encoding="utf-8")
    package = content(workspace.layout.promoted_model)
    result = run(instance, ALONE, SOURCE, TRAIN)
    assert not result.success and _retries(result) == 0
    assert "the training process gave up, and says why above" in errors(result)
    [line] = [line for line in log(instance, result.run_id) if "another configuration" in line]
    assert line.startswith(f"{manifest}: the manifest belongs to") and f"Delete the folder {checkpoint.folder}" in line
    assert content(workspace.layout.promoted_model) == package


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"profile": "enormous"}, "training profile 'enormous': there is no such profile. Use one of quick"),
        ({"profile": PROFILE, "overrides": {"epoch": 2}}, "training configuration, field 'epoch'"),
    ],
)
def test_a_wrong_configuration_is_named_and_not_tried_again(
    config: dict[str, object], message: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    pipes = FakePipes([])
    result = run(instance, ALONE, SOURCE, {"ops": {"stage1_checkpoint": {"config": config}}}, pipes=pipes)
    assert not result.success and message in errors(result)
    assert _retries(result) == 0 and pipes.commands == []


def test_a_process_that_leaves_no_checkpoint_is_a_failure(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    result = run(instance, ALONE, SOURCE, TRAIN, pipes=FakePipes([]))
    assert not result.success
    assert "ended without leaving a checkpoint in" in errors(result)
    half = FakePipes([{"fingerprint": "0123456789abcdef", "reused": False}])
    assert not run(instance, ALONE, SOURCE, TRAIN, pipes=half).success


def test_the_process_gets_a_job_file_that_is_gone_afterwards(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    checkpoint = latest_checkpoint(workspace.layout, SOURCE, STAGE1)
    assert checkpoint is not None
    pipes = FakePipes([{"fingerprint": checkpoint.fingerprint, "reused": True}])
    assert run(instance, ALONE, SOURCE, TRAIN, pipes=pipes).success
    [command] = pipes.commands
    assert command[1:] == ["-m", "thread_embed_assets.defs.training.process"]
    [job] = pipes.jobs
    assert job.mix == SOURCE and job.root == workspace.layout.root and job.device == "auto"
    assert sorted((i.strategy, i.source) for i in job.inputs) == sorted((strategy, SOURCE) for strategy in Strategy)
    assert set(job.config.strategies) == {Strategy.THREAD, Strategy.TEMPORAL}
    assert all(i.hard_negatives is not None for i in job.inputs)
    assert not list(workspace.layout.checkpoints(SOURCE, STAGE1).glob("job-*"))
    assert open_checkpoint(checkpoint.folder) is not None
