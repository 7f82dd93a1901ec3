"""A checkpoint's model that weighs its tokens, and what is told of it, all made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thread_embed_assets.release.card_facts import Facts
from thread_embed_assets.training.token_weights import weigh_tokens
from thread_embed_assets_tests.training.tiny import WORDS

STAGE: dict[str, Any] = {
    "mix": "all",
    "stage": "stage1",
    "fingerprint": "0123456789abcdef",
    "config": {"learning_rate": 2e-5, "batch_size": 64, "loss": "infonce", "strategies": {"thread": 1.0, "response": 0.5}},
    "matryoshka_dims": [32, 16],
    "steps": 373,
    "tokens": 2946274,
    "seconds": 1916.4,
    "device": {"device": "cpu", "name": "CPU, 1 threads"},
    "dev": {"base": {"mrr@10": 0.6483}, "model": {"mrr@10": 0.6676}},
}
SOURCE = {
    "title": "An invented chat", "address": "https://example.org/chat", "licence": "CC-BY-4.0", "revision": "r7",
    "rows_used": 4242, "redistribute": True,
}  # fmt: skip
FACTS = Facts("thread-embed", "made/tiny", [STAGE], {"made": SOURCE})
TEXTS = ["baka dela", "fimi gola [SEP] luve ", "speaker_1: " + " ".join(WORDS * 2), "x"]


def trained_model(tiny_model: Path, folder: Path, text_format: str = "speakers") -> Path:
    """As training leaves one below ``folder``: token weights before the pooling, and its details."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    weigh_tokens(model, [" ".join(WORDS[:n]) for n in range(1, 30)], 0.75)
    place = {key: STAGE[key] for key in ("mix", "stage", "fingerprint")}
    target = folder / place["mix"] / place["stage"] / place["fingerprint"] / "model"
    model.save_pretrained(str(target), create_model_card=False)
    (target / "thread_embed.json").write_text(json.dumps({"text_format": text_format, **place}))
    return target
