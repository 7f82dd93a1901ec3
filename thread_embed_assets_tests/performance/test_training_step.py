from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset

from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets_tests.performance import training_step
from thread_embed_assets_tests.performance.training_step import WAYS, Speed, drawn_pairs, measure
from thread_embed_assets_tests.training.tiny import WORDS, build_tiny_model

CPU = DeviceChoice("cpu", "fp32", "test")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StageConfig:
    model = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    return StageConfig(base_model=str(model), batch_size=8, mini_batch_size=4, max_tokens=16)


def _pairs(rows: int) -> dict[str, list[str]]:
    draw = random.Random(1)
    texts = [[" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(rows)] for _ in range(2)]
    return {"anchor": texts[0], "positive": texts[1], "conversation": [str(n) for n in range(rows)]}


def test_all_ways_are_measured_and_compared(config: StageConfig) -> None:
    found = measure(config, CPU, _pairs(40), 0)
    assert found["rounds"] == 1 and found["steps"] == 4
    assert all(found["tokens_per_second"][way] > 0 for way in WAYS)
    speeds = found["tokens_per_cpu_second"]
    for way in ("padded", "sorted"):
        assert found["ours_over"][way] == pytest.approx(speeds["ours"] / speeds[way], rel=0.02)
    assert 0.1 < found["padding_share"] < 0.9
    assert found["reached"] == {way: ratio >= 0.9 for way, ratio in found["ours_over"].items()}


def test_every_way_counts_the_same_tokens(config: StageConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes one second a look, speeds are token counts over looks."""
    data = Dataset.from_dict(_pairs(24))
    texts = [
        column for batch in training_step._tokenised(config, training_step._model(config, CPU), data) for column in batch
    ]
    tokens = sum(int(column["attention_mask"].sum()) for column in texts[2:])  # the first batch warms up
    seconds = iter(range(100))
    monkeypatch.setattr(training_step.time, "perf_counter", lambda: float(next(seconds)))
    for in_order in (False, True):
        assert training_step._bare(config, CPU, data, in_order).by_clock == tokens


def test_the_bare_loop_embeds_the_same_in_order_and_padded(config: StageConfig) -> None:
    model = training_step._model(config, CPU).eval()
    column, _ = next(training_step._tokenised(config, model, Dataset.from_dict(_pairs(20))))
    with torch.no_grad():
        padded, in_order = (training_step._embed(model, column, size) for size in (None, 3))
    torch.testing.assert_close(in_order, padded)


def test_the_fastest_round_counts() -> None:
    assert Speed(1.0, 5.0).best_of(Speed(2.0, 4.0)) == Speed(2.0, 5.0)


def test_drawn_pairs_are_chat_of_different_lengths_and_conversations() -> None:
    pairs = drawn_pairs(20)
    assert pairs == drawn_pairs(20)
    assert len(set(pairs["conversation"])) == 20
    lines = [text.count("\n") + 1 for text in pairs["anchor"]]
    assert min(lines) < 3 and max(lines) > 6
