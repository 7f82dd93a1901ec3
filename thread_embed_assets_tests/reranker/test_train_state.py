from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.model import Reranker, new_reranker
from thread_embed_assets.reranker.train_state import State
from thread_embed_assets_tests.reranker.tiny_rerankers import drawn_inputs, tiny_config
from thread_embed_assets_tests.training.tiny import build_tiny_model


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RerankerConfig:
    return tiny_config(build_tiny_model(tmp_path_factory.mktemp("tiny")))


def _begun(config: RerankerConfig) -> tuple[Reranker, State]:
    torch.manual_seed(0)
    model = new_reranker(config)
    return model, State.fresh(model, config)


def _step(model: Reranker, state: State) -> None:
    model.eval()
    model(*(torch.from_numpy(values) for values in drawn_inputs(4))).sum().backward()
    state.set_rates(1.0)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.count(40, 0.5)


def _epoch(number: int, hit: float, mrr: float = 0.5) -> dict[str, Any]:
    return {"epoch": number, "step": number, "tiers": [], "dev": {"hit@1": hit, "mrr": mrr}}


def _trained(model: Reranker) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_saved_state_goes_on_as_if_it_had_never_stopped(config: RerankerConfig, tmp_path: Path) -> None:
    model, state = _begun(config)
    _step(model, state)
    state.losses.append(0.25)
    state.add_point(1)
    state.add_epoch(_epoch(1, 0.4), model)
    state.save(tmp_path, model)
    fresh = new_reranker(config)
    found = State.newest(tmp_path, fresh, config)
    assert found is not None
    assert (found.step, found.tokens, found.seconds, found.history) == (1, 40, 0.5, state.history)
    _step(model, state)
    _step(fresh, found)  # AdamW's moments count here
    wanted, got = _trained(model), _trained(fresh)
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_only_the_newest_state_stays(config: RerankerConfig, tmp_path: Path) -> None:
    model, state = _begun(config)
    for _ in range(3):
        _step(model, state)
        state.save(tmp_path, model)
    assert [folder.name for folder in tmp_path.iterdir()] == ["state-000000003-0000"]


def test_without_a_state_there_is_none_and_half_a_state_is_none(config: RerankerConfig, tmp_path: Path) -> None:
    model, _ = _begun(config)
    (tmp_path / "state-000000007-0000").mkdir()
    assert State.newest(tmp_path, model, config) is None


def test_the_best_epoch_is_put_back_and_of_equals_the_first(config: RerankerConfig) -> None:
    model, state = _begun(config)
    kept = {}
    for number, (hit, mrr) in enumerate([(0.4, 0.5), (0.6, 0.7), (0.6, 0.7), (0.6, 0.6)], 1):
        _step(model, state)
        kept[number] = _trained(model)
        state.add_epoch(_epoch(number, hit, mrr), model)
    assert state.best_epoch()["epoch"] == 2
    state.restore_best(model)
    now = _trained(model)
    assert all(torch.equal(now[name], kept[2][name]) for name in now)
    assert any(not torch.equal(now[name], kept[4][name]) for name in now)


def test_new_weights_have_the_rate_of_new_weights_and_biases_do_not_decay(config: RerankerConfig) -> None:
    whole = config.model_copy(update={"adapter": "none"})
    model, state = _begun(whole)
    by_weight = {weight: group for group in state.optimizer.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        own = name.startswith("transformer.")
        assert by_weight[weight]["peak"] == (whole.pretrained_learning_rate if own else whole.learning_rate), name
        assert by_weight[weight]["weight_decay"] == (whole.weight_decay if weight.ndim > 1 else 0), name
    assert state.trained_weights == sum(weight.numel() for weight in model.parameters())
