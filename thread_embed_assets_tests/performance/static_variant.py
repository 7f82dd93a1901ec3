"""Whether a static model distilled from the model package keeps enough at a speed that is worth it; prints JSON.

    pip install --no-deps model2vec==0.10.0 skeletoken==0.6.1  # nothing else here needs them
    python -m thread_embed_assets_tests.performance.static_variant --tasks data/benchmark/tasks/irc_disentangle.duckdb

A static model adds up one vector per token. model2vec distils it: each token of the vocabulary is embedded alone, the
vectors are turned by PCA and weighed. ``VARIANTS`` are its defaults, all dimensions, and the token weights that the model
was trained with in place of weights by rank. Quality is MRR@10 on the dev queries of each task; ``kept`` is the variant's
mean over tasks divided by the model's, with a 95 % interval from drawing each task's queries again. Speed is in texts per
second of CPU time on one thread, of texts of equal length: other processes on the machine change that little.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.release.onnx_embedder import TOKENIZER, Floats
from thread_embed_assets_tests.performance.embedding_speed import (
    TORCH,
    Encode,
    Ranked,
    drawn_texts,
    encoder,
    rank,
    time_one,
)
from thread_embed_assets_tests.performance.throughput import cpu_name

QUALITY, SPEED = 0.85, 50.0  # what it must keep, and how many times faster it must be
_SIF = 1e-4
_DRAWS = 2_000
_SEED = 11


@dataclass(frozen=True)
class Variant:
    """A way to distil.

    Attributes:
        dims: of its vectors, None for the model's own.
        weights: of tokens: by their ``rank`` in the vocabulary (SIF, as model2vec does), or the model's ``own``.
    """

    dims: int | None = None
    weights: Literal["rank", "own"] = "rank"


VARIANTS = {"defaults": Variant(256), "all dimensions": Variant(), "own weights": Variant(weights="own")}


def distilled(package: Path, variant: Variant) -> Encode:
    """A static model of a package, as what turns texts to unit vectors."""
    from model2vec.distill import distill

    by_rank = variant.weights == "rank"
    static = distill(
        model_name=str(package),
        device="cpu",
        pca_dims=variant.dims or "auto",
        sif_coefficient=_SIF if by_rank else None,
        quantize_to="float32",
    )
    if not by_rank:
        weights = own_weights(package)
        for token, place in static.tokenizer.get_vocab().items():
            static.embedding[place] *= weights.get(token, 1.0)

    def encode(texts: Sequence[str]) -> Floats:
        vectors: Floats = np.asarray(static.encode(list(texts), use_multiprocessing=False), dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    return encode


def own_weights(package: Path) -> dict[str, float]:
    """The weight of each token in the package's model; empty where it weighs none."""
    modules = json.loads((package / "modules.json").read_text(encoding="utf-8"))
    paths = [module["path"] for module in modules if module["type"].endswith(".WordWeights")]
    if not paths:
        return {}
    weights: dict[str, float] = json.loads((package / paths[0] / "config.json").read_text(encoding="utf-8"))["word_weights"]
    return weights


def kept(full: Mapping[str, Ranked], static: Mapping[str, Ranked]) -> dict[str, float]:
    """Share of the mean over tasks that is kept, with its interval; both have the same queries in the same order."""
    draw = np.random.default_rng(_SEED)
    means = np.zeros((2, _DRAWS))
    for task, scores in full.items():
        pair = np.stack([static[task], scores])
        places = draw.integers(0, pair.shape[1], (_DRAWS, pair.shape[1]))
        means += pair[:, places].mean(axis=2) / len(full)
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    share = _mean(static) / _mean(full)
    return {name: round(float(value), 4) for name, value in (("kept", share), ("low", low), ("high", high))}


def _mean(ranked: Mapping[str, Ranked]) -> float:
    return float(np.mean([scores.mean() for scores in ranked.values()]))


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best variant, and whether it keeps enough and is fast enough at every length."""
    best = max(rows, key=lambda row: row["quality"]["kept"])
    slowest = min(best["times_faster"].values())
    return {
        "best": best["variant"],
        "keeps_enough": best["quality"]["kept"] >= QUALITY,
        "fast_enough": slowest >= SPEED,
        "earns_its_place": best["quality"]["kept"] >= QUALITY and slowest >= SPEED,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    texts = {tokens: drawn_texts(given.package / TOKENIZER, tokens, given.texts) for tokens in given.tokens}
    text_format = text_format_of(given.package)

    def scored(encode: Encode) -> tuple[dict[str, Ranked], dict[str, float]]:
        speed = {str(tokens): time_one(encode, drawn, given.rounds).per_cpu_second for tokens, drawn in texts.items()}
        return rank(encode, given.tasks, text_format, given.queries), speed

    full, full_speed = scored(encoder(TORCH, given.package, given.package, 1))
    rows = []
    for name in given.variants:
        static, speed = scored(distilled(given.package, VARIANTS[name]))
        row = {"variant": name, "quality": kept(full, static), "mrr@10": _means(static), "speed": speed}
        rows.append({**row, "times_faster": {tokens: round(speed[tokens] / full_speed[tokens], 1) for tokens in speed}})
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name()},
        "versions": {name: version(name) for name in ("torch", "sentence-transformers", "model2vec", "skeletoken")},
        "package": str(given.package),
        "texts": given.texts,
        "rounds": given.rounds,
        "queries": {task: len(scores) for task, scores in full.items()},
        "bars": {"quality": QUALITY, "speed": SPEED},
        "full": {"mrr@10": _means(full), "speed": full_speed},
        "static": rows,
        "verdict": verdict(rows),
    }


def _means(ranked: Mapping[str, Ranked]) -> dict[str, float]:
    return {task: round(float(scores.mean()), 4) for task, scores in ranked.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, default=Path("models/thread-embed"), help="a model package")
    parser.add_argument("--tasks", type=Path, nargs="+", required=True, help="task files to rank on")
    parser.add_argument("--queries", type=int, default=200, help="dev queries of each task, at most")
    parser.add_argument("--tokens", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args(arguments)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread, as the model's
    print(json.dumps(measure(given)))


if __name__ == "__main__":
    main()
