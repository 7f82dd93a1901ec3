"""How fast the model package embeds in torch, ONNX and eight bits, and what ranking each keeps; prints JSON.

    python -m thread_embed_assets_tests.performance.embedding_speed
    python -m thread_embed_assets_tests.performance.embedding_speed --tasks data/benchmark/tasks/*.duckdb

Texts are drawn chat, cut to ``--tokens`` tokens each, so that every text of a row is of one length. Each runtime and number
of threads is timed in a process of its own, for torch and onnxruntime take their threads once; a call embeds ``--texts``
texts, and the fastest of ``--rounds`` counts, since other processes only slow it. Tokenising is part of it. On a machine
that does other work, too, ``texts_per_second`` is too low, and ``texts_per_cpu_second`` (of all threads' time) tells what
a free core does. ``cosine_min`` is the least cosine with torch's vector, ``neighbours_kept`` the share of each
text's ten nearest others that stay, and with ``--tasks`` there is MRR@10 of up to ``--queries`` dev queries of each task.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from thread_embed_assets.release.onnx_embedder import MODEL, MODEL_INT8, TOKENIZER, Floats, OnnxEmbedder
from thread_embed_assets_tests.performance.throughput import DrawnChat, cpu_name

TORCH, ONNX, INT8 = "torch", "onnx", "onnx int8"
RUNTIMES = {TORCH: "", ONNX: MODEL, INT8: MODEL_INT8}
NEIGHBOURS = 10
_SEED = 3
_BATCH = 32
_MODULE = "thread_embed_assets_tests.performance.embedding_speed"

Encode = Callable[[Sequence[str]], Floats]
Ranked = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """Texts by the second: of the clock, and of the time that all threads of the process computed."""

    per_second: float
    per_cpu_second: float


def encoder(runtime: str, package: Path, onnx: Path, threads: int) -> Encode:
    """What turns texts to unit vectors in this process, with so many threads."""
    if runtime != TORCH:
        embedder = OnnxEmbedder(onnx, threads, RUNTIMES[runtime])
        return lambda texts: embedder.encode(texts, batch_size=_BATCH)
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(package), device="cpu", local_files_only=True)

    def encode(texts: Sequence[str]) -> Floats:
        vectors: Floats = model.encode(list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        return vectors

    return encode


def drawn_texts(tokenizer_json: Path, tokens: int, count: int) -> list[str]:
    """Drawn chat, ``count`` texts of exactly ``tokens`` tokens, special ones counted, wherever words allow it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    draw = Random(_SEED)
    words = [word for conversation in DrawnChat(600) for message in conversation.messages for word in message.text.split()]
    texts = []
    for _ in range(count):
        drawn: list[str] = draw.choices(words, k=tokens)
        while len(tokenizer.encode(" ".join(drawn)).ids) > tokens:
            drawn.pop()
        while len(tokenizer.encode(" ".join([*drawn, "a"])).ids) <= tokens:
            drawn.append("a")
        texts.append(" ".join(drawn))
    return texts


def time_one(encode: Encode, texts: Sequence[str], rounds: int) -> Speed:
    """The best of the rounds, after a first that is not counted."""
    encode(texts[:_BATCH])
    seconds, computed = [], []
    for _ in range(rounds):
        started, cpu = time.perf_counter(), time.process_time()
        encode(texts)
        seconds.append(time.perf_counter() - started)
        computed.append(time.process_time() - cpu)
    return Speed(round(len(texts) / min(seconds), 1), round(len(texts) / min(computed), 1))


def kept(wanted: Floats, found: Floats) -> dict[str, float]:
    """How near vectors are to others of the same texts."""
    most = min(NEIGHBOURS, len(wanted) - 1)
    nearest = []
    for vectors in (wanted, found):
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        nearest.append(np.argsort(-cosines, axis=1, kind="stable")[:, :most])
    shared = [len(set(a) & set(b)) / most for a, b in zip(*nearest, strict=True)]
    return {"cosine_min": float((wanted * found).sum(axis=1).min()), "neighbours_kept": float(np.mean(shared))}


