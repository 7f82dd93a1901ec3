from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.chat import sketches
from thread_embed_assets.chat.near_copies import shingles
from thread_embed_assets.chat.sketches import HashedBlock, find_candidates, hashed_blocks, number, sketch
from thread_embed_assets.storage.tables import connect_read_only

from .planted import Stored, sentences, store

TALKS = [
    Stored("short", ["yes", "the kettle is not here today", "no"]),
    Stored("empty", []),
    Stored("held", sentences(4, "held"), split="test"),
    Stored("twice", [sentences(1, "again")[0]] * 2),
    Stored("wordless", ["!!", "🎉", "..."]),
    Stored("long", sentences(60, "long"), split="dev"),
]


def _block(tmp_path: Path, only: Sequence[bool] | None = None) -> HashedBlock:
    stored = store(tmp_path / "c.duckdb", TALKS)
    [block] = hashed_blocks("made", stored, "read", None if only is None else np.array(only))
    return block


def _hashes(talk: Stored) -> list[int]:
    return [h for text in talk.texts for h in shingles(text)]


def test_a_block_says_where_each_shingle_stands(tmp_path: Path) -> None:
    block = _block(tmp_path)
    spoken = [talk for talk in TALKS if talk.texts]
    assert block.ids.to_pylist() == [talk.id for talk in spoken]
    assert block.splits.tolist() == [talk.split for talk in spoken]
    assert block.ordinals.tolist() == [0, 2, 3, 4, 5]
    assert block.messages.tolist() == [len(talk.texts) for talk in spoken]
    assert block.shingles.tolist() == [len(_hashes(talk)) for talk in spoken]
    for place, talk in enumerate(spoken):
        rows = block.of == place
        assert block.hashed.shingles[rows].tolist() == _hashes(talk)
        assert block.positions[rows].tolist() == [n for n, text in enumerate(talk.texts) for _ in shingles(text)]


def test_only_some_are_read_and_keep_their_places(tmp_path: Path) -> None:
    block = _block(tmp_path, [False, True, True, False, False, True])
    assert block.ids.to_pylist() == ["held", "long"]
    assert block.ordinals.tolist() == [2, 5]
    assert block.hashed.shingles.tolist() == _hashes(TALKS[2]) + _hashes(TALKS[5])


def test_a_digest_is_of_all_words_wherever_messages_end(tmp_path: Path) -> None:
    words = " ".join(sentences(4, "held")).upper().split()
    cut = [" ".join(words[start:end]) + "!" for start, end in pairwise([0, *accumulate([3, 9]), len(words)])]
    other = [*cut[:-1], cut[-1] + " indeed"]
    stored = store(tmp_path / "c.duckdb", [Stored("cut", cut), Stored("other", other), *TALKS])
    [block] = hashed_blocks("made", stored, "read")
    digests = dict(zip(block.ids.to_pylist(), block.digests.tolist(), strict=True))
    assert digests["cut"] == digests["held"]
    assert digests["wordless"] == 0
    assert len(set(digests.values())) == len(digests) - 1


def test_each_shingle_of_a_conversation_is_distinct_once(tmp_path: Path) -> None:
    block = _block(tmp_path)
    of, hashes = block.distinct()
    expected = [(n, h) for n, talk in enumerate(t for t in TALKS if t.texts) for h in sorted(set(_hashes(talk)))]
    assert list(zip(of.tolist(), hashes.tolist(), strict=True)) == expected
    assert len(expected) < len(block.hashed.shingles)


def test_a_sketch_holds_the_smallest_hashes_and_a_stable_sample(tmp_path: Path) -> None:
    made = list(sketch("made", store(tmp_path / "c.duckdb", TALKS), tmp_path / "cache").rows_as_dicts())
    assert [row["ordinal"] for row in made] == [0, 2, 3, 4, 5]
    for row in made:
        talk = TALKS[row["ordinal"]]
        hashes = sorted(set(_hashes(talk)))
        assert (row["source"], row["conversation_id"], row["split"]) == ("made", talk.id, talk.split)
        assert set(row["hashes"]) == {*hashes[:6], *(h for h in hashes if h % 4 == 0)}
    assert [len(row["hashes"]) for row in made][::3] == [2, 0]
    assert len(made[4]["hashes"]) < 0.4 * len(set(_hashes(TALKS[5])))
    assert [row["digest"] is None for row in made] == [False, False, False, True, False]


def test_sketches_are_made_once_for_each_state_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first, longer = store(tmp_path / "c.duckdb", TALKS), store(tmp_path / "d.duckdb", TALKS[:2])
    other = sketch("chat_long", longer, cache).path
    made = sketch("chat", first, cache)
    with monkeypatch.context() as patched:
        patched.setattr(sketches, "hashed_blocks", None)
        assert sketch("chat", first, cache) == made
    texts_only = [Stored(t.id, [text.replace("kettle", "teapot") for text in t.texts], split=t.split) for t in TALKS]
    changed = store(tmp_path / "e.duckdb", texts_only)
    assert changed.conversations.fingerprint == first.conversations.fingerprint
    assert sketch("chat", changed, cache).path != made.path
    assert not made.path.exists()
    assert other.exists()


def _pairs(tmp_path: Path, sources: dict[str, list[Stored]], source: str) -> set[tuple[str, str, bool]]:
    names = list(sources)[: list(sources).index(source) + 1]
    made = [sketch(name, store(tmp_path / f"{name}.duckdb", sources[name]), tmp_path / "cache") for name in names]
    with connect_read_only(made) as connection:
        first = number(connection, sources)
        find_candidates(connection, first[source])
        ids = {first[name] + place: talk.id for name in names for place, talk in enumerate(sources[name])}
        rows = connection.execute("SELECT own, other, same FROM candidates").fetchall()
    assert len(rows) == len(set(rows))
    return {(ids[own], ids[other], same) for own, other, same in rows}


@pytest.mark.parametrize("joined_at_once", [1_000_000, 1])
def test_candidates_share_two_hashes_or_all_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined_at_once: int
) -> None:
    monkeypatch.setattr(sketches, "_JOINED_AT_ONCE", joined_at_once)
    alike = sentences(6, "alike")
    sources = {
        "first": [
            Stored("a", alike),
            Stored("b", [*alike[:5], *sentences(1, "b")]),
            Stored("strange", sentences(6, "strange")),
            Stored("tiny", ["yes it is", "no", "is it"]),
        ],
        "second": [
            Stored("again", alike),
            Stored("test", alike, split="test"),
            Stored("little", ["Yes, it is!", "No; is it?"]),
        ],
        "third": [Stored("later", alike)],
    }
    assert _pairs(tmp_path, sources, "first") == {("b", "a", False)}
    second = {("again", "a", True), ("again", "b", False), ("little", "tiny", True)}
    assert _pairs(tmp_path, sources, "second") == second


def test_what_is_posted_over_and_over_is_joined_with_its_first_place(tmp_path: Path) -> None:
    template = sentences(4, "template")
    talks = [Stored(f"t{n:02}", [f"{text} {n}" for text in template]) for n in range(60)]
    assert _pairs(tmp_path, {"made": talks}, "made") == {(talk.id, "t00", False) for talk in talks[1:]}
