from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import duckdb
import numpy as np
import numpy.typing as npt
import pytest

from thread_embed_assets.benchmark.by_window import ByWindow, windows
from thread_embed_assets.benchmark.embeddings import Role, unit
from thread_embed_assets.benchmark.retrievers import Bm25, tokens
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.search import index
from thread_embed_assets.search.index import Updated, is_current, update
from thread_embed_assets.search.ranking import load
from thread_embed_assets_tests.benchmark.stored import WORDS, HashEncoder, Thread, talk, talks, write_conversations


def stored(path: Path, threads: Sequence[Thread]) -> Normalised:
    return Normalised(*write_conversations(path, threads))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made.index.duckdb"


def test_a_second_run_embeds_nothing_and_a_third_what_has_changed(tmp_path: Path, file: Path) -> None:
    threads, encoder = talks(12), HashEncoder()
    room = stored(tmp_path / "a.duckdb", threads)
    assert not is_current(file, room, encoder, "plain")
    assert update(file, room, encoder, "plain") == Updated(12, 12, 0)
    assert is_current(file, room, encoder, "plain")
    seen = len(encoder.seen)
    assert update(file, room, encoder, "plain") == Updated(12, 0, 0)
    assert len(encoder.seen) == seen
    longer = Thread("c0003", [*threads[3].lines, threads[3].lines[0]], start=threads[3].start)
    moved = Thread("c0004", threads[4].lines, start=threads[4].start, channel="elsewhere")
    changed = [*threads[:3], longer, moved, *threads[6:], talk(99, Random(5), start=1.6e9)]
    room = stored(tmp_path / "b.duckdb", changed)
    assert not is_current(file, room, encoder, "plain")
    assert update(file, room, encoder, "plain") == Updated(12, 3, 3)  # c0005 is gone, c0003 and c0004 are replaced
    found = load(file)
    assert sorted(found.ids) == sorted(thread.id for thread in changed)
    assert found.channels[found.ids.index("c0004")] == "elsewhere"


def test_it_holds_what_a_fresh_one_would(tmp_path: Path, file: Path) -> None:
    grown, fresh = stored(tmp_path / "a.duckdb", talks(6)), stored(tmp_path / "b.duckdb", talks(9, seed=2))
    for room in (grown, fresh):
        update(file, room, HashEncoder(), "plain")
    update(tmp_path / "fresh.duckdb", fresh, HashEncoder(), "plain")
    query = unit(HashEncoder().encode([" ".join(WORDS[:6])], "query").astype(np.float32))
    scores = []
    for path in (file, tmp_path / "fresh.duckdb"):
        found = load(path)
        every = np.arange(len(found.ids))
        bm25, worth = found.weights(WORDS[:6], every)
        dense = np.round(found.dense(query, every), 4)
        scores.append((sorted(zip(found.ids, bm25.tolist(), dense.tolist(), strict=True)), worth))
    assert scores[0] == scores[1]


