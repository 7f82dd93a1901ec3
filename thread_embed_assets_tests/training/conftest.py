from __future__ import annotations

import random
from pathlib import Path

import pytest

from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput
from thread_embed_assets_tests.training.tiny import build_tiny_model, write_pairs


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with 32 dimensions that loads as a SentenceTransformer."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def config(tiny_model: Path) -> StageConfig:
    return StageConfig(
        base_model=str(tiny_model),
        batch_size=8,
        mini_batch_size=4,
        max_tokens=16,
        learning_rate=2e-3,
        save_every=3,
        log_every=1,
        dev_pairs=20,
    )


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[PairInput]:
    """Two strategies of one source: 60 and 40 train pairs of 20 conversations, some of them with a negative."""
    folder = tmp_path_factory.mktemp("pairs")
    draw = random.Random(5)
    return [write_pairs(folder, "thread", "alpha", 60, draw), write_pairs(folder, "temporal", "alpha", 40, draw)]
