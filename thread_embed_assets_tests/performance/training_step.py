"""How fast a training step is beside a bare forward and backward pass over the same batches; prints JSON.

    python -m thread_embed_assets_tests.performance.training_step --profile quick --minutes 1
    python -m thread_embed_assets_tests.performance.training_step --device cuda --profile standard --minutes 2
    python -m thread_embed_assets_tests.performance.training_step --pairs data/pairs/thread/irc_disentangle.duckdb

Ours is the trainer that a stage runs, with reading, tokenising, loss, optimiser and log, and without dev measures and saved
states. The bare loop takes the same batches, tokenised beforehand and on the device, through the same model, forwards and
backwards, with the plainest in-batch loss and no optimiser: once padded to the longest text of a column (``padded``), once
in the mini-batches that ours makes (``sorted``). Rounds alternate, and of each way the fastest counts: what else runs on the
machine only slows. Tokens are those of texts, not padding. On a CPU the ratios are of tokens a second of processor time,
which leaves out what other processes took.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from threading import Event
from typing import TYPE_CHECKING, Any

from thread_embed_assets_tests.performance.throughput import DrawnChat, cpu_name

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.config import StageConfig
    from thread_embed_assets.training.devices import DeviceChoice

AIM = 0.9
WAYS = ("ours", "padded", "sorted")
_SEED = 3
_WARM_UP = 1
_LINES = 8  # the most in a drawn text, as in a window


@dataclass(frozen=True)
class Speed:
    """Tokens a second by the clock, and of processor time."""

    by_clock: float
    on_cpu: float

    def best_of(self, other: Speed) -> Speed:
        return Speed(max(self.by_clock, other.by_clock), max(self.on_cpu, other.on_cpu))


def drawn_pairs(rows: int) -> dict[str, list[str]]:
    """Texts of one to eight lines of drawn chat, each row of another conversation."""
    draw = Random(_SEED)
    lines = [" ".join(m.text for m in c.messages[:1]) for c in DrawnChat(max(600, rows))]
    texts = [["\n".join(draw.choices(lines, k=draw.randint(1, _LINES))) for _ in range(rows)] for _ in range(2)]
    return {"anchor": texts[0], "positive": texts[1], "conversation": [f"c{number}" for number in range(rows)]}


def stored_pairs(path: Path, rows: int) -> dict[str, list[str]]:
    """Train pairs of a pair table, spread over it."""
    import duckdb

    columns = "anchor, positive, conversation_id AS conversation"
    query = f"SELECT {columns} FROM pairs WHERE split = 'train' ORDER BY md5(pair_id) LIMIT {rows}"
    with duckdb.connect(str(path), read_only=True) as connection:
        found: dict[str, list[str]] = connection.sql(query).to_arrow_table().to_pydict()
    return found


def measure(config: StageConfig, device: DeviceChoice, pairs: dict[str, list[str]], minutes: float) -> dict[str, Any]:
    """Tokens a second of each way, ours over the others, and the largest memory."""
    import torch
    from datasets import Dataset

    from thread_embed_assets.training.devices import cpu_products

    data = Dataset.from_dict(pairs)
    steps = len(pairs["anchor"]) // config.batch_size
    fastest = {way: Speed(0.0, 0.0) for way in WAYS}
    rounds, end = 0, time.monotonic() + 60 * minutes
    with cpu_products(device.precision if device.device == "cpu" else "fp32"):
        while rounds == 0 or time.monotonic() < end:
            for way in WAYS:
                speed = _ours(config, device, data, steps) if way == "ours" else _bare(config, device, data, way == "sorted")
                fastest[way] = fastest[way].best_of(speed)
                gc.collect()
            rounds += 1
    counted = {way: speed.on_cpu if device.device == "cpu" else speed.by_clock for way, speed in fastest.items()}
    ratios = {way: round(counted["ours"] / counted[way], 3) for way in WAYS[1:]}
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.device == "cuda" else _peak_mib()
    return {
        "steps": steps - _WARM_UP,
        "rounds": rounds,
        "tokens_per_second": {way: round(speed.by_clock) for way, speed in fastest.items()},
        "tokens_per_cpu_second": {way: round(speed.on_cpu) for way, speed in fastest.items()},
        "ours_over": ratios,
        "padding_share": round(_padding(config, data), 3),
        "aim": AIM,
        "reached": {way: ratio >= AIM for way, ratio in ratios.items()},
        "peak_mib": round(memory),
    }


def _model(config: StageConfig, device: DeviceChoice) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets.training.base_models import local_folder

    model = SentenceTransformer(str(local_folder(config.base_model)), device=device.device, local_files_only=True)
    model.max_seq_length = min(config.max_tokens, model.max_seq_length or config.max_tokens)
    return model


def _ours(config: StageConfig, device: DeviceChoice, data: Dataset, steps: int) -> Speed:
    from thread_embed_assets.training.early_stop import EarlyStop
    from thread_embed_assets.training.trainer import Progress, build_trainer

    reports: list[tuple[Progress, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            _model(config, device),
            {"pairs": data.with_format(columns=["anchor", "positive"])},
            config.model_copy(update={"save_every": 10**6, "log_every": max(1, (steps - _WARM_UP) // 2)}),
            Path(folder),
            fingerprint="measured",
            trainer_seed=_SEED,
            device=device,
            resume=None,
            early_stop=EarlyStop(dict, 0, None),
            report=lambda progress: reports.append((progress, time.process_time())),
            stop=Event(),
        )
        trainer._save_checkpoint = lambda *_: None  # type: ignore[method-assign]
        trainer.train()
    (first, cpu_first), (last, cpu_last) = reports[0], reports[-1]
    tokens = last.tokens - first.tokens
    return Speed(tokens / (last.seconds - first.seconds), tokens / (cpu_last - cpu_first))


def _bare(config: StageConfig, device: DeviceChoice, data: Dataset, in_order: bool) -> Speed:
    import torch

    model = _model(config, device).train()
    batches = [[_on(device, column) for column in batch] for batch in _tokenised(config, model, data)]
    bf16 = device.device == "cuda" and device.precision == "bf16"
    started, cpu_started, tokens = time.perf_counter(), time.process_time(), 0
    for number, batch in enumerate(batches):
        if number == _WARM_UP:
            _wait(device)
            started, cpu_started, tokens = time.perf_counter(), time.process_time(), 0
        with torch.autocast("cuda", dtype=torch.bfloat16) if bf16 else nullcontext():
            left, right = (_embed(model, column, config.mini_batch_size if in_order else None) for column in batch)
            scores = config.scale * left @ right.T
            loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
        loss.backward()
        model.zero_grad()
        tokens += sum(int(column["attention_mask"].sum()) for column in batch)
    _wait(device)
    return Speed(tokens / (time.perf_counter() - started), tokens / (time.process_time() - cpu_started))


def _embed(model: SentenceTransformer, column: dict[str, Any], mini_batch: int | None) -> Any:
    import torch

    if mini_batch is None:
        return model(dict(column))["sentence_embedding"]
    lengths = column["attention_mask"].sum(dim=1)
    order = lengths.argsort(descending=True)
    parts = []
    for rows in order.split(mini_batch):
        longest = int(lengths[rows].max())
        parts.append(model({name: value[rows, :longest] for name, value in column.items()})["sentence_embedding"])
    return torch.cat(parts)[order.argsort()]


def _tokenised(config: StageConfig, model: SentenceTransformer, data: Dataset) -> Iterator[list[dict[str, Any]]]:
    import torch

    from thread_embed_assets.training.batches import ConversationBatchSampler

    for rows in ConversationBatchSampler(data, config.batch_size, torch.Generator(), _SEED):
        batch = data[rows]
        columns = (model.preprocess(batch[name]) for name in ("anchor", "positive"))
        yield [{name: value for name, value in column.items() if isinstance(value, torch.Tensor)} for column in columns]


def _padding(config: StageConfig, data: Dataset) -> float:
    """The share of padding in batches as the tokeniser gives them."""
    from thread_embed_assets.training.devices import DeviceChoice

    masks = [
        column["attention_mask"]
        for batch in _tokenised(config, _model(config, DeviceChoice("cpu", "fp32", "")), data)
        for column in batch
    ]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def _on(device: DeviceChoice, column: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device.device) for name, value in column.items()}


def _wait(device: DeviceChoice) -> None:
    import torch

    if device.device == "cuda":
        torch.cuda.synchronize()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    from thread_embed_assets.training.config import PROFILES, STAGE1, STAGES, stage_config
    from thread_embed_assets.training.devices import pick_device

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--profile", default="quick", choices=tuple(PROFILES))
    parser.add_argument("--stage", default=STAGE1, choices=STAGES)
    parser.add_argument("--minutes", type=float, default=1.0, help="rounds are begun until then (default: 1)")
    parser.add_argument("--steps", type=int, default=8, help="of a round, after one that warms up (default: 8)")
    parser.add_argument("--pairs", type=Path, help="a pair table; without it, texts are drawn from the sample workspace")
    parser.add_argument("--set", default="{}", type=json.loads, help="JSON of StageConfig fields to set otherwise")
    given = parser.parse_args(arguments)
    config = stage_config(given.profile, given.stage, hard_negatives="none", **given.set)
    device = pick_device(given.device)
    rows = (given.steps + _WARM_UP) * config.batch_size
    pairs = stored_pairs(given.pairs, rows) if given.pairs else drawn_pairs(rows)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads(), "device": vars(device)},
        "versions": {name: version(name) for name in ("torch", "sentence-transformers", "transformers")}
        | {"python": platform.python_version()},
        "pairs": given.pairs.name if given.pairs else "drawn",
        "config": config.model_dump(mode="json"),
        **measure(config, device, pairs, given.minutes),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
