from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import Floats, Thread
from thread_embed_assets.reranker.features import READ, candidates_of
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.reranker.store_file import SIZE

ANN, BO, CY = (f"p_{number:010x}" for number in (1, 2, 3))


def said(name: str, text: str, time: float, author: str = ANN) -> Message:
    return Message(name, author, text, time)


def axis(number: int) -> Floats:
    return 3 * np.eye(1, SIZE, number, dtype=np.float32)[0]


def texts(threads: list[Thread]) -> list[list[str]]:
    return [[message.text for message in thread.messages] for thread in threads]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "threads.duckdb"


def test_what_is_added_is_there_after_opening_again(path: Path) -> None:
    first = Message("1", ANN, "is Norvik 2.1.0 out?", 10.5, parents=("0",))
    with ThreadStore(path) as store:
        thread = store.add(first, "general")
        assert store.add(said("2", "yes", 11.0, BO), "general", thread) == thread
        other = store.add(said("3", "who has the keys", 12.0), "general")
        store.rename(other, "Keys")
    with ThreadStore(path) as store:
        found = list(store.threads_before("general", 13.0))
    assert [(t.id, t.title, t.turns_since) for t in found] == [(other, "Keys", 0), (thread, "", 1)]
    assert found[1].messages == [first, said("2", "yes", 11.0, BO)]


def test_the_view_says_what_threads_are_about(path: Path) -> None:
    with ThreadStore(path) as store:
        thread = store.add(said("1", "the Norvik invoices are late", 60.0), "general")
        store.add(said("2", "ok", 120.0, BO), "general", thread)
    with duckdb.connect(str(path), read_only=True) as connection:
        columns = "thread_id, channel, epoch(started), epoch(last_active), messages, entities, keywords"
        (row,) = connection.execute(f"SELECT {columns} FROM thread_log").fetchall()
    assert row == (thread, "general", 60.0, 120.0, 2, ["norvik"], ["invoice", "late", "norvik"])


def test_a_message_added_again_stays_where_it_is(path: Path) -> None:
    with ThreadStore(path) as store:
        one, two = (store.add(said(name, "hello", 1.0), "general") for name in "12")
        assert one != two
        assert store.add(said("1", "hello", 1.0), "general", two) == one
        assert store.add(said("1", "hello", 1.0), "general") == one
        assert sum(len(t.messages) for t in store.threads_before("general", 9.0)) == 2
        with pytest.raises(InputError, match="another text"):
            store.add(said("1", "good bye", 1.0), "general")
        with pytest.raises(InputError, match="another text or channel"):
            store.add(said("1", "hello", 1.0), "random")


@pytest.mark.parametrize(
    ("message", "channel", "problem"),
    [
        (Message("1", ANN, "hello"), "general", "no time"),
        (said("1", "hello", float("nan")), "general", "no time"),
        (said("", "hello", 1.0), "general", "no id"),
        (said("1", "hello", 1.0), "", "no id, author or channel"),
        (said("1", "half a \ud83d", 1.0), "general", "Unicode"),
    ],
)
def test_what_cannot_be_kept_is_named(path: Path, message: Message, channel: str, problem: str) -> None:
    with ThreadStore(path) as store:
        with pytest.raises(InputError, match=problem):
            store.add(message, channel)
        with pytest.raises(InputError, match=problem):
            store.load([("general", [said("0", "first", 0.0)]), (channel, [message])])
        assert store.retrieve(said("2", "hello", 2.0), "general") == [], "half of what was loaded is there"


def test_threads_of_nowhere_are_refused(path: Path) -> None:
    with ThreadStore(path) as store:
        thread = store.add(said("1", "hello", 1.0), "general")
        for channel, thread_id in (("general", "t_none"), ("random", thread)):
            with pytest.raises(InputError, match="has no thread"):
                store.add(said("2", "hi", 2.0), channel, thread_id)
        with pytest.raises(InputError, match="no thread"):
            store.set_vectors({thread: axis(0), "t_none": axis(1)})
        assert store.without_vector() == [thread]
        for vector in (np.zeros(SIZE), np.full(SIZE, np.nan), np.ones(SIZE + 1)):
            with pytest.raises(InputError, match="direction"):
                store.retrieve(said("2", "hi", 2.0), "general", vector.astype(np.float32))
        with pytest.raises(InputError, match="limit"):
            store.retrieve(said("2", "hi", 2.0), "general", limit=0)


