from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.store_roundtrip import (
    HeldOut,
    finds_what_exact_search_finds,
    held_out,
    recall,
    results_table,
    round_trip,
    round_trip_of,
)
from thread_embed_assets.release.stores import choose
from thread_embed_assets.release.stores.choose import STORES, Kind
from thread_embed_assets.release.stores.duckdb_store import DuckDbStore
from thread_embed_assets.release.stores.vector_store import Found, IndexedThread, VectorStore, Where
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talks, write_conversations
from thread_embed_assets_tests.release.stores import behaviour


class Forgetful(DuckDbStore):
    """Drops every tenth vector that it is given."""

    def _write(self, threads: Sequence[IndexedThread], vectors: Vectors) -> None:
        kept = [place for place in range(len(threads)) if place % 10]
        super()._write([threads[place] for place in kept], vectors[kept])


class Deaf(DuckDbStore):
    """Does not listen to filters."""

    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        return super()._query(vector, top, Where())


class Boastful(DuckDbStore):
    def _query(self, vector: Vectors, top: int, where: Where) -> list[Found]:
        return [Found(found.id, found.score + 0.01) for found in super()._query(vector, top, where)]


@pytest.fixture
def held() -> HeldOut:
    threads = behaviour.threads(300)
    filters = [(Where(channel="room 1"), Where(participants=3))[n % 2] for n in range(20)]
    return HeldOut(threads, behaviour.vectors(20, seed=5), filters)


def _plant(monkeypatch: pytest.MonkeyPatch, kind: type[DuckDbStore]) -> None:
    def opened(folder: Path, collection: str, _: str) -> VectorStore:
        return kind(folder, collection)

    monkeypatch.setitem(choose.STORES, "duckdb", Kind(opened))


def _stored(layout: Layout, held: HeldOut) -> None:
    result = round_trip("duckdb", layout.store_roundtrip("duckdb").parent / "index", held)
    text = json.dumps(dataclasses.asdict(result))
    layout.store_roundtrip("duckdb").write_text(text)


def test_exact_search_finds_all_and_is_told(tmp_path: Path, held: HeldOut) -> None:
    layout = Layout(tmp_path)
    _stored(layout, held)
    verdict = finds_what_exact_search_finds(layout, "duckdb")
    assert verdict.passed, verdict.description
    assert verdict.numbers["recall@10"] == verdict.numbers["recall@10 with filters"] == 1.0
    assert verdict.numbers["kept"] == 300
    table = results_table(layout).splitlines()
    assert table[2].startswith("| duckdb | 300 | 1.000 | 1.000 | ")
    assert [line.split(" | ")[0] for line in table[3:]] == [f"| {name}" for name in STORES if name != "duckdb"]
    assert all("NOT RUN" in line for line in table[3:])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Forgetful, "270 of 300 threads were there when it was opened again"),
        (Forgetful, r"recall@10 is 0\.\d+, below 0.99"),
        (Deaf, r"recall@10 with filters is 0\.\d+, below 0.99"),
        (Boastful, r"a score is 0\.01\d* from the cosine"),
    ],
)
def test_a_faulty_store_is_caught(
    kind: type[DuckDbStore], said: str, tmp_path: Path, held: HeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(monkeypatch, kind)
    _stored(Layout(tmp_path), held)
    verdict = finds_what_exact_search_finds(Layout(tmp_path), "duckdb")
    assert not verdict.passed
    assert re.search(said, verdict.description), verdict.description


def test_recall_counts_equals_and_nothing_twice() -> None:
    cosines = np.array([0.9, *[0.5] * 11, 0.1, -np.inf])
    places = {f"t{n}": n for n in range(len(cosines))}

    def of(*numbers: int) -> float:
        return recall([Found(f"t{n}", 0.0) for n in numbers], cosines, places)

    assert of(0, *range(1, 10)) == 1.0 == of(0, *range(3, 12)), "any of those that are equally near"
    assert of(0, *range(1, 9), 12) == 0.9 == of(0, *range(1, 9), 13), "one too far, and one kept out"
    assert of(0, 0, *range(1, 9)) == 0.9
    assert recall([], np.array([-np.inf]), {"t0": 0}) == 1.0, "nothing was to be found"
    assert recall([Found("t0", 0.0)], np.array([-np.inf]), {"t0": 0}) == 0.0


def test_the_held_out_threads_are_those_of_the_test_split(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_conversations(layout.conversations("made"), talks(12, dev=4))
    write_conversations(layout.conversations("other"), talks(6, seed=2, channel="random"), source="other")
    held = held_out(layout, "plain", HashEncoder(), threads=100, queries=5)
    assert len(held.threads) == 14 and len(held.queries) == len(held.filters) == 5
    assert {thread.id.split("/")[0] for thread in held.threads} == {"made", "other"}
    assert {thread.channel for thread in held.threads} == {"made/general", "other/random"}
    assert all(thread.participants in (2, 3) and thread.time and thread.text for thread in held.threads)
    again = held_out(layout, "plain", HashEncoder(), threads=7, queries=5)
    assert len(again.threads) == 7
    assert {thread.id for thread in again.threads} < {thread.id for thread in held.threads}


def test_without_held_out_threads_or_a_server_the_remedy_is_named(tmp_path: Path, tiny_model: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(InputError, match="no source has held-out threads"):
        held_out(layout, "plain", HashEncoder(), 10, 5)
    with pytest.raises(InputError, match=r"NOT RUN: no server is named\. Set THREAD_EMBED_WEAVIATE_URL"):
        round_trip_of("weaviate", layout, str(tiny_model), 10, 5)
    with pytest.raises(InputError, match="has not been asked yet"):
        finds_what_exact_search_finds(layout, "duckdb")
    layout.store_roundtrip("duckdb").parent.mkdir(parents=True)
    layout.store_roundtrip("duckdb").write_text("{}")
    with pytest.raises(InputError, match="the file is damaged"):
        results_table(layout)
