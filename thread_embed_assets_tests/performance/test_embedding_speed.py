from __future__ import annotations

import argparse

import numpy as np
import pytest
from tokenizers import Tokenizer

from thread_embed_assets.release.export import export_model
from thread_embed_assets.release.package import publish
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.performance.embedding_speed import RUNTIMES, drawn_texts, kept, measure_runtime
from thread_embed_assets_tests.release.packages import FACTS, trained_model
from thread_embed_assets_tests.training.tiny import build_tiny_model


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    folder = tmp_path_factory.mktemp("speed")
    layout = Layout(folder / "root")
    publish(trained_model(build_tiny_model(folder / "tiny"), layout.models / "checkpoints", "plain"), layout, FACTS)
    export_model(layout.promoted_model, layout.onnx_package)
    return layout


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_runtime_is_timed_at_each_length_and_compared_with_torch(layout: Layout, runtime: str) -> None:
    given = argparse.Namespace(
        runtime=runtime, thread=1, threads=[1], package=layout.promoted_model, onnx=layout.onnx_package, tokens=[12, 24],
        texts=12, rounds=1, tasks=[], queries=1,
    )  # fmt: skip
    rows = measure_runtime(given)
    assert [(row["runtime"], row["tokens"], row["threads"]) for row in rows] == [(runtime, 12, 1), (runtime, 24, 1)]
    for row in rows:
        assert row["texts_per_second"] > 0
        assert row["cosine_min"] == pytest.approx(1, abs=1e-4 if runtime != "onnx int8" else 0.05)
        assert 0.5 < row["neighbours_kept"] <= 1


def test_drawn_texts_are_as_long_as_asked(layout: Layout) -> None:
    tokenizer = Tokenizer.from_file(str(layout.onnx_package / "tokenizer.json"))
    texts = drawn_texts(layout.onnx_package / "tokenizer.json", 20, 6)
    assert [len(tokenizer.encode(text).ids) for text in texts] == [20] * 6 and len(set(texts)) == 6


def test_neighbours_that_change_places_are_counted() -> None:
    circle = np.linspace(0, np.pi, 40)
    wanted = np.stack([np.cos(circle), np.sin(circle)], axis=1).astype(np.float32)
    assert kept(wanted, wanted) == {"cosine_min": pytest.approx(1), "neighbours_kept": 1}
    other = kept(wanted, np.random.default_rng(0).permutation(wanted))
    assert other["neighbours_kept"] < 0.6 and other["cosine_min"] < 0.5
