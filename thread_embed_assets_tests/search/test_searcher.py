from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.search.filters import Filters
from thread_embed_assets.search.matches import Line
from thread_embed_assets.search.rooms import source_room
from thread_embed_assets.search.searcher import LONGEST_QUERY, Hit, Searcher
from thread_embed_assets.search.show import show
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talks, write_conversations
from thread_embed_assets_tests.search.team import (
    CAKE,
    DAY,
    MARCH,
    PEOPLE,
    THREADS,
    Said,
    team_searcher,
    touch_later,
    write_team,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
def encoder() -> HashEncoder:
    return HashEncoder(size=512)


@pytest.fixture(scope="module")
def searcher(root: Path, encoder: HashEncoder) -> Iterator[Searcher]:
    with team_searcher(root, encoder) as opened:
        yield opened


def first(searcher: Searcher, query: str, **filters: object) -> Hit:
    return searcher.search(query, Filters(**filters)).hits[0]  # type: ignore[arg-type]


def test_a_thread_is_found_and_the_matching_lines_are_told(searcher: Searcher) -> None:
    reply = searcher.search("printer jams on every page")
    assert (reply.searched, reply.threads, len(reply.hits)) == (3, 3, 3)
    hit = reply.hits[0]
    assert (hit.channel, len(hit.lines), f"{hit.started:%Y-%m-%d %H:%M}") == ("office", 7, "2025-03-03 11:06")
    assert hit.lines[1].matches and not hit.lines[5].matches
    assert [hit.lines[1].text[a:b] for a, b in hit.lines[1].marks] == ["printer", "jams", "every", "page"]
    assert [h.score for h in reply.hits] == sorted((h.score for h in reply.hits), reverse=True)


def test_its_owner_reads_names_and_the_model_does_not(searcher: Searcher, encoder: HashEncoder) -> None:
    hit = first(searcher, "did Tibbold Sarnow call the technician")
    assert hit.people == ("Quillona Vestrup", "Tibbold Sarnow", "Ondrake Pellwyn")
    assert [line.author for line in hit.lines[:3]] == ["Quillona Vestrup", "Quillona Vestrup", "Tibbold Sarnow"]
    assert hit.lines[2].text == "@Quillona Vestrup did you try another tray?"
    assert hit.lines[4].text.endswith("tomorrow, @Quillona Vestrup")
    read = "\n".join(encoder.seen).casefold()
    assert "did call the technician" in read
    for name in [*PEOPLE.values(), *PEOPLE, "quillona", "sarnow"]:
        assert name.casefold() not in read.split() and name.casefold() not in read


def test_no_name_is_written_outside_the_raw_files_and_the_private_table(
    searcher: Searcher, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    searcher.search("who called the technician, Quillona?", Filters(people=["Tibbold"]))
    layout = Layout(root / "home")
    kept = [path for path in layout.data.rglob("*") if path.is_file()]
    outside = [p for p in kept if not p.is_relative_to(layout.data / "raw") and not p.is_relative_to(layout.private)]
    assert any(p.name.endswith(".index.duckdb") for p in outside) and layout.people("team") in kept
    for path in outside:
        content = path.read_bytes().lower()
        assert not [name for name in (b"quillona", b"vestrup", b"tibbold", b"sarnow") if name in content], path
    assert "uillona" not in caplog.text and "ibbold" not in caplog.text


def test_filters_come_before_ranking(searcher: Searcher) -> None:
    assert first(searcher, "printer page", channels=["#OPS"]).channel == "ops"
    later = searcher.search("printer page", Filters(since=MARCH + DAY))
    assert sorted(len(hit.lines) for hit in later.hits) == [1, 3]
    reply = searcher.search("printer page", Filters(people=["ondrake", "quillona"]))
    assert (reply.searched, [len(hit.lines) for hit in reply.hits]) == (1, [7])
    nothing = searcher.search("printer page", Filters(channels=["ops"], people=["quillona"]))
    assert (nothing.hits, nothing.searched, nothing.threads) == ((), 0, 3)
    assert show(nothing, 5) == "no threads: the filters leave 0"
    assert searcher.search("printer page", top=0).hits == ()
    assert len(searcher.search("printer page", top=1).hits) == 1


@pytest.mark.parametrize("query", ["", "  \n\t", "?!", "Quillona", "@Tibbold Sarnow?"])
def test_a_query_that_says_nothing_is_an_error_with_a_remedy(searcher: Searcher, query: str) -> None:
    with pytest.raises(InputError, match=r"blank|no words besides names"):
        searcher.search(query)


@pytest.mark.parametrize(
    "query", ["is it the", "ünïcödé 日本語 🙂", "x" * 10_000, "'; DROP TABLE threads; --", "a\0b", "[URL] <@p_0000000000>"]
)
def test_wild_queries_are_answered(searcher: Searcher, query: str) -> None:
    reply = searcher.search(query, top=2)
    assert len(reply.hits) == 2 and all(len(hit.lines) for hit in reply.hits)
    assert LONGEST_QUERY < 10_000


def test_a_query_of_stop_words_alone_marks_no_word(searcher: Searcher) -> None:
    assert [line.marks for hit in searcher.search("is it the").hits for line in hit.lines if line.marks] == []


def test_the_same_question_has_the_same_answer_from_several_threads(searcher: Searcher) -> None:
    expected = searcher.search("billing deploy failed")
    found: list[object] = []
    askers = [threading.Thread(target=lambda: found.append(searcher.search("billing deploy failed"))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert found == [expected] * 4


def test_an_export_that_grows_is_searched_after_a_refresh(tmp_path: Path) -> None:
    encoder = HashEncoder(size=512)
    searcher = team_searcher(tmp_path, encoder)
    assert searcher.updated.embedded == 3
    seen = len(encoder.seen)
    more: dict[tuple[str, int], list[Said]] = {("ops", MARCH + 9 * DAY): [("U3", "the certificate of the gateway ran out")]}
    write_team(tmp_path / "export", {**THREADS, **more})
    touch_later(tmp_path / "export")
    assert searcher.search("certificate gateway").threads == 3
    assert searcher.refresh().embedded == 1
    assert len(encoder.seen) - seen < 4, "a query and the new thread"
    reply = searcher.search("certificate gateway")
    assert reply.threads == 4 and "certificate" in reply.hits[0].lines[0].text
    again = team_searcher(tmp_path, encoder)
    assert again.updated.embedded == 0 and again.threads == 4
    assert CAKE[0][1] in again.search("cake kitchen").hits[0].lines[0].text


def test_an_index_that_is_damaged_where_nobody_looked_is_made_anew(tmp_path: Path) -> None:
    searcher = team_searcher(tmp_path)
    [file] = (tmp_path / "home").rglob("*.index.duckdb")
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half:] = b"\0" * (len(content) - half)
    file.write_bytes(bytes(content))
    assert team_searcher(tmp_path).search("printer").hits == searcher.search("printer").hits


def test_a_source_stays_masked(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    write_conversations(layout.conversations("made"), talks(4))
    hit = Searcher(lambda: source_room("made", layout), HashEncoder(), "plain").search("bakatus").hits[0]
    assert set(hit.people) <= {"speaker_1", "speaker_2", "speaker_3"}
    assert hit.people[0] == "speaker_1" == hit.lines[0].author
    assert "p_0" not in "".join(line.text for line in hit.lines)


def test_the_terminal_is_shown_no_control_characters(searcher: Searcher) -> None:
    line = Line("m", "Ada\x1b[31m", None, "one\ntwo\x07\x9b three" + " four" * 200, True)
    hit = Hit("t", "ops", 0.5, None, None, ("Ada",), (line,))
    reply = searcher.search("printer jams on every page", top=1)
    shown = show(type(reply)((hit,), 1, 1), 3)
    assert shown.startswith("1. 0.500  ops  no date  1 message\n   > Ada [31m: one / two") and shown.endswith("…")
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert " lines …" in show(reply, 2)
