from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
import torch
from sentence_transformers import SentenceTransformer

from thread_embed_assets.defs.training.process import BUSY, TRAINS_FOR, main
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, latest_checkpoint, verify
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import pick_device
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.resume import only_process
from thread_embed_assets.training.stage import describe, train_stage
from thread_embed_assets.training.trainer import Progress

COMMAND = [sys.executable, "-m", "thread_embed_assets.defs.training.process"]


@pytest.fixture(scope="module")
def long(config: StageConfig) -> StageConfig:
    """About 50 steps: long enough to be killed half way."""
    return config.model_copy(update={"epochs": 6, "save_every": 10, "eval_every": 10})


def _start(job: Job, folder: Path, **variables: str) -> subprocess.Popen[str]:
    job.save(folder / "job.json")
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    command = [*COMMAND, "--job", str(folder / "job.json")]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def _wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.rglob(pattern)):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, f"no {pattern} after five minutes"
        time.sleep(0.002)


def _cosines(left: Checkpoint, right: Checkpoint) -> torch.Tensor:
    """Of the two models' embeddings of a few texts."""
    texts = ["the build is red again", "who took the projector", "restart the router", "lunch at noon?"]
    vectors = [SentenceTransformer(str(c.model), device="cpu").encode(texts, convert_to_tensor=True) for c in (left, right)]
    return torch.nn.functional.cosine_similarity(*vectors)