def test_an_empty_store_retrieves_nothing(path: Path) -> None:
    with ThreadStore(path) as store:
        assert store.retrieve(said("1", "hello <@p_0000000002>", 1.0), "general", axis(0)) == []
        assert list(store.threads_before("general", 9.0)) == []
        assert store.nearest(axis(0), 3) == []


def test_each_layer_finds_its_thread(path: Path) -> None:
    with ThreadStore(path) as store:
        named = store.add(said("named", "the Norvik order is late", 0.0, BO), "general")
        alike = store.add(said("alike", "we ride at dawn", 1.0, BO), "general")
        addressed = store.add(said("addressed", "lunch today", 2.0, CY), "general")
        own = store.add(said("own", "printer jams", 3.0), "general")
        crowd = [store.add(said(f"c{n}", "so it goes", 4.0 + n, BO), "general") for n in range(40)]
        store.add(said("elsewhere", "Norvik", 90.0), "random")
        store.set_vectors({alike: axis(1), named: axis(2)})
        asked = said("asked", f"<@{CY}> any news of norvik?", 100.0)
        found = [thread.id for thread in store.retrieve(asked, "general", axis(1))]
        assert found[:4] == [named, crowd[-1], addressed, alike]
        assert found[4:] == [crowd[-2], own, *reversed(crowd[-16:-2])]
        assert len(set(found)) == 20 and len(store.retrieve(asked, "general", axis(1), 99)) == 44
        assert [t.id for t in store.retrieve(asked, "general", limit=2)] == [named, crowd[-1]]


def test_a_rare_name_counts_more_than_common_words(path: Path) -> None:
    with ThreadStore(path) as store:
        rare = store.add(said("rare", "Norvik", 0.0), "general")
        common = [store.add(said(f"{n}", "the report of the meeting", 1.0 + n), "general") for n in range(9)]
        found = [t.id for t in store.retrieve(said("q", "report of the norvik meeting", 50.0), "general")]
        assert found[0] == rare and set(found) <= {rare, *common}


def test_a_name_counts_twice(path: Path) -> None:
    with ThreadStore(path) as store:
        named, *_ = (
            store.add(said(name, text, 1.0), "general") for name, text in (("1", "dark at the Mill"), ("2", "shut the mill"))
        )
        assert store.retrieve(said("q", "is the mill shut", 50.0), "general")[0].id == named


def test_only_the_past_is_seen(path: Path) -> None:
    with ThreadStore(path) as store:
        thread = store.add(said("1", "hello", 100.0), "general")
        store.add(said("2", "the Norvik keys", 200.0), "general", thread)
        late = store.add(said("3", "Norvik again", 300.0), "general")
        store.set_vectors({thread: axis(1), late: axis(1)})
        early = store.retrieve(said("q", "Norvik", 150.0), "general", axis(1))
        assert texts(early) == [["hello"]] and early[0].turns_since == 0
        assert texts(store.retrieve(said("q", "Norvik", 99.0), "general", axis(1))) == []
        assert texts(list(store.threads_before("general", 200.0))) == [["hello"]]
        assert texts(store.retrieve(said("2", "the Norvik keys", 200.0), "general", axis(1))) == [["hello"]]
        candidates_of(said("q", "Norvik", 150.0), early)


def test_messages_of_one_moment_are_told_apart_by_arrival(path: Path) -> None:
    with ThreadStore(path) as store:
        thread = store.add(said("1", "one", 5.0), "general")
        for name in ("two", "three"):
            store.add(said(name, name, 5.0), "general", thread)
        assert texts(store.retrieve(said("two", "two", 5.0), "general", axis(0))) == [["one"]]
        assert texts(store.retrieve(said("new", "new", 5.0), "general")) == [["one", "two", "three"]]
        other = store.add(said("4", "other", 5.0), "general")
        store.set_vectors({other: axis(0)})
        assert texts(store.retrieve(said("two", "two", 5.0), "general", axis(0))) == [["one"]]


def test_turns_count_messages_of_other_threads_of_the_channel(path: Path) -> None:
    with ThreadStore(path) as store:
        first, second = (store.add(said(name, name, float(n)), "general") for n, name in enumerate("ab"))
        store.add(said("x", "x", 2.0), "random")
        store.add(said("c", "c", 3.0), "general", second)
        found = {t.id: t.turns_since for t in store.retrieve(said("q", "q", 9.0), "general")}
        assert found == {first: 2, second: 0}


def test_long_threads_come_with_their_first_and_last_messages(path: Path) -> None:
    log = [said(f"{n}", f"line {n}", float(n)) for n in range(READ + 50)]
    with ThreadStore(path) as store:
        assert store.load([("general", log)]) == len(log)
        (thread,) = store.retrieve(said("q", "q", 9_999.0), "general")
    assert [m.id for m in thread.messages] == ["0", *(m.id for m in log[-(READ - 1) :])]
    assert len(thread.messages) == READ and thread.turns_since == 0


