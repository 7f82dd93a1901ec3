"""Invented groups of candidates with scores, for the tests of groups, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from thread_embed_assets.reranker.candidates import EXAMPLES, NEW_THREAD
from thread_embed_assets.reranker.groups import Floats, Groups
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def groups_of(sizes: Sequence[int], right: Sequence[int], clusters: Sequence[str] = ()) -> Groups:
    """Runs of so many candidates, the last of each a new thread; ``right`` is the place of the right one in each."""
    starts = np.concatenate([[0], np.cumsum(sizes)])
    labels, new = np.zeros(starts[-1], np.bool_), np.zeros(starts[-1], np.bool_)
    labels[starts[:-1] + np.array(right)] = True
    new[starts[1:] - 1] = True
    count = len(sizes)
    tiers = ["easy" if n % 2 else "hard" for n in range(count)]
    return Groups(
        starts, labels, new, ["made"] * count, tiers, ["kitchen"] * count, clusters or [f"c{n % 7}" for n in range(count)]
    )


def drawn(count: int, seed: int = 0, sharpness: float = 2.0, new: float = 0.0) -> tuple[Groups, Floats]:
    """Groups of 2 to 9 candidates; the right one is drawn by a softmax of ``sharpness`` times its score, and ``new``."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(2, 10, count)
    scores = draw.normal(size=int(sizes.sum()))
    right = []
    for rows in np.split(scores, np.cumsum(sizes)[:-1]):
        scaled = sharpness * rows + new * (np.arange(len(rows)) == len(rows) - 1)
        weights = np.exp(scaled - scaled.max())
        right.append(int(draw.choice(len(rows), p=weights / weights.sum())))
    return groups_of(sizes.tolist(), right), scores


def write(
    path: Path, groups: Sequence[tuple[str, Sequence[str], int]], split: str = "test", profile: str = ""
) -> TableHandle:
    """Examples of (message, candidates, place of the right one), a message a day; the score of a row is its overlap."""
    with write_tables(path, {"examples": EXAMPLES}) as writer:
        for day, (message, candidates, right) in enumerate(groups):
            for place, candidate in enumerate(candidates):
                head = (message, candidate, "test", "made", "hard", "kitchen", profile, "", f"text of {message}", candidate)
                features = (place / 10, 0.0, 0.0, 0.0, float(candidate == NEW_THREAD))
                writer.add("examples", (*head, *features, int(place == right), NOON + timedelta(days=day), NOON))
    return open_table(path, "examples")