def test_words_and_meaning_are_scored_as_in_the_benchmark(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thread_embed_assets.search.ranking._AT_ONCE", 7)
    room, encoder = stored(tmp_path / "a.duckdb", talks(25)), HashEncoder(size=256)
    update(file, room, encoder, "plain")
    found = load(file)
    texts = {c.id: FORMATS["plain"].render(c.messages) for c in read_conversations(room.conversations, room.messages)}
    documents = [texts[name] for name in found.ids]
    one, other = documents[3].split()[:2]
    query = f"{one} the {other} {one} nowhere {WORDS[17]}"
    [words] = tokens([query])
    some = np.array([0, 3, 4, 11, 24])
    bm25, worth = found.weights(words, some)
    assert bm25 == pytest.approx(Bm25([query], documents).block(0, 1)[0][some], rel=1e-4)
    assert "nowhere" not in worth and worth[other] > 0
    parts = [windows(text) for text in documents]
    asked, whole, pieces = (
        unit(encoder.encode(some_texts, "document").astype(np.float32))
        for some_texts in ([query], documents, [part for document in parts for part in document])
    )
    by_window = ByWindow(asked, pieces, list(map(len, parts)), whole).block(0, 1)[0]
    assert found.dense(asked, some) == pytest.approx(by_window[some], abs=2e-3)
    place = 11
    start = sum(map(len, parts[:place]))
    nearest = pieces[start : start + len(parts[place])] @ asked[0]
    assert nearest[found.best_window(asked, place)] == pytest.approx(nearest.max(), abs=2e-3)


class Killed(HashEncoder):
    """Dies at the third part."""

    parts = 0

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[np.float64]:
        self.parts += 1
        if self.parts == 3:
            raise KeyboardInterrupt
        return super().encode(texts, role)


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PART_TEXTS", 20)
    room = stored(tmp_path / "a.duckdb", talks(20))
    with pytest.raises(KeyboardInterrupt):
        update(file, room, Killed(), "plain")
    assert not is_current(file, room, HashEncoder(), "plain")
    done = len(load(file).ids)
    assert 0 < done < 20
    told: list[tuple[int, int]] = []
    assert update(file, room, HashEncoder(), "plain", lambda *far: told.append(far)) == Updated(20, 20 - done, 0)
    assert len(told) > 1 and told == sorted(told) and told[-1] == (20, 20)
    assert is_current(file, room, HashEncoder(), "plain")


def test_after_a_run_that_was_killed_what_stood_there_before_is_not_taken_for_whole(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_PART_TEXTS", 20)
    before, after = stored(tmp_path / "a.duckdb", talks(20)), stored(tmp_path / "b.duckdb", talks(20, seed=2))
    update(file, before, HashEncoder(), "plain")
    with pytest.raises(KeyboardInterrupt):
        update(file, after, Killed(), "plain")
    assert not is_current(file, before, HashEncoder(), "plain")
    assert update(file, before, HashEncoder(), "plain").embedded > 0
    assert is_current(file, before, HashEncoder(), "plain")


@pytest.mark.parametrize("damage", ["cut", "text", "another table", "another model", "another version", "empty"])
def test_a_file_that_does_not_fit_is_made_anew(
    tmp_path: Path, file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    room = stored(tmp_path / "a.duckdb", talks(5))
    update(file, room, HashEncoder("other" if damage == "another model" else "fake"), "plain")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "text":
        file.write_text("not a database")
    elif damage in ("another table", "another version", "empty"):
        statement = {
            "another table": "ALTER TABLE search_index RENAME TO something",
            "another version": "UPDATE search_index SET version = 0",
            "empty": "DELETE FROM search_index",
        }[damage]
        with duckdb.connect(str(file)) as connection:
            connection.execute(statement)
    assert not is_current(file, room, HashEncoder(), "plain")
    assert update(file, room, HashEncoder(), "plain") == Updated(5, 5, 0)
    assert "it is made anew" in caplog.text
    assert len(load(file).ids) == 5


def test_while_another_process_writes_there_is_a_clear_error(tmp_path: Path, file: Path) -> None:
    room = stored(tmp_path / "a.duckdb", talks(3))
    update(file, room, HashEncoder(), "plain")
    code = f"import duckdb; c = duckdb.connect({str(file)!r}); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        for act in (lambda: is_current(file, room, HashEncoder(), "plain"), lambda: load(file)):
            with pytest.raises(InputError, match="another process is writing to this index"):
                act()
        other.communicate("\n")
    assert is_current(file, room, HashEncoder(), "plain")


def test_vectors_that_are_not_finite_leave_the_index_as_it_was(tmp_path: Path, file: Path) -> None:
    class Broken(HashEncoder):
        def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[np.float64]:
            return np.full((len(texts), 4), np.nan)

    room = stored(tmp_path / "a.duckdb", talks(3))
    with pytest.raises(InputError, match="not finite"):
        update(file, room, Broken(), "plain")
    assert load(file).ids == []
    assert update(file, room, HashEncoder(), "plain") == Updated(3, 3, 0)


def test_threads_that_say_nothing_are_left_out(tmp_path: Path, file: Path) -> None:
    silent = Thread("silent", [("p_0000000001", "<@p_0000000002>"), ("p_0000000002", "  ")])
    assert update(file, stored(tmp_path / "a.duckdb", [silent, *talks(2)]), HashEncoder(), "plain") == Updated(2, 2, 0)
