from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from thread_embed_assets.reranker.origins import SYNTHETIC, Amount, write_all, written
from thread_embed_assets.reranker.synthetic import generate
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.chat.planted import NOON, Stored, sentences, store

SAMPLE = "sample_workspace"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(generate, "_PROFILES", {"quick": 2})
    layout = Layout(tmp_path)
    conversations = [
        Stored(f"c{n:03}", sentences(4, n), channel="room", start=NOON + 40.0 * n, step=90.0, split="train")
        for n in range(60)
    ]
    conversations.append(Stored("held", sentences(4, 99), channel="room", start=NOON + 9_000.0, step=90.0, split="dev"))
    path = layout.conversations(SAMPLE)
    path.parent.mkdir(parents=True)
    store(path, conversations)
    return layout


def _source() -> Source:
    return load_catalog()[SAMPLE]


def _messages(layout: Layout, most: int | None) -> Counter[str]:
    table = write_all([_source()], layout, Amount(train_messages=most))[SAMPLE]
    groups = {(row["group_id"].rsplit("/", 1)[0], row["split"]) for row in table.rows_as_dicts()}
    return Counter(split for _, split in groups)


def test_about_so_many_train_messages_are_taken_and_all_of_dev(layout: Layout) -> None:
    everything = _messages(layout, None)
    some = _messages(layout, 80)
    assert 200 < everything["train"] <= 240 and everything["dev"] > 0
    assert 55 < some["train"] < 105
    assert some["dev"] == everything["dev"]
    assert _messages(layout, 9_999) == everything


def test_what_is_written_is_found_again_by_origin(layout: Layout) -> None:
    tables = write_all([_source()], layout, Amount())
    assert {name: table.fingerprint for name, table in written(layout).items()} == {
        name: table.fingerprint for name, table in tables.items()
    }
    assert set(tables) == {SYNTHETIC, SAMPLE}
