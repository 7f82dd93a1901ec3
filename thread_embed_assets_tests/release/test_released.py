"""The models that travel with the code: that they are what they say, and that they say near what is near."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from thread_embed_assets.release.weights import MOST_BYTES, Released, released_models, restore
from thread_embed_assets.storage.layout import Layout

BOX = Layout(Path(__file__).resolve().parents[2])
QUERIES = ["ingest disk filled up overnight", "my wifi drops after suspend"]
THREADS = [
    "`/var/log/trace.log` is 211 GB. Trace level has been on since Saturday.\nthat's me, I forgot. rm it?",
    "after i close the lid and open it again the wireless card is gone\ntry to reload the module\nthat works, thanks",
    "lunch at twelve?\nonly if there is soup",
]
# Cosines of the queries with the threads, rounded; they change with the weights only.
GOLDEN = {"minilm-open": [[0.284, 0.016, 0.144], [0.108, 0.467, 0.024]]}


@pytest.mark.parametrize("released", released_models(BOX), ids=lambda released: released.name)
def test_a_model_of_the_box_is_restored_bit_for_bit_and_finds_what_it_found(released: Released, tmp_path: Path) -> None:
    assert sum(file.stat().st_size for file in released.folder.iterdir()) <= MOST_BYTES
    restore(released, tmp_path)  # raises unless the weights are those of the manifest
    model = SentenceTransformer(str(tmp_path), device="cpu")
    cosines = np.asarray(model.similarity(model.encode(QUERIES), model.encode(THREADS)))
    assert cosines.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(
        cosines,
        GOLDEN[released.name],
        atol=2e-3,
        err_msg=f"{released.name} embeds otherwise than when it was released: did a library change how it pools?",
    )


def test_every_model_of_the_box_has_results_on_test() -> None:
    for released in released_models(BOX):
        rows = json.loads((released.folder / "results.json").read_text(encoding="utf-8"))["leaderboard"]
        assert {row["source"] for row in rows} >= {"irc_disentangle", "slack_dev_chats"}, released.name
