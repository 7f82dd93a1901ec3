"""How long an exported reranker takes to score the candidates of one message; prints JSON.

    python -m thread_embed_assets_tests.performance.reranker_latency
    python -m thread_embed_assets_tests.performance.reranker_latency --package models/thread-reranker --threads 2

Without a package one is exported from an untrained reranker: the time does not depend on the weights. Messages and threads
are drawn chat, and the threads' texts are as long as ``--characters`` says, one after another, since that is what the time
depends on. A call is all of it: tokenising, filling up, the model. Beside the clock's time stands processor time, which
leaves out what other processes took. Rounds of the models alternate. As in a chat, where all but the thread that went on say
what they said, one of the candidates changes from message to message: ``joint.onnx`` reads that one alone, the others read
all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from thread_embed_assets.reranker.candidates import FEATURES, Candidate
from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL, MODEL_INT8, OnnxReranker
from thread_embed_assets_tests.performance.throughput import DrawnChat, cpu_name

AIM_MS = 40.0
CANDIDATES = 20
CHARACTERS = (60, 120, 240, 700)
_SEED = 3
_WARM_UP = 2


def untrained_package(folder: Path, config: RerankerConfig) -> Path:
    """Export a reranker as it is before its first training step."""
    import torch

    from thread_embed_assets.reranker.export import export_reranker
    from thread_embed_assets.reranker.model import new_reranker
    from thread_embed_assets.reranker.train import HISTORY, RerankerCheckpoint

    torch.manual_seed(_SEED)
    checkpoint = RerankerCheckpoint(folder / "checkpoint", {})
    checkpoint.model.mkdir(parents=True)
    new_reranker(config).save(checkpoint.model)
    (checkpoint.folder / HISTORY).write_text("{}", encoding="utf-8")
    return export_reranker(checkpoint, folder / "package").folder


def drawn_messages(rounds: int, candidates: int, characters: int) -> list[tuple[str, list[Candidate]]]:
    """A message of drawn chat for each round, and candidates of up to ``characters``, one of them another each time."""
    draw = Random(_SEED)
    lines = [" ".join(m.text for m in conversation.messages[:1]) for conversation in DrawnChat(600)]
    texts = [_drawn_text(draw, lines, characters) for _ in range(candidates)]
    found = []
    for number in range(rounds):
        texts[number % candidates] = _drawn_text(draw, lines, characters)
        features = np.array([draw.uniform(0, 3) for _ in FEATURES], dtype=np.float32)
        found.append((draw.choice(lines), [Candidate(str(n), text, features) for n, text in enumerate(texts)]))
    return found


def _drawn_text(draw: Random, lines: Sequence[str], characters: int) -> str:
    return "\n".join(draw.choices(lines, k=1 + characters // 30))[:characters]


def measure(package: Path, threads: int, rounds: int, candidates: int, characters: Sequence[int]) -> list[dict[str, Any]]:
    """Milliseconds a message, a row for each length of texts and each model of the package."""
    names = [name for name in (MODEL, MODEL_INT8, JOINT, JOINT_INT8) if (package / name).exists()]
    models = {name: OnnxReranker(package, threads, name) for name in names}
    rows = []
    for length in characters:
        messages = drawn_messages(rounds + _WARM_UP, candidates, length)
        clock: dict[str, list[float]] = {name: [] for name in models}
        cpu: dict[str, list[float]] = {name: [] for name in models}
        for message, given in messages:
            for name, model in models.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                model.logits(message, given)
                clock[name].append(1e3 * (time.perf_counter() - started))
                cpu[name].append(1e3 * (time.process_time() - cpu_started))
        tokens = [len(row) for message, given in messages for row in models[MODEL].tokens(message, given)]
        for name in models:
            rows.append(
                {
                    "model": name,
                    "characters": length,
                    "tokens_per_pair": round(float(np.mean(tokens)), 1),
                    **_quantiles("ms", clock[name][_WARM_UP:]),
                    **_quantiles("cpu_ms", cpu[name][_WARM_UP:]),
                    "reached": bool(np.median(clock[name][_WARM_UP:]) < AIM_MS),
                }
            )
    return rows


def _quantiles(unit: str, values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}_{unit}": round(float(np.percentile(values, share)), 1) for share in (50, 95)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, help="an exported reranker; without it, one is made of the base model")
    parser.add_argument("--base-model", default="minilm", help="of the one that is made")
    parser.add_argument("--layers", type=int, help="of the one that is made; without it, all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--characters", type=int, nargs="+", default=list(CHARACTERS), help="of a thread's text, at most")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        package = given.package
        if package is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            package = untrained_package(folder, RerankerConfig(base_model=given.base_model, layers=given.layers))
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cpu": cpu_name(), "threads": given.threads},
            "versions": {name: version(name) for name in ("onnxruntime", "tokenizers", "numpy")},
            "package": str(given.package or f"untrained {given.base_model}"),
            "candidates": given.candidates,
            "rounds": given.rounds,
            "aim_ms": AIM_MS,
            "results": measure(package, given.threads, given.rounds, given.candidates, given.characters),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
