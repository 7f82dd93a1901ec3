from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import (
    Checkpoint,
    final_checkpoint,
    latest_checkpoint,
    open_checkpoint,
    origin_of,
    verify,
)
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets.training.resume import only_process
from thread_embed_assets.training.stage import TrainingStopped, describe, train_stage
from thread_embed_assets.training.trainer import Progress, StageTrainer, average
from thread_embed_assets_tests.training.tiny import write_hard_negatives, write_pairs

CPU = DeviceChoice("cpu", "fp32", "test")


def _weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    # Loaded weights are a map of the file: copies do not change with it.
    state = SentenceTransformer(str(checkpoint.model), device="cpu").state_dict()
    return {name: value.clone() for name, value in state.items()}


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def two_epochs(config: StageConfig) -> StageConfig:
    return config.model_copy(update={"epochs": 2, "hard_negatives": "strategy"})


@pytest.fixture(scope="module")
def whole(two_epochs: StageConfig, inputs: list[PairInput], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train_stage(two_epochs, inputs, Layout(tmp_path_factory.mktemp("whole")), "all", CPU)


@pytest.fixture(scope="module")
def one_epoch(config: StageConfig, inputs: list[PairInput], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train_stage(config, inputs, Layout(tmp_path_factory.mktemp("one_epoch")), "all", CPU)


def _layout(checkpoint: Checkpoint) -> Layout:
    return Layout(checkpoint.folder.parents[4])


def test_a_checkpoint_tells_what_it_is(whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput]) -> None:
    manifest = whole.manifest
    assert whole.folder == _layout(whole).checkpoints("all", "stage1") / whole.fingerprint
    assert [(i["strategy"], i["rows"], i["rows_used"]) for i in manifest["inputs"]] == [
        ("temporal", 40, 40),
        ("thread", 60, 60),
    ]
    assert {i["fingerprint"] for i in manifest["inputs"]} == {i.pairs.fingerprint for i in inputs}
    assert manifest["config"] == two_epochs.model_dump(mode="json")
    assert set(manifest["versions"]) == {"torch", "sentence-transformers", "transformers"}
    assert manifest["dev"]["model"]["pairs"] == 16
    assert manifest["tokens"] > 0 and manifest["resumed_from_step"] is None
    assert json.loads((whole.folder / "manifest.json").read_text()) == json.loads(json.dumps(dict(manifest)))
    details = json.loads((whole.model / "thread_embed.json").read_text())
    assert details["text_format"] == "plain" and details["sources"] == ["alpha"]
    assert verify(whole) == []


def test_training_learns_and_leaves_only_the_finished_things(whole: Checkpoint) -> None:
    history = whole.loss_history()
    assert [point["step"] for point in history] == list(range(1, whole.manifest["steps"] + 1))
    losses = [point["loss"] for point in history]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3
    left = {path.name for path in whole.folder.iterdir()} - {".lock"}
    assert left == {"model", "manifest.json", "loss_history.json", "dev_history.json", "run.json", "dev_before.json"}
    assert not (whole.model / "README.md").exists(), "a model card by the library quotes training texts"


def test_the_finished_model_keeps_the_length_of_its_base(whole: Checkpoint, tiny_model: Path) -> None:
    base = SentenceTransformer(str(tiny_model), device="cpu")
    assert SentenceTransformer(str(whole.model), device="cpu").max_seq_length == base.max_seq_length == 64


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    again = train_stage(two_epochs, list(reversed(inputs)), Layout(tmp_path), "all", CPU)
    assert again.fingerprint == whole.fingerprint
    assert _same(_weights(again), _weights(whole))
    other = train_stage(two_epochs.model_copy(update={"seed": 1}), inputs, Layout(tmp_path), "all", CPU)
    assert other.fingerprint != whole.fingerprint
    assert not _same(_weights(other), _weights(whole))


def test_a_finished_checkpoint_is_returned_and_not_trained_again(
    whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thread_embed_assets.training.stage._train", lambda *_: pytest.fail("it trained"))
    again = train_stage(two_epochs, inputs, _layout(whole), "all", CPU)
    assert again.reused and again.fingerprint == whole.fingerprint
    assert again.manifest["created_at"] == whole.manifest["created_at"]


def _stopped_after(step: int) -> tuple[Callable[[Progress], None], Event]:
    stop = Event()
    return lambda progress: stop.set() if progress.step == step else None, stop


@pytest.mark.parametrize("step", [4, 11])
def test_a_stopped_run_goes_on_to_the_same_weights(
    step: int, whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    report, stop = _stopped_after(step)
    layout = Layout(tmp_path)
    with pytest.raises(TrainingStopped, match=f"saved at step {step + 1}"):
        train_stage(two_epochs, inputs, layout, "all", CPU, report, stop)
    assert latest_checkpoint(layout, "all", "stage1") is None
    steps: list[Progress] = []
    resumed = train_stage(two_epochs, inputs, layout, "all", CPU, steps.append)
    assert steps[0].step == step + 2
    assert resumed.manifest["resumed_from_step"] == step + 1
    assert resumed.manifest["steps"] == whole.manifest["steps"]
    assert resumed.manifest["tokens"] == whole.manifest["tokens"]
    assert resumed.manifest["dev"] == whole.manifest["dev"]
    assert resumed.loss_history() == whole.loss_history()
    assert _same(_weights(resumed), _weights(whole))


def test_a_half_written_trainer_checkpoint_is_ignored(
    whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    report, stop = _stopped_after(7)
    layout = Layout(tmp_path)
    with pytest.raises(TrainingStopped):
        train_stage(two_epochs, inputs, layout, "all", CPU, report, stop)
    trainer = layout.checkpoints("all", "stage1") / whole.fingerprint / "trainer"
    assert sorted(path.name for path in trainer.iterdir()) == ["checkpoint-6", "checkpoint-8"]
    cut = trainer / "checkpoint-8" / "optimizer.pt"
    cut.write_bytes(cut.read_bytes()[:-10])
    shutil.copytree(trainer / "checkpoint-6", trainer / "checkpoint-9", ignore=shutil.ignore_patterns("whole.json"))
    resumed = train_stage(two_epochs, inputs, layout, "all", CPU)
    assert resumed.manifest["resumed_from_step"] == 6
    assert _same(_weights(resumed), _weights(whole))


def test_a_trainer_state_of_another_configuration_is_an_error(
    two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    report, stop = _stopped_after(2)
    layout = Layout(tmp_path)
    with pytest.raises(TrainingStopped):
        train_stage(two_epochs, inputs, layout, "all", CPU, report, stop)
    runs = layout.checkpoints("all", "stage1")
    (run,) = runs.iterdir()
    other = two_epochs.model_copy(update={"seed": 9})
    foreign = runs / of_json(describe(other, sorted(inputs, key=lambda i: i.name), "all"))
    shutil.copytree(run, foreign)
    with pytest.raises(InputError, match=r"run.json.*another configuration.*Delete"):
        train_stage(other, inputs, layout, "all", CPU)
    (foreign / "run.json").unlink()
    with pytest.raises(InputError, match=rf"trainer state belongs to the configuration {run.name}"):
        train_stage(other, inputs, layout, "all", CPU)


def test_a_manifest_of_another_configuration_is_an_error(
    whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    other = two_epochs.model_copy(update={"seed": 9})
    name = of_json(describe(other, sorted(inputs, key=lambda i: i.name), "all"))
    shutil.copytree(whole.folder, Layout(tmp_path).checkpoints("all", "stage1") / name)
    with pytest.raises(InputError, match=r"manifest.json.*another configuration"):
        train_stage(other, inputs, Layout(tmp_path), "all", CPU)


def test_a_damaged_model_is_trained_again(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    expected = _weights(one_epoch)
    copy = shutil.copytree(one_epoch.folder, Layout(tmp_path).checkpoints("all", "stage1") / one_epoch.fingerprint)
    first = replace(one_epoch, folder=copy)
    (first.model / "model.safetensors").write_bytes(b"damaged")
    assert "does not load" in verify(first)[0]
    again = train_stage(config, inputs, Layout(tmp_path), "all", CPU)
    assert not again.reused
    assert _same(_weights(again), expected)


def test_the_fingerprint_follows_configuration_and_data_and_not_time(
    config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    def fingerprint(chosen: StageConfig, data: list[PairInput], mix: str = "all") -> str:
        return of_json(describe(chosen, data, mix))

    first = fingerprint(config, inputs)
    copies = []
    for given in inputs:
        path = shutil.copy(given.pairs.path, tmp_path / given.pairs.path.name)
        copies.append(PairInput(given.strategy, given.source, open_table(path, "pairs")))
    assert fingerprint(config, copies) == first
    assert fingerprint(config.model_copy(update={"learning_rate": 1e-3}), inputs) != first
    assert fingerprint(config, inputs, "without_irc") != first
    longer = write_pairs(tmp_path, "thread", "alpha", 61, random.Random(5))
    assert fingerprint(config, [longer, inputs[1]]) != first


def test_hard_negatives_count_only_where_they_are_read(config: StageConfig, inputs: list[PairInput], tmp_path: Path) -> None:
    def fingerprint(chosen: StageConfig, ids: list[str]) -> str:
        folder = tmp_path / str(len(ids))
        folder.mkdir(exist_ok=True)
        thread = PairInput("thread", "alpha", inputs[0].pairs, write_hard_negatives(folder, inputs[0].pairs, ids))
        return of_json(describe(chosen, [thread], "all"))

    bm25 = config.model_copy(update={"hard_negatives": "bm25"})
    assert fingerprint(config, ["thread-00001"]) == fingerprint(config, [])
    assert fingerprint(bm25, ["thread-00001"]) != fingerprint(bm25, [])


def test_of_a_strategy_the_stage_does_not_name_only_the_dev_pairs_are_read(
    config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    only = config.model_copy(update={"strategies": {Strategy.THREAD: 1.0}})
    checkpoint = train_stage(only, inputs, Layout(tmp_path), "all", CPU)
    assert [i["strategy"] for i in checkpoint.manifest["inputs"]] == ["thread"]
    assert set(checkpoint.manifest["dev"]["model"]["sets"]) == {"thread-alpha", "temporal-alpha"}
    alone = train_stage(only, inputs[:1], Layout(tmp_path), "all", CPU)
    assert alone.fingerprint != checkpoint.fingerprint, "what dev says decides, so its pairs are part of the run"
    assert _same(_weights(alone), _weights(checkpoint))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_nothing_is_kept(
    value: float, config: StageConfig, inputs: list[PairInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StageTrainer.compute_loss

    def compute_loss(trainer: StageTrainer, *arguments: Any, **named: Any) -> Any:
        loss = original(trainer, *arguments, **named)
        return loss * value if trainer.state.global_step == 4 else loss

    monkeypatch.setattr(StageTrainer, "compute_loss", compute_loss)
    with pytest.raises(InputError, match=rf"diverged: the loss is {value} at step 5.*learning_rate"):
        train_stage(config, inputs, Layout(tmp_path), "all", CPU)
    assert latest_checkpoint(Layout(tmp_path), "all", "stage1") is None
    assert not list(tmp_path.rglob("model"))


def test_weights_that_are_not_finite_are_never_saved(
    config: StageConfig, inputs: list[PairInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StageTrainer.training_step

    def training_step(trainer: StageTrainer, model: torch.nn.Module, *arguments: Any) -> torch.Tensor:
        loss = original(trainer, model, *arguments)
        if trainer.state.global_step == 2:
            next(iter(model.parameters())).data[0, 0] = torch.nan
        return loss

    monkeypatch.setattr(StageTrainer, "training_step", training_step)
    with pytest.raises(InputError, match="not finite after step 3"):
        train_stage(config, inputs, Layout(tmp_path), "all", CPU)
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_full_disk_names_the_place_and_the_last_good_checkpoint_stays(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = _layout(one_epoch)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SentenceTransformer, "save_pretrained", full)
    with pytest.raises(InputError, match=r"models/checkpoints.*disk is full.*Free space"):
        train_stage(config.model_copy(update={"seed": 2}), inputs, layout, "all", CPU)
    latest = latest_checkpoint(layout, "all", "stage1")
    assert latest is not None and latest.fingerprint == one_epoch.fingerprint
    assert verify(latest) == []


def test_two_processes_do_not_share_a_run_folder(config: StageConfig, inputs: list[PairInput], tmp_path: Path) -> None:
    folder = Layout(tmp_path).checkpoints("all", "stage1") / of_json(describe(config, inputs[::-1], "all"))
    folder.mkdir(parents=True)
    with only_process(folder), pytest.raises(InputError, match=r"process \d+ is training this very configuration"):
        train_stage(config, inputs, Layout(tmp_path), "all", CPU)


def test_what_a_process_killed_after_its_manifest_left_goes_with_the_next_call(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput]
) -> None:
    for name in ("trainer", "data"):
        (one_epoch.folder / name).mkdir()
    again = train_stage(config, inputs, _layout(one_epoch), "all", CPU)
    assert again.folder == one_epoch.folder and again.reused
    assert not [name for name in ("trainer", "data") if (again.folder / name).exists()]


def test_averaging_lies_between_the_two_models() -> None:
    tuned, base = (
        {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(7)},
        {"w": torch.tensor([0.0, 1.0]), "n": torch.tensor(5)},
    )
    averaged = average(tuned, base, 0.25)
    torch.testing.assert_close(averaged["w"], torch.tensor([0.75, 2.5]))
    assert averaged["n"] == 7, "counters are no weights"


def test_the_share_of_the_base_is_the_best_on_dev(
    one_epoch: Checkpoint,
    config: StageConfig,
    inputs: list[PairInput],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dev is made to like the model whose weights are half way to the base."""
    base = SentenceTransformer(str(tiny_model), device="cpu").state_dict()
    tuned = _weights(one_epoch)
    name = next(name for name in tuned if name.endswith("word_embeddings.weight"))
    half = (base[name] + tuned[name]) / 2

    def likes_half(model: SentenceTransformer, *_: Any) -> dict[str, Any]:
        return {"mrr@10": 1 - float((model.state_dict()[name] - half).abs().max()), "pairs": 1, "sets": {}}

    monkeypatch.setattr("thread_embed_assets.training.stage.dev_mrr", likes_half)
    chosen = train_stage(config.model_copy(update={"base_weights": (0.0, 0.5, 0.75)}), inputs, Layout(tmp_path), "all", CPU)
    assert chosen.manifest["base_weight"] == 0.5
    assert set(chosen.manifest["base_weights_on_dev"]) == {"0.0", "0.5", "0.75"}
    assert json.loads((chosen.model / "thread_embed.json").read_text())["base_weight"] == 0.5
    for weight, value in _weights(chosen).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (base[weight] + tuned[weight]) / 2)
    alone = train_stage(config.model_copy(update={"base_weights": (0.75,)}), inputs, Layout(tmp_path), "all", CPU)
    assert alone.manifest["base_weight"] == 0.75, "nobody asks dev"
    torch.testing.assert_close(_weights(alone)[name], 0.75 * base[name] + 0.25 * tuned[name])


def test_without_dev_pairs_the_trained_weights_are_kept(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    update = {"base_weights": (0.0, 0.5), "dev_pairs": 0, "eval_every": 2, "patience": 1}
    blind = train_stage(config.model_copy(update=update), inputs, Layout(tmp_path), "all", CPU)
    assert blind.manifest["base_weight"] == 0 and blind.dev_history() == []
    assert _same(_weights(blind), _weights(one_epoch))


@pytest.fixture(scope="module")
def early(two_epochs: StageConfig) -> StageConfig:
    """Measures every second step and ends after three without gain; so high a rate soon brings none."""
    return two_epochs.model_copy(update={"learning_rate": 0.1, "eval_every": 2, "patience": 3})


def test_a_stage_ends_early_and_keeps_its_best_weights_however_often_it_is_stopped(
    early: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    whole = train_stage(early, inputs, Layout(tmp_path / "whole"), "all", CPU)
    best, points = whole.manifest["dev"]["best_step"], whole.dev_history()
    assert whole.manifest["steps"] == best + 6 < whole.manifest["planned_steps"]
    assert [point["step"] for point in points] == list(range(0, best + 7, 2))
    assert max(point["mrr"] for point in points) == points[best // 2]["mrr"] == whole.manifest["dev"]["model"]["mrr@10"]
    layout = Layout(tmp_path / "stopped")
    for step in (1, best + 3):
        report, stop = _stopped_after(step)
        with pytest.raises(TrainingStopped):
            train_stage(early, inputs, layout, "all", CPU, report, stop)
    resumed = train_stage(early, inputs, layout, "all", CPU)
    assert resumed.dev_history() == points and resumed.loss_history() == whole.loss_history()
    assert resumed.manifest["steps"] == whole.manifest["steps"]
    assert _same(_weights(resumed), _weights(whole))


def test_a_run_that_ended_early_and_was_killed_before_its_model_was_saved_does_not_train_on(
    early: StageConfig, inputs: list[PairInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_stage(early, inputs, Layout(tmp_path / "whole"), "all", CPU)
    layout = Layout(tmp_path / "killed")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("thread_embed_assets.training.stage._save_model", _interrupt)
        train_stage(early, inputs, layout, "all", CPU)
    monkeypatch.setattr(StageTrainer, "train", lambda *_, **__: pytest.fail("it trained on"))
    again = train_stage(early, inputs, layout, "all", CPU)
    assert again.loss_history() == whole.loss_history() and again.manifest["tokens"] == whole.manifest["tokens"]
    assert _same(_weights(again), _weights(whole))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_measures_on_dev_change_no_step(
    whole: Checkpoint, two_epochs: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    measured = train_stage(two_epochs.model_copy(update={"eval_every": 3}), inputs, Layout(tmp_path), "all", CPU)
    assert len(measured.dev_history()) > 4
    assert measured.loss_history() == whole.loss_history()


def test_a_stage_starts_from_the_one_before_and_remembers_the_first(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput], tiny_model: Path, tmp_path: Path
) -> None:
    second = config.model_copy(
        update={"stage": "stage2", "base_model": str(one_epoch.model), "loss": "gist", "base_weights": (0.0, 0.5)}
    )
    layout = _layout(one_epoch)
    trained = train_stage(second, inputs, layout, "all", CPU)
    assert trained.manifest["parent"] == one_epoch.fingerprint
    assert trained.manifest["original_base"] == str(tiny_model)
    assert trained.manifest["base_model"]["id"] == f"all/stage1/{one_epoch.fingerprint}"
    assert origin_of(str(trained.model)).original_base == str(tiny_model)
    assert trained.manifest["dev"]["base"] == one_epoch.manifest["dev"]["model"], "it starts where the first ended"
    assert final_checkpoint(layout, "all") == open_checkpoint(trained.folder)
    moved = shutil.copytree(layout.root, tmp_path / "moved")
    elsewhere = second.model_copy(update={"base_model": str(moved / one_epoch.model.relative_to(layout.root))})
    assert train_stage(elsewhere, inputs, Layout(moved), "all", CPU).reused, "another root is no other run"


def test_low_rank_matrices_are_trained_resumed_and_merged(
    config: StageConfig, inputs: list[PairInput], tiny_model: Path, tmp_path: Path
) -> None:
    lora = config.model_copy(update={"adapter": "lora", "lora_rank": 2, "learning_rate": 2e-2})
    whole = train_stage(lora, inputs, Layout(tmp_path / "whole"), "all", CPU)
    base = SentenceTransformer(str(tiny_model), device="cpu").state_dict()
    weights = _weights(whole)
    assert weights.keys() == base.keys()
    changed = {name for name, value in weights.items() if not torch.equal(value, base[name])}
    assert changed and all("dense" in name or "query" in name or "key" in name or "value" in name for name in changed)
    report, stop = _stopped_after(4)
    layout = Layout(tmp_path / "stopped")
    with pytest.raises(TrainingStopped):
        train_stage(lora, inputs, layout, "all", CPU, report, stop)
    assert _same(_weights(train_stage(lora, inputs, layout, "all", CPU)), weights)


def test_frozen_word_embeddings_stay_as_they_are(
    config: StageConfig, inputs: list[PairInput], tiny_model: Path, tmp_path: Path
) -> None:
    frozen = train_stage(config.model_copy(update={"freeze_word_embeddings": True}), inputs, Layout(tmp_path), "all", CPU)
    base = SentenceTransformer(str(tiny_model), device="cpu").state_dict()
    same = {name for name, value in _weights(frozen).items() if torch.equal(value, base[name])}
    assert any(name.endswith("word_embeddings.weight") for name in same)
    assert not any(name.endswith("query.weight") for name in same)


def test_token_weights_are_kept_by_resuming_by_the_average_and_by_the_next_stage(
    config: StageConfig, inputs: list[PairInput], tiny_model: Path, tmp_path: Path
) -> None:
    weighing = config.model_copy(update={"token_weight_power": 1.0, "base_weights": (0.0, 0.5)})
    first = train_stage(weighing, inputs, Layout(tmp_path / "whole"), "all", CPU)
    weights = _weights(first)
    [name] = weights.keys() - SentenceTransformer(str(tiny_model), device="cpu").state_dict().keys()
    texts = [row["positive"] for given in inputs for row in given.pairs.rows_as_dicts(["positive"], "split = 'train'")]
    tokenizer = SentenceTransformer(str(tiny_model), device="cpu").tokenizer
    held = [set(tokenizer(text, truncation=True, max_length=config.max_tokens)["input_ids"]) for text in texts]
    frequencies = np.array([sum(number in ids for ids in held) for number in range(len(tokenizer))])
    expected = np.maximum(np.log((len(texts) + 1) / (frequencies + 0.5)), 0.05)
    np.testing.assert_allclose(weights[name].numpy().ravel(), expected, atol=1e-4)
    report, stop = _stopped_after(4)
    stopped = Layout(tmp_path / "stopped")
    with pytest.raises(TrainingStopped):
        train_stage(weighing, inputs, stopped, "all", CPU, report, stop)
    assert _same(_weights(train_stage(weighing, inputs, stopped, "all", CPU)), weights)
    second = weighing.model_copy(update={"stage": "stage2", "base_model": str(first.model), "token_weight_power": 2.0})
    after = _weights(train_stage(second, inputs, _layout(first), "all", CPU))
    assert torch.equal(after[name], weights[name]), "a model that weighs its tokens keeps its weights"


def test_bf16_on_a_cpu_trains_nearly_the_same_weights(
    one_epoch: Checkpoint, config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    half = train_stage(config, inputs, Layout(tmp_path), "all", replace(CPU, precision="bf16"))
    found, wanted = _weights(half), _weights(one_epoch)
    assert not _same(found, wanted), "products are taken in bf16"
    losses = [np.array([point["loss"] for point in one.loss_history()]) for one in (half, one_epoch)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
