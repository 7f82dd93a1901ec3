from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.reranker.candidates import EXAMPLES
from thread_embed_assets.reranker.quality import head_is_trained, leaks, split_by_profile_and_wording
from thread_embed_assets.reranker.train import HISTORY, RerankerCheckpoint
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

SYNTHETIC = {"origin": "synthetic", "label": 1}
CLEAN = [
    SYNTHETIC | {"split": "train", "profile": "u1", "template": "a.1+b.1", "message": "any news?"},
    SYNTHETIC | {"split": "train", "profile": "u2", "template": "a.1", "message": "any news?"},
    SYNTHETIC | {"split": "dev", "profile": "u3", "template": "a.2+b.2", "message": "so?"},
    SYNTHETIC | {"split": "test", "profile": "u4", "template": "a.3", "message": "what now"},
    {"origin": "irc", "split": "train", "profile": "", "template": "", "message": "thanks"},
    {"origin": "irc", "split": "test", "profile": "", "template": "", "message": "thanks"},
]


def _table(path: Path, rows: list[dict[str, Any]]) -> TableHandle:
    with write_tables(path, {"examples": EXAMPLES}) as writer:
        writer.add_all("examples", (tuple(row.get(name) for name in EXAMPLES.names) for row in rows))
    return open_table(path, "examples")


def test_clean_examples_pass(tmp_path: Path) -> None:
    verdict = split_by_profile_and_wording(_table(tmp_path / "clean.duckdb", CLEAN))
    assert verdict.passed


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ({"profile": "u1", "template": "c.1", "message": "x"}, "profile 'u1' is in test and train"),
        ({"profile": "u9", "template": "c.1+b.2", "message": "x"}, "template 'b.2' is in dev and test"),
        ({"profile": "u9", "template": "c.1", "message": "Any  NEWS"}, "message 'any news' is in test and train"),
    ],
)
def test_a_planted_leak_is_named(tmp_path: Path, planted: dict[str, str], found: str) -> None:
    examples = _table(tmp_path / "leak.duckdb", [*CLEAN, SYNTHETIC | {"split": "test"} | planted])
    assert leaks(examples) == [found]
    assert not split_by_profile_and_wording(examples).passed


def _trained(folder: Path, losses: list[float], **moved: float) -> RerankerCheckpoint:
    """The first two losses are of easy examples, in a phase of their own."""
    steps = [{"epoch": 1 if place < 2 else 2 + place // 6, "loss": loss} for place, loss in enumerate(losses)]
    epochs = [{"epoch": 1, "tiers": ["easy"]}, {"epoch": 2, "tiers": []}, {"epoch": 3, "tiers": []}]
    (folder / HISTORY).write_text(json.dumps({"steps": steps, "epochs": epochs}))
    return RerankerCheckpoint(folder, {"moved": moved})


def test_a_loss_that_falls_unevenly_passes(tmp_path: Path) -> None:
    losses = [0.1, 0.1, 0.7, 0.5, 0.6, 0.55, 0.52, 0.5, 0.45, 0.72]  # the last batch alone is above the first
    assert head_is_trained(_trained(tmp_path, losses, head=0.4, projection=0.2)).passed
    assert head_is_trained(_trained(tmp_path, [0.1, 0.1, 0.5, 0.4, 0.4, 0.52], head=0.4)).passed


@pytest.mark.parametrize(
    ("losses", "moved", "found"),
    [
        ([0.9, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7], {"head": 0.4}, "the loss went from 0.5500 to 0.6500"),
        ([0.9, 0.9, 0.5, 0.5, 0.5, float("nan")], {"head": 0.4}, "the loss went from 0.5000 to nan"),
        ([0.1, 0.1, 0.6, 0.5, 0.4, 0.3], {"head": 0.4, "projection": 0.0}, "projection has not moved"),
        ([0.1, 0.1, 0.6, 0.5, 0.4, 0.3], {"projection": 0.1}, "head has not moved"),
    ],
)
def test_a_part_that_did_not_learn_is_named(
    tmp_path: Path, losses: list[float], moved: dict[str, float], found: str
) -> None:
    verdict = head_is_trained(_trained(tmp_path, losses, **moved))
    assert not verdict.passed and found in verdict.description