def rank(encode: Encode, tasks: Sequence[Path], text_format: str, queries: int) -> dict[str, Ranked]:
    """MRR@10 of each query by source and task: a sample of the dev queries, all documents, read whole."""
    from thread_embed_assets.benchmark.metrics import HEADLINE, per_query
    from thread_embed_assets.benchmark.retrievers import Dense, search
    from thread_embed_assets.benchmark.tasks import load_tasks

    found = {}
    for path in tasks:
        for task in load_tasks(path, ["dev"]):
            places = sorted(Random(_SEED).sample(range(len(task.query_ids)), min(queries, len(task.query_ids))))
            ids = [task.query_ids[place] for place in places]
            asked = task.query_texts(text_format)
            scorer = Dense(encode([asked[place] for place in places]), encode(task.document_texts(text_format)))
            scores = per_query(search(scorer, ids, task.document_ids), {i: task.relevant[i] for i in ids}, ids)
            found[f"{path.stem} {task.name}"] = np.asarray(scores[HEADLINE], dtype=np.float64)
    return found


def measure_runtime(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one runtime and number of threads, timed in this process."""
    encode = encoder(given.runtime, given.package, given.onnx, given.thread)
    in_torch = encoder(TORCH, given.package, given.onnx, given.thread) if given.runtime != TORCH else encode
    text_format = json.loads((given.onnx / "config.json").read_text(encoding="utf-8"))["text_format"]
    rows = []
    for tokens in given.tokens:
        texts = drawn_texts(given.onnx / TOKENIZER, tokens, given.texts)
        speed = time_one(encode, texts, given.rounds)
        row = {"runtime": given.runtime, "tokens": tokens, "threads": given.thread}
        row |= {"texts_per_second": speed.per_second, "texts_per_cpu_second": speed.per_cpu_second}
        rows.append({**row, **kept(in_torch(texts), encode(texts))})
    if given.tasks and given.thread == max(given.threads):
        ranked = rank(encode, given.tasks, text_format, given.queries)
        rows[0]["mrr@10"] = {task: round(float(scores.mean()), 4) for task, scores in ranked.items()}
    return rows


def measure(arguments: Sequence[str], runtimes: Sequence[str], threads: Sequence[int]) -> list[dict[str, Any]]:
    """Each runtime and number of threads in a process of its own, one after the other."""
    rows = []
    for runtime in runtimes:
        for thread in threads:
            command = [sys.executable, "-m", _MODULE, *arguments, "--runtime", runtime, "--thread", str(thread)]
            rows += json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, default=Path("models/thread-embed"), help="a model package")
    parser.add_argument("--onnx", type=Path, help="its ONNX package; without it, one is exported")
    parser.add_argument("--tokens", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=Path, nargs="+", default=[], help="task files to rank on")
    parser.add_argument("--queries", type=int, default=200, help="dev queries of each task, at most")
    parser.add_argument("--runtime", choices=list(RUNTIMES), help=argparse.SUPPRESS)
    parser.add_argument("--thread", type=int, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    if given.runtime:
        print(json.dumps(measure_runtime(given)))
        return
    passed = list(sys.argv[1:] if arguments is None else arguments)
    with ExitStack() as stack:
        if given.onnx is None:
            from thread_embed_assets.release.export import export_model

            given.onnx = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "onnx"
            export_model(given.package, given.onnx)
            passed += ["--onnx", str(given.onnx)]
        runtimes = [name for name, file in RUNTIMES.items() if not file or (given.onnx / file).exists()]
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"cpu": cpu_name()},
            "versions": {name: version(name) for name in ("torch", "onnxruntime", "tokenizers", "sentence-transformers")},
            "package": str(given.package),
            "texts": given.texts,
            "rounds": given.rounds,
            "megabytes": {
                file: round((given.onnx / file).stat().st_size / 1e6, 1) for file in map(RUNTIMES.get, runtimes[1:]) if file
            },
            "results": measure(passed, runtimes, given.threads),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
