"""Each check passes on sound rows and sees its fault planted among them; more of them in test_summaries.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.language_models import quality
from thread_embed_assets.language_models.summaries import SUMMARIES
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.verdict import Verdict
from thread_embed_assets_tests.chat.planted import Stored, sentences, store

SPLITS = {"c0": "train", "c1": "train", "c2": "dev", "c3": "test"}
ROW: dict[str, Any] = {
    "conversation_id": "c0",
    "source": "made",
    "split": "train",
    "written_by": "anthropic/claude-haiku-5-5",
    "prompt": "p",
    "summary": "Somebody mends it",
    "title": "A repair",
    "questions": ["how was it mended", "who mends things"],
    "input_tokens": 1,
    "output_tokens": 1,
}


def row(number: int, **fields: Any) -> dict[str, Any]:
    return ROW | {"conversation_id": f"c{number}", "split": SPLITS[f"c{number}"]} | fields


def table(
    folder: Path, rows: list[dict[str, Any]], asked: int | None = None, without: str = "", speechless: int = 0
) -> TableHandle:
    kept = pa.schema([field for field in SUMMARIES if field.name != without])
    with write_tables(folder / "s.duckdb", {"summaries": kept}) as writer:
        writer.add_all("summaries", (tuple(r[name] for name in kept.names) for r in rows))
        writer.count("asked", len(rows) if asked is None else asked)
        writer.count("no_answer_nothing_to_say", speechless)
    return open_table(folder / "s.duckdb", "summaries")


@pytest.fixture
def stored(tmp_path: Path) -> Normalised:
    return store(tmp_path / "c.duckdb", [Stored(name, sentences(4, name), split=split) for name, split in SPLITS.items()])


SOUND = [row(0), row(1), row(2)]
COPY = sentences(4, "c1")[2]


def on_table(check: Callable[[TableHandle], Verdict]) -> Callable[[TableHandle, Normalised], Verdict]:
    return lambda handle, stored: check(handle)


CHECKS: dict[str, Callable[[TableHandle, Normalised], Verdict]] = {
    "schema": on_table(quality.schema),
    "unique_ids": on_table(quality.unique_ids),
    "coverage": on_table(quality.coverage),
    "no_private_data": on_table(quality.no_private_data),
    "no_held_out_conversation": quality.no_held_out_conversation,
    "not_copied": quality.not_copied,
}
FAULTS: list[tuple[str, list[dict[str, Any]], str]] = [
    ("unique_ids", [row(0), row(0)], "c0"),
    ("coverage", [row(0, written_by="")], "1 are blank"),
    ("coverage", [row(0, summary="")], "1 are blank"),
    ("no_private_data", [row(0, questions=["ask pellwyn@example.org"])], "c0, 2"),
    ("no_private_data", [row(1, title="call pellwyn@example.org")], "c1, 1"),
    ("no_held_out_conversation", [row(3)], "c3"),
    ("no_held_out_conversation", [row(2, split="train")], "c2"),
    ("no_held_out_conversation", [row(0, conversation_id="c9")], "c9"),
    ("not_copied", [row(1, summary=COPY)], "c1"),
    ("not_copied", [row(1, questions=["what", f"so {COPY}"])], "c1"),
    ("not_copied", [row(1), row(0)], "out of order"),
]


@pytest.mark.parametrize("name", CHECKS)
def test_sound_rows_pass(tmp_path: Path, stored: Normalised, name: str) -> None:
    assert CHECKS[name](table(tmp_path, SOUND), stored).passed


@pytest.mark.parametrize(("name", "rows", "said"), FAULTS, ids=[f"{name}-{said}" for name, _, said in FAULTS])
def test_a_fault_is_seen(tmp_path: Path, stored: Normalised, name: str, rows: list[dict[str, Any]], said: str) -> None:
    verdict = CHECKS[name](table(tmp_path, rows), stored)
    assert not verdict.passed and said in verdict.description


def test_a_missing_column_and_missing_rows_are_seen(tmp_path: Path) -> None:
    assert not quality.schema(table(tmp_path, SOUND, without="prompt")).passed
    few = quality.coverage(table(tmp_path, SOUND, asked=4))
    assert not few.passed and "75.0% of 4" in few.description
    assert quality.coverage(table(tmp_path, SOUND * 3, asked=10)).passed
    assert quality.coverage(table(tmp_path, SOUND, asked=9, speechless=6)).passed
    assert not quality.coverage(table(tmp_path, SOUND, asked=9, speechless=5)).passed
    assert not quality.coverage(table(tmp_path, [])).passed


def test_the_stand_in_may_repeat_words_of_the_thread(tmp_path: Path, stored: Normalised) -> None:
    verdict = quality.not_copied(table(tmp_path, [row(1, written_by="extractive", summary=COPY)]), stored)
    assert verdict.passed and verdict.description == "no language model wrote here"