def test_a_killed_process_goes_on_and_ends_as_if_it_had_never_been_killed(
    long: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "root")
    job = Job.of(long, inputs, layout, "all", "cpu")
    process = _start(job, tmp_path)
    _wait_for("checkpoint-*/whole.json", tmp_path, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert latest_checkpoint(layout, "all", "stage1") is None

    steps: list[Progress] = []
    resumed = job.run(steps.append)
    assert verify(resumed) == []
    start = resumed.manifest["resumed_from_step"]
    assert 0 < start < resumed.manifest["steps"]
    assert [progress.step for progress in steps] == list(range(start + 1, resumed.manifest["steps"] + 1))

    whole = train_stage(long, inputs, Layout(tmp_path / "other"), "all", pick_device("cpu"))
    assert whole.fingerprint == resumed.fingerprint
    assert whole.manifest["steps"] == resumed.manifest["steps"]
    assert [point["step"] for point in whole.dev_history()] == [point["step"] for point in resumed.dev_history()]
    # Another process may add floats in another order; a resumed step that lost its state is off by far more.
    assert [entry["loss"] for entry in resumed.loss_history()] == pytest.approx(
        [entry["loss"] for entry in whole.loss_history()], rel=0.01, abs=1e-3
    )
    assert _cosines(whole, resumed).min() > 0.9999


def test_two_processes_learn_what_one_learns(
    config: StageConfig, inputs: list[PairInput], tiny_model: Path, tmp_path: Path
) -> None:
    still = shutil.copytree(tiny_model, tmp_path / "still")  # without dropout, whose draws differ
    settings = json.loads((still / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(settings))
    short = config.model_copy(update={"base_model": str(still), "max_pairs": 50, "eval_every": 4})
    alone = train_stage(short, inputs, Layout(tmp_path / "alone"), "all", pick_device("cpu"))
    job = Job.of(short, inputs, Layout(tmp_path / "root"), "all", "cpu").model_copy(update={"processes": 2})
    process = _start(job, tmp_path)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    both = latest_checkpoint(Layout(tmp_path / "root"), "all", "stage1")
    assert both is not None and both.fingerprint == alone.fingerprint
    assert both.manifest["processes"] == 2 and log.count("step 1/") == 1
    assert [entry["loss"] for entry in both.loss_history()] == pytest.approx(
        [entry["loss"] for entry in alone.loss_history()], rel=0.01
    )
    assert _cosines(alone, both).min() > 0.9999


def test_signals_end_the_process_after_a_saved_step(long: StageConfig, inputs: list[PairInput], tmp_path: Path) -> None:
    process = _start(Job.of(long, inputs, Layout(tmp_path / "root"), "all", "cpu"), tmp_path)
    _wait_for("checkpoint-*/whole.json", tmp_path, process)
    process.send_signal(signal.SIGINT)  # what Dagster sends for a cancelled run
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 143, log
    assert "training was stopped and saved at step" in log
    assert "Traceback" not in log
    assert list(tmp_path.rglob("checkpoint-*/whole.json"))


def test_it_saves_and_ends_when_the_run_that_it_trains_for_is_killed(
    long: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    worker = subprocess.Popen(["sleep", "600"])
    job = Job.of(long, inputs, Layout(tmp_path / "root"), "all", "cpu")
    process = _start(job, tmp_path, **{TRAINS_FOR: f"{os.getpid()},{worker.pid}"})
    _wait_for("checkpoint-*/whole.json", tmp_path, process)
    worker.kill()
    worker.wait()
    _, log = process.communicate(timeout=300)
    assert process.returncode == 143, log
    assert "training was stopped and saved at step" in log


def test_a_process_sees_that_its_parent_was_killed(tmp_path: Path) -> None:
    """The step's own process, whose end shows at once, though nobody has waited for it yet."""
    watch = (
        "import os, sys, threading; from thread_embed_assets.defs.training import process as p; seen = threading.Event();"
        "p._when_orphaned(seen.set); open(sys.argv[1], 'w').close(); seen.wait(60); os.rename(*sys.argv[1:])"
    )
    begun, seen = tmp_path / "begun", tmp_path / "seen"
    step = (
        "import os, subprocess, sys; os.environ[sys.argv[1]] = str(os.getpid());"
        "subprocess.run([sys.executable, '-c', *sys.argv[2:]])"
    )
    parent = subprocess.Popen([sys.executable, "-c", step, TRAINS_FOR, watch, str(begun), str(seen)])
    deadline = time.monotonic() + 120
    while not begun.exists():
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.01)
    parent.kill()  # and not waited for: a zombie still has its number
    while not seen.exists():
        assert time.monotonic() < deadline, "the child did not see it"
        time.sleep(0.01)
    parent.wait()


def test_a_folder_that_another_process_trains_in_gives_status_75(
    config: StageConfig, inputs: list[PairInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    layout = Layout(tmp_path / "root")
    Job.of(config, inputs, layout, "all", "cpu").save(tmp_path / "job.json")
    ordered = sorted(inputs, key=lambda given: given.name)
    folder = layout.checkpoints("all", config.stage) / of_json(describe(config, ordered, "all"))
    folder.mkdir(parents=True)
    with only_process(folder):
        assert main(["--job", str(tmp_path / "job.json")]) == BUSY == 75


def test_an_error_people_can_mend_is_told_and_gives_status_2(
    config: StageConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    Job.of(config, [], Layout(tmp_path / "root"), "without_irc", "cpu").save(tmp_path / "job.json")
    assert main(["--job", str(tmp_path / "job.json")]) == 2
    assert "mix 'without_irc'" in caplog.text


def test_a_job_survives_its_file(config: StageConfig, inputs: list[PairInput], tmp_path: Path) -> None:
    job = Job.of(config, inputs, Layout(tmp_path), "all", "auto")
    job.save(tmp_path / "job.json")
    assert Job.load(tmp_path / "job.json") == job


def test_a_wrong_job_file_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such job file"):
        Job.load(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"mix": "all", "root": "/x", "inputs": [], "config": {"epochs": 0}}')
    with pytest.raises(InputError, match=r"job.json, field 'config.epochs'"):
        Job.load(tmp_path / "job.json")


def test_dagster_pipes_runs_the_process_and_gets_the_log_and_the_result(
    config: StageConfig, inputs: list[PairInput], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path / "root")
    Job.of(config, inputs, layout, "all", "cpu").save(tmp_path / "job.json")
    received: list[dict[str, object]] = []

    @dg.asset
    def checkpoint(context):  # type: ignore[no-untyped-def]  # dagster refuses a string annotation here
        client = dg.PipesSubprocessClient()
        done = client.run(context=context, command=COMMAND, extras={"job": str(tmp_path / "job.json")})
        received.extend(done.get_custom_messages())
        return done.get_materialize_result()

    assert dg.materialize([checkpoint], instance=dg.DagsterInstance.ephemeral()).success
    latest = latest_checkpoint(layout, "all", "stage1")
    assert latest is not None
    manifest = str(latest.folder / "manifest.json")
    assert received == [{"fingerprint": latest.fingerprint, "manifest": manifest, "reused": False}]
    assert "step 3/" in capfd.readouterr().err
