"""A model's folder, or a training's saved state, that somebody else made: it may fail to load, but it runs nothing.

Each test plants a file that makes another one when it is unpickled or imported. That nothing is run is the doing of torch,
transformers and sentence-transformers; these tests tell when a newer version, or our call of them, does not hold it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from threading import Event
from typing import Any

import pytest
import torch

from thread_embed_assets.benchmark.embeddings import ModelEncoder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets.training.resume import mark_whole
from thread_embed_assets.training.stage import TrainingStopped, train_stage

CPU = DeviceChoice("cpu", "fp32", "test")
CODE = "from pathlib import Path\nPath({path!r}).touch()\nimport torch\nclass Evil(torch.nn.Module):\n    pass\n"


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.made,)


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(content) or content), encoding="utf-8")


def _pickled_weights(model: Path, made: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({"weights": Evil(made)}, model / "pytorch_model.bin")


def _code_of_a_module(model: Path, made: Path) -> None:
    (model / "evil.py").write_text(CODE.format(path=str(made)), encoding="utf-8")
    _edit(model / "modules.json", lambda modules: modules[0].update(type="evil.Evil"))


def _code_of_a_transformer(model: Path, made: Path) -> None:
    (model / "evil.py").write_text(CODE.format(path=str(made)), encoding="utf-8")
    of = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.Evil")
    for name in ("config.json", "tokenizer_config.json"):
        _edit(model / name, lambda content: content.update(auto_map=of, model_type="evil", tokenizer_class="Evil"))


@pytest.mark.parametrize("plant", [_pickled_weights, _code_of_a_module, _code_of_a_transformer])
def test_a_model_folder_runs_nothing(
    plant: Callable[[Path, Path], None], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = tmp_path / "made"
    plant(shutil.copytree(tiny_model, tmp_path / "model"), made)
    with pytest.raises(Exception, match=r".") as refused:
        ModelEncoder(str(tmp_path / "model"), "of a test", "cpu").encode(["hello"], "query")
    assert not made.exists(), refused.value
    weights = tmp_path / "model" / "pytorch_model.bin"
    if weights.exists():  # the plant is a good one
        torch.load(weights, weights_only=False)
        assert made.exists()


@pytest.fixture(scope="module")
def stopped(config: StageConfig, inputs: list[PairInput], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a training that was stopped half-way."""
    root, stop = tmp_path_factory.mktemp("stopped"), Event()
    with pytest.raises(TrainingStopped):
        train_stage(config, inputs, Layout(root), "all", CPU, lambda told: stop.set() if told.step == 4 else None, stop)
    return root


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_saved_state_of_a_training_runs_nothing(
    name: str, stopped: Path, config: StageConfig, inputs: list[PairInput], tmp_path: Path
) -> None:
    root, made = shutil.copytree(stopped, tmp_path / "root"), tmp_path / "made"
    saved = max(root.rglob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    assert (saved / name).exists()
    torch.save(Evil(made), saved / name)
    whole = json.loads((saved / "whole.json").read_text(encoding="utf-8"))
    (saved / "whole.json").unlink()
    mark_whole(saved, *(whole[field] for field in ("fingerprint", "step", "tokens", "seconds")))
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        train_stage(config, inputs, Layout(root), "all", CPU)
    assert not made.exists()
