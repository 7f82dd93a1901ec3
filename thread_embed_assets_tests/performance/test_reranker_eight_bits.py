from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL, MODEL_INT8
from thread_embed_assets_tests.performance.reranker_eight_bits import measure
from thread_embed_assets_tests.performance.reranker_latency import untrained_package
from thread_embed_assets_tests.reranker.tiny_rerankers import write_examples
from thread_embed_assets_tests.training.tiny import build_tiny_model


def test_all_forms_are_measured_on_the_same_messages(tmp_path: Path) -> None:
    config = RerankerConfig(base_model=str(build_tiny_model(tmp_path / "tiny")), max_tokens=64, message_tokens=16)
    package = untrained_package(tmp_path, config)
    rows = {row["model"]: row for row in measure(package, write_examples(tmp_path / "examples.duckdb"), "split = 'dev'")}
    assert list(rows) == [MODEL, MODEL_INT8, JOINT, JOINT_INT8] and {row["messages"] for row in rows.values()} == {20}
    assert rows[MODEL]["mean_difference"] == rows[MODEL]["chosen_otherwise"] == 0
    assert rows[JOINT]["hit@1"] == rows[MODEL]["hit@1"] == pytest.approx(0.25, abs=0.25)
    assert rows[JOINT]["mean_difference"] < 1e-4 < rows[MODEL_INT8]["mean_difference"]
