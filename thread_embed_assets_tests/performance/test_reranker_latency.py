from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL, MODEL_INT8
from thread_embed_assets_tests.performance.reranker_latency import drawn_messages, measure, untrained_package
from thread_embed_assets_tests.training.tiny import build_tiny_model


def test_every_model_is_measured_at_every_length(tmp_path: Path) -> None:
    config = RerankerConfig(base_model=str(build_tiny_model(tmp_path / "tiny")), max_tokens=64, message_tokens=16)
    rows = measure(untrained_package(tmp_path, config), 1, rounds=3, candidates=4, characters=(20, 60))
    assert [(row["model"], row["characters"]) for row in rows] == [
        (name, length) for length in (20, 60) for name in (MODEL, MODEL_INT8, JOINT, JOINT_INT8)
    ]
    assert rows[0]["tokens_per_pair"] < rows[-1]["tokens_per_pair"] <= 64
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p95_ms"] and row["p50_cpu_ms"] > 0
        assert row["reached"] == (row["p50_ms"] < 40)


@pytest.mark.parametrize("characters", [30, 200])
def test_drawn_candidates_are_as_long_as_asked(characters: int) -> None:
    for _, candidates in drawn_messages(3, 5, characters):
        lengths = [len(candidate.text) for candidate in candidates]
        assert len(lengths) == 5 and max(lengths) <= characters and sum(lengths) / 5 > 0.7 * characters
