from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.reranker.candidates import EXAMPLES
from thread_embed_assets.reranker.quality import leaks, split_by_profile_and_wording
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

SYNTHETIC = {"origin": "synthetic", "label": 1}
CLEAN = [
    SYNTHETIC | {"split": "train", "profile": "u1", "template": "a.1+b.1", "message": "any news?"},
    SYNTHETIC | {"split": "train", "profile": "u2", "template": "a.1", "message": "any news?"},
    SYNTHETIC | {"split": "dev", "profile": "u3", "template": "a.2+b.2", "message": "so?"},
    SYNTHETIC | {"split": "test", "profile": "u4", "template": "a.3", "message": "what now"},
    {"origin": "irc", "split": "train", "profile": "", "template": "", "message": "thanks"},
    {"origin": "irc", "split": "test", "profile": "", "template": "", "message": "thanks"},
]


def _table(path: Path, rows: list[dict[str, Any]]) -> TableHandle:
    with write_tables(path, {"examples": EXAMPLES}) as writer:
        writer.add_all("examples", (tuple(row.get(name) for name in EXAMPLES.names) for row in rows))
    return open_table(path, "examples")


def test_clean_examples_pass(tmp_path: Path) -> None:
    verdict = split_by_profile_and_wording(_table(tmp_path / "clean.duckdb", CLEAN))
    assert verdict.passed


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ({"profile": "u1", "template": "c.1", "message": "x"}, "profile 'u1' is in test and train"),
        ({"profile": "u9", "template": "c.1+b.2", "message": "x"}, "template 'b.2' is in dev and test"),
        ({"profile": "u9", "template": "c.1", "message": "Any  NEWS"}, "message 'any news' is in test and train"),
    ],
)
def test_a_planted_leak_is_named(tmp_path: Path, planted: dict[str, str], found: str) -> None:
    examples = _table(tmp_path / "leak.duckdb", [*CLEAN, SYNTHETIC | {"split": "test"} | planted])
    assert leaks(examples) == [found]
    assert not split_by_profile_and_wording(examples).passed
