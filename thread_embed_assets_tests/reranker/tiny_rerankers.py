"""Rerankers and tables of examples small enough to train on in a test."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from thread_embed_assets.reranker.candidates import EXAMPLES, FEATURES, NEW_THREAD
from thread_embed_assets.reranker.config import Phase, RerankerConfig
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets_tests.training.tiny import WORDS

_TIME = datetime(2026, 3, 2, 9, tzinfo=UTC)


def tiny_config(base_model: Path, /, **overrides: object) -> RerankerConfig:
    fields: dict[str, object] = {
        "base_model": str(base_model),
        "batch_size": 16,
        "learning_rate": 5e-3,
        "max_tokens": 32,
        "message_tokens": 12,
        "curriculum": (Phase(tiers=("easy",), epochs=1), Phase(epochs=2)),
        "save_every": 5,
        "log_every": 1,
    }
    return RerankerConfig.model_validate(fields | overrides)


def tiny_cross_encoder(tiny_model: Path, folder: Path) -> Path:
    """A random BERT with a classification head of one logit."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(folder)
    shutil.copyfile(tiny_model / "tokenizer.json", folder / "tokenizer.json")
    return folder


def example(group: str, candidate: str, split: str, tier: str, label: int, features: Sequence[float], text: str) -> tuple:
    message, thread = text.split("|")
    origin = ("synthetic", tier, "bakery", "profile", f"template-{split}")
    return (group, candidate, split, *origin, message, thread, *features, label, _TIME, _TIME)


def write_examples(path: Path, messages: int = 60, dev_messages: int = 20) -> TableHandle:
    """Four candidates of each message; the first feature of the right one is the highest, and the others tell nothing."""
    draw = random.Random(7)
    with write_tables(path, {"examples": EXAMPLES}) as writer:
        for number in range(messages + dev_messages):
            split = "train" if number < messages else "dev"
            right = draw.randrange(4)
            for place, name in enumerate(("a", "b", "c", NEW_THREAD)):
                low = 0.0 if place != right else 0.6
                features = [draw.uniform(low, low + 0.4), *(draw.uniform(0, 3) for _ in FEATURES[1:])]
                text = "|".join(" ".join(draw.choices(WORDS, k=draw.randint(2, 15))) for _ in range(2))
                tier = ("easy", "hard")[number % 2]
                writer.add("examples", example(f"m{number:03d}", name, split, tier, int(place == right), features, text))
    return open_table(path, "examples")


def drawn_inputs(pairs: int, tokens: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token numbers, mask and features of pairs without padding; the fourth and the last token are separators (3)."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, 80, (pairs, tokens))
    ids[:, 0], ids[:, 3], ids[:, -1] = 2, 3, 3
    return ids, np.ones_like(ids), draw.uniform(0, 2, (pairs, len(FEATURES))).astype(np.float32)
