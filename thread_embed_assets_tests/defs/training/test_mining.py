from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from thread_embed_assets.defs.metadata import rows_table
from thread_embed_assets.defs.training import mining, mining_checks
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets.training.config import PROFILES
from thread_embed_assets.training.mining import AUDIT, MOST_DOCUMENTS
from thread_embed_assets_tests.pairs.made import NEGATIVE, pair, write_pairs

MIX, SOURCE = "all", "sample_workspace"


def _write(path: Path, audit: Sequence[tuple[object, ...]] = (), **negative: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = NEGATIVE | {"kind": "mined", "source": SOURCE} | negative
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES, "audit": AUDIT}) as writer:
        writer.add("hard_negatives", tuple(row[name] for name in HARD_NEGATIVES.names))
        writer.add_all("audit", audit)


def test_examples_are_short_and_their_marks_survive_the_ui(tmp_path: Path) -> None:
    path = tmp_path / "m.duckdb"
    texts = ("is <b>this</b> | it?", "yes\nit is", "word " * 200)
    _write(path, [("c1#thread0", "thread", SOURCE, *texts, 0.8123, 0.5)])
    shown = list(mining._examples(open_table(path, "hard_negatives")))
    assert (shown[0]["positive_score"], shown[0]["negative_score"]) == ("0.81", "0.50")
    assert shown[0]["anchor"] == "is &lt;b>this&lt;/b> | it?"
    assert len(shown[0]["negative"]) <= 240
    line = rows_table(shown, mining._SHOWN).md_str
    assert line.count("\n") == 2 and "yes ⏎ it is" in line and "\\| it?" in line


def test_every_profile_says_how_many_texts_it_looks_among() -> None:
    assert set(MOST_DOCUMENTS) == set(PROFILES)


@pytest.mark.parametrize(
    ("planted", "passes"),
    [
        ({}, True),
        ({"negative_conversation_id": "c1"}, False),
        ({"negative": "positive for 1"}, False),
        ({"source": "irc_disentangle"}, False),
    ],
)
def test_the_checks_read_the_mixs_tables(planted: dict[str, str], passes: bool, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    _write(layout.mined_negatives(MIX), **planted)
    layout.pairs("thread", SOURCE).parent.mkdir(parents=True)
    write_pairs(layout.pairs("thread", SOURCE), [pair(n, source=SOURCE) for n in (1, 2)])
    assert mining_checks._schema(layout, MIX).passed
    assert mining_checks._negatives_from_elsewhere(layout, MIX).passed is passes
