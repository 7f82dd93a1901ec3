from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.config import Phase, RerankerConfig
from thread_embed_assets.reranker.model import load_reranker
from thread_embed_assets.reranker.onnx_reranker import PairReader
from thread_embed_assets.reranker.scoring import hits, score_rows
from thread_embed_assets.reranker.tokens import TIERS, Rows, prepare_rows
from thread_embed_assets.reranker.train import (
    MANIFEST,
    Epoch,
    RerankerCheckpoint,
    epoch_batches,
    latest_reranker,
    plan,
    rate_factor,
    train_reranker,
)
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config, write_examples
from thread_embed_assets_tests.training.tiny import build_tiny_model

CPU = DeviceChoice("cpu", "fp32", "test")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TableHandle:
    return write_examples(tmp_path_factory.mktemp("examples") / "examples.duckdb")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RerankerConfig:
    return tiny_config(build_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def whole(config: RerankerConfig, table: TableHandle, tmp_path_factory: pytest.TempPathFactory) -> RerankerCheckpoint:
    return train_reranker([table], config, tmp_path_factory.mktemp("whole"), CPU)


def _weights(checkpoint: RerankerCheckpoint) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in load_file(checkpoint.model / "model.safetensors").items()}


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def _learned(checkpoint: RerankerCheckpoint) -> dict[str, Any]:
    """The history without what the clock tells."""
    history = checkpoint.history()
    for point in history["steps"]:
        del point["seconds"]
    return history


def test_it_learns_what_the_features_tell(whole: RerankerCheckpoint) -> None:
    last = [point["loss"] for point in whole.history()["steps"] if point["epoch"] > 1]
    assert np.mean(last[-5:]) < 0.8 * np.mean(last[:5])
    assert whole.manifest["dev"]["hit@1"] > 0.8
    assert set(whole.manifest["dev"]["tiers"]) == {"easy", "hard"}


def test_before_the_first_step_it_knows_what_the_features_tell(
    config: RerankerConfig, table: TableHandle, tmp_path: Path
) -> None:
    still = config.model_copy(update={"learning_rate": 1e-12, "curriculum": (Phase(),)})
    assert train_reranker([table], still, tmp_path, CPU).manifest["dev"]["hit@1"] > 0.8


def test_the_manifest_tells_what_was_done(whole: RerankerCheckpoint, table: TableHandle) -> None:
    manifest = whole.manifest
    assert whole.folder.name == manifest["fingerprint"] and manifest["data"] == [table.fingerprint]
    assert manifest["train"]["messages"] == 60 and manifest["train"]["pairs"] == 240
    assert manifest["steps"] == 8 + 15 + 15  # of 120 easy pairs, then of all 240, twice
    assert not (whole.folder / "work").exists()
    assert {path.name for path in whole.folder.iterdir()} == {".lock", "manifest.json", "model", "training_history.json"}


def test_the_curriculum_starts_with_its_tiers(whole: RerankerCheckpoint) -> None:
    assert [(e["tiers"], e["step"]) for e in whole.history()["epochs"]] == [(["easy"], 8), ([], 23), ([], 38)]


def test_the_saved_model_is_that_of_the_best_epoch(whole: RerankerCheckpoint, table: TableHandle, tmp_path: Path) -> None:
    model = load_reranker(whole.model)
    reader = PairReader(whole.model / "tokenizer.json", **model.reading)
    rows = prepare_rows([table], "dev", reader, tmp_path / "dev", None, 0)
    best = max(whole.history()["epochs"], key=lambda e: (e["dev"]["hit@1"], e["dev"]["mrr"]))
    assert best["epoch"] == whole.manifest["best_epoch"]
    assert hits(score_rows(model, rows), rows) == best["dev"] == whole.manifest["dev"]


