"""What the forms of an exported reranker choose: hit@1 of its exact and of its quantised models; prints JSON.

    python -m thread_embed_assets_tests.performance.reranker_eight_bits --package models/thread-reranker

The examples are those below ``THREAD_EMBED_ROOT``, or the project's. Logits are ranked as they are, without calibration.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from thread_embed_assets.reranker.candidates import FEATURES, Candidate
from thread_embed_assets.reranker.groups import read_groups
from thread_embed_assets.reranker.onnx_reranker import JOINT, JOINT_INT8, MODEL, MODEL_INT8, OnnxReranker
from thread_embed_assets.reranker.origins import SYNTHETIC, written
from thread_embed_assets.reranker.tokens import BY_MESSAGE
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.performance.throughput import cpu_name


def messages(examples: TableHandle, where: str) -> Iterator[tuple[str, list[Candidate]]]:
    """Each message and its candidates, in the order of :func:`.groups.read_groups`."""
    columns = ("group_id", "candidate_id", "message", "thread", *FEATURES)
    for _, rows in groupby(examples.rows_as_dicts(columns, where, BY_MESSAGE), key=lambda row: row["group_id"]):
        read = list(rows)
        features = [np.array([row[name] for name in FEATURES], dtype=np.float32) for row in read]
        candidates = [Candidate(r["candidate_id"], r["thread"], f) for r, f in zip(read, features, strict=True)]
        yield read[0]["message"], candidates


def measure(package: Path, examples: TableHandle, where: str) -> list[dict[str, Any]]:
    """A row for each model of the package: hit@1, and how often it chooses otherwise than the exact one."""
    groups = read_groups(examples, where)
    scores = {}
    for name in (name for name in (MODEL, MODEL_INT8, JOINT, JOINT_INT8) if (package / name).exists()):
        model = OnnxReranker(package, threads=2, model=name)
        scores[name] = np.concatenate([model.logits(*given) for given in messages(examples, where)])
    exact = groups.best(scores[MODEL])
    return [
        {
            "model": name,
            "messages": len(groups),
            "hit@1": round(float(groups.ranks(found)[0].mean()), 4),
            "chosen_otherwise": round(float((groups.best(found) != exact).mean()), 4),
            "mean_difference": round(float(np.abs(found - scores[MODEL]).mean()), 4),
        }
        for name, found in scores.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    place = Layout.from_environment()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", type=Path, default=place.reranker_package)
    parser.add_argument("--origin", default=SYNTHETIC, help="whose messages")
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    given = parser.parse_args(arguments)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "threads": 2},
        "origin": given.origin,
        "split": given.split,
        "results": measure(given.package, written(place)[given.origin], f"split = '{given.split}'"),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