def test_loading_puts_turns_in_the_order_of_time_and_leaves_out_what_is_there(path: Path) -> None:
    log = [
        ("general", [said("a1", "one", 1.0), said("a2", "three", 3.0)]),
        ("general", [said("b1", "two", 2.0), Message("b2", ANN, "joined", 2.5, kind=Kind.SYSTEM)]),
        ("general", []),
    ]
    with ThreadStore(path) as store:
        assert store.load(log) == 3
        found = store.retrieve(said("q", "q", 9.0), "general")
        assert [(t.messages[0].id, t.turns_since) for t in found] == [("a1", 0), ("b1", 1)]
        log[1][1].append(said("b3", "four", 4.0))
        assert store.load([*log, log[1]]) == 1
        assert texts(store.retrieve(said("q", "q", 9.0), "general")) == [["two", "four"], ["one", "three"]]


def test_threads_can_be_asked_for_by_their_ids_and_messages(path: Path) -> None:
    with ThreadStore(path) as store:
        one = store.add(said("1", "one", 1.0), "general")
        two = store.add(said("2", "two", 2.0), "random")
        store.add(said("3", "three", 3.0), "general")
        assert [(t.id, t.messages[0].id, t.turns_since) for t in store.threads([two, one])] == [(two, "2", 0), (one, "1", 1)]
        assert store.thread_of("2") == two and store.thread_of("9") is None
        with pytest.raises(InputError, match="no thread 't_none'"):
            store.threads([one, "t_none"])


def test_vectors_follow_their_threads(path: Path) -> None:
    with ThreadStore(path) as store:
        one = store.add(said("1", "one", 1.0), "general")
        two = store.add(said("2", "two", 2.0), "random")
        assert store.without_vector() == [two, one]
        store.set_vectors({one: axis(1), two: axis(2)})
        assert store.without_vector() == []
        assert store.nearest(axis(1) + axis(2) / 2, 1) == [(one, pytest.approx(2 / 5**0.5))]
        assert [found for found, _ in store.nearest(axis(1), 5, channel="random")] == [two]
        store.add(said("3", "three", 3.0), "general", one)
        assert store.without_vector() == [one]
        store.set_vector(one, axis(3))
        assert store.nearest(axis(3), 1, channel="general") == [(one, pytest.approx(1.0))]
        assert [found for found, _ in store.nearest(axis(3), 5, time=2.5)] == [two]


def test_a_file_that_is_no_store_is_refused_and_kept(tmp_path: Path) -> None:
    for name, make in (("text", lambda p: p.write_text("hello" * 999)), ("other", lambda p: duckdb.connect(str(p)).close())):
        path = tmp_path / name
        make(path)
        before = path.read_bytes()
        with pytest.raises(InputError, match=r"DuckDB|not a store") as refused:
            ThreadStore(path)
        assert str(path) in str(refused.value) and path.read_bytes() == before


def test_another_process_is_told_who_has_the_file(path: Path) -> None:
    code = (
        "import pathlib, sys; from thread_embed_assets.reranker import store; store.ThreadStore(pathlib.Path(sys.argv[1]))"
    )
    with ThreadStore(path):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode and "another process has the thread store open" in done.stderr.splitlines()[-1]


def test_a_deleted_store_leaves_nothing_to_the_next(path: Path) -> None:
    with ThreadStore(path) as store:
        store.add(said("1", "hello", 1.0), "general")
        wal = path.with_name(path.name + ".wal")
        left_over = wal.read_bytes()
    path.unlink()
    wal.write_bytes(left_over)
    with ThreadStore(path) as store:
        assert list(store.threads_before("general", 9.0)) == []


@settings(max_examples=15)
@given(st.lists(st.tuples(st.text(max_size=20), st.integers(-5, 5)), max_size=6))
def test_any_text_is_kept_as_it_is(tmp_path_factory: pytest.TempPathFactory, wild: list[tuple[str, int]]) -> None:
    log = [said(f"{n}", text.encode(errors="ignore").decode(), float(time)) for n, (text, time) in enumerate(wild)]
    with ThreadStore(tmp_path_factory.mktemp("wild") / "threads.duckdb") as store:
        store.load([("general", log)])
        found = list(store.threads_before("general", 9.0))
    assert [m for t in found for m in t.messages] == sorted(log, key=lambda m: m.time or 0.0)