def test_features_are_normalised_by_those_of_train(whole: RerankerCheckpoint, table: TableHandle) -> None:
    model = load_reranker(whole.model)
    values = [row["flow_continuity"] for row in table.rows_as_dicts(["flow_continuity"], "split = 'train'")]
    assert model.feature_mean[2].item() == pytest.approx(np.mean(values), abs=1e-5)
    assert model.feature_std[2].item() == pytest.approx(np.std(values), abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_others(
    whole: RerankerCheckpoint, config: RerankerConfig, table: TableHandle, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    assert _same(_weights(train_reranker([table], config, tmp_path, CPU)), _weights(whole))
    other = train_reranker([table], config.model_copy(update={"seed": 1}), tmp_path, CPU)
    assert other.folder.name != whole.folder.name and not _same(_weights(other), _weights(whole))


@pytest.mark.parametrize(("adapter", "step"), [("lora", 7), ("none", 8), ("lora", 38)])
def test_a_run_that_is_cut_off_goes_on_and_ends_as_the_whole_one(
    config: RerankerConfig, table: TableHandle, whole: RerankerCheckpoint, tmp_path: Path, adapter: str, step: int
) -> None:
    wanted = whole
    if adapter != config.adapter:
        config = config.model_copy(update={"adapter": adapter})
        wanted = train_reranker([table], config, tmp_path / "whole", CPU)
    with pytest.raises(KeyboardInterrupt):
        train_reranker([table], config, tmp_path / "cut", CPU, _interrupt(step))
    resumed = train_reranker([table], config, tmp_path / "cut", CPU)
    assert resumed.manifest["resumed_from_step"] == max(s for s in (5, 8, 10, 35) if s < step)
    assert _same(_weights(resumed), _weights(wanted))
    assert _learned(resumed) == _learned(wanted)


def _interrupt(step: int) -> Callable[[dict[str, Any]], None]:
    def report(point: dict[str, Any]) -> None:
        if point["step"] == step:
            raise KeyboardInterrupt

    return report


_KILLED = """
import json, os, signal, sys
from pathlib import Path
from thread_embed_assets.reranker.config import validate_config
from thread_embed_assets.reranker.train import train_reranker
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.devices import DeviceChoice

def report(point):
    if point["step"] == 12:
        os.kill(os.getpid(), signal.SIGKILL)

config, table, folder = sys.argv[1:]
given = validate_config(json.loads(config))
train_reranker([open_table(Path(table), "examples")], given, Path(folder), DeviceChoice("cpu", "fp32", "test"), report)
"""


def test_a_killed_process_goes_on_and_ends_as_if_it_had_never_been_killed(
    whole: RerankerCheckpoint, config: RerankerConfig, table: TableHandle, tmp_path: Path
) -> None:
    arguments = [config.model_dump_json(), str(table.path), str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / whole.folder.name / "model").exists()
    resumed = train_reranker([table], config, tmp_path, CPU)
    assert resumed.manifest["resumed_from_step"] == 10
    assert _same(_weights(resumed), _weights(whole))
    assert _learned(resumed) == _learned(whole)


def test_what_is_trained_already_is_not_trained_again(
    config: RerankerConfig, table: TableHandle, whole: RerankerCheckpoint
) -> None:
    again = train_reranker([table], config, whole.folder.parent, CPU, _interrupt(1))
    assert again.reused and again.manifest == json.loads(json.dumps(whole.manifest))


def test_one_found_again_is_the_latest_even_if_the_clock_has_gone_back(
    whole: RerankerCheckpoint, config: RerankerConfig, table: TableHandle, tmp_path: Path
) -> None:
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    other = shutil.copytree(whole.folder, tmp_path / "other") / MANIFEST
    ahead = time.time() + 1e8
    os.utime(other, (ahead, ahead))
    assert latest_reranker(tmp_path).folder.name == "other"
    assert train_reranker([table], config, tmp_path, CPU).reused
    assert latest_reranker(tmp_path).folder.name == whole.folder.name


def test_a_damaged_checkpoint_is_trained_again(config: RerankerConfig, table: TableHandle, tmp_path: Path) -> None:
    config = config.model_copy(update={"curriculum": (Phase(),)})
    first = train_reranker([table], config, tmp_path, CPU)
    wanted, file = _weights(first), first.model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    again = train_reranker([table], config, tmp_path, CPU)
    assert not again.reused and _same(_weights(again), wanted)


def test_a_loss_that_is_not_finite_ends_the_run(config: RerankerConfig, table: TableHandle, tmp_path: Path) -> None:
    wild = config.model_copy(update={"learning_rate": 1e30, "clip": 1e30, "warmup": 0.0})
    with pytest.raises(InputError, match="the loss is"):
        train_reranker([table], wild, tmp_path, CPU)


def test_a_phase_without_examples_is_left_out(config: RerankerConfig) -> None:
    tiers = np.array([TIERS.index("hard")] * 20 + [TIERS.index("mined")] * 20, dtype=np.int8)
    nothing = np.zeros(40, dtype=np.int32)
    rows = Rows(nothing, nothing, np.zeros((40, 5), dtype=np.float32), nothing.astype(np.int8), tiers, nothing)
    phases = (Phase(tiers=("easy",), epochs=2), Phase(tiers=("mined",)), Phase())
    epochs = list(plan(rows, config.model_copy(update={"curriculum": phases})))
    assert [(e.number, e.tiers, e.first_step, e.steps) for e in epochs] == [(1, ("mined",), 0, 2), (2, (), 2, 3)]
    assert epochs[0].rows.tolist() == list(range(20, 40))


def test_batches_hold_every_row_once_and_are_alike_in_length(config: RerankerConfig) -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 1_000).astype(np.int32)
    rows = np.arange(0, 1_000, 2)
    first, second = (epoch_batches(lengths, Epoch(number, (), rows, 0, 1), config) for number in (1, 2))
    assert sorted(np.concatenate(first).tolist()) == rows.tolist()
    spread = [int(np.ptp(lengths[batch])) for batch in first]
    assert np.mean(spread) < 20
    assert [lengths[b].max() for b in first] != sorted(lengths[b].max() for b in first), "not from short to long"
    assert [b.tolist() for b in first] != [b.tolist() for b in second]


def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert factors[55] == pytest.approx(0.5) and factors[10] == 1.0 and factors[-1] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)
