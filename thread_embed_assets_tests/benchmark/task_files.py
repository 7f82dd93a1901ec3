"""Tasks files made up for the tests of packaging and of the mteb tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from thread_embed_assets.benchmark.tasks import SCHEMAS
from thread_embed_assets.storage.tables import write_tables
from thread_embed_assets_tests.benchmark.stored import WORDS, person

_TWICE = "the very same nine words stand in two documents"
_START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def write_task_file(path: Path, source: str, seed: int, queries: int = 12, near: bool = True, twins: bool = True) -> Path:
    """Tasks reply (graded: one document of grade 2, one of grade 1) and summary, in dev and test.

    Rows are written in no order. ``twins``: two documents of a split hold the same text. ``near``: there are candidates.
    """
    draw = Random(seed)
    with write_tables(path, SCHEMAS) as writer:
        for task in ("reply", "summary"):
            for split in ("dev", "test"):
                documents: list[tuple[str, str]] = []
                for number in draw.sample(range(2 * queries), 2 * queries):
                    conversation = f"{source}:{split}:{number // 2}"
                    said = " ".join(draw.choices(WORDS, k=9))
                    said = _TWICE if twins and number in (3, 5) else said
                    documents.append((f"d_{source[:2]}{task[:1]}{split[:1]}{number:04x}", said))
                    times = (_START + timedelta(hours=number), _START + timedelta(hours=number, minutes=9))
                    ids = [f"{conversation}-{part}" for part in range(2)]
                    people = [person(number // 2)]
                    key = documents[-1][0]
                    writer.add(
                        "corpus", (task, split, key, conversation, "general", *times, people, ids, *_texts(said, people[0]))
                    )
                words = dict(documents)
                ordered = sorted(words)
                for number in draw.sample(range(queries), queries):
                    query = f"q_{source[:2]}{task[:1]}{split[:1]}{number:04x}"
                    best, other = ordered[2 * number], ordered[2 * number + 1]
                    shared = draw.sample(words[best].split(), 3) + draw.sample(words[other].split(), 2)
                    said = " ".join([*shared, *draw.choices(WORDS, k=4)])
                    conversation = f"{source}:{split}:{number}"
                    asked = None if task == "summary" else _START + timedelta(hours=number)
                    texts = [said] * 5 if task == "summary" else _texts(said, person(number))
                    writer.add(
                        "queries",
                        (
                            task, split, query, conversation, "general", f"general/{number // 4}",
                            "gold" if number % 3 else "silver", asked, [person(number)],
                            [] if task == "summary" else [f"{conversation}-q"], 5, 60.5, 0.25,
                            f"again {said}" if task == "summary" else "", *texts,
                        ),
                    )  # fmt: skip
                    writer.add("qrels", (task, split, query, best, 2 if task == "reply" else 1))
                    if task == "reply":
                        writer.add("qrels", (task, split, query, other, 1))
                    if near and number != 4:  # one query has no slice
                        close = [best, other, *draw.sample([key for key in ordered if key not in (best, other)], 10)]
                        for key in draw.sample(close, len(close)):
                            writer.add("candidates", (task, split, query, key))
    return path


def _texts(said: str, author: str) -> list[str]:
    return [said, f"speaker_1: {said}", f"[+0m] {said}", f"[+0m] speaker_1: {said}", f"<{author}> {said}"]
