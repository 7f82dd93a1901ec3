from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from thread_embed_assets.chat.disentangle import disentangle
from thread_embed_assets.chat.model import Kind, Message, Split
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.features import READ
from thread_embed_assets.reranker.replay import SILVER, OpenThreads, Turn, log_channel, masked, table_channels
from thread_embed_assets.sources.irc import AnnotatedLog, annotated_logs
from thread_embed_assets_tests.chat.planted import NOON, Stored, sentences, store
from thread_embed_assets_tests.chat.talks import annotated_babble, said, write_log

MASKER = Masker("made", b"0123456789abcdef", {})


def turn(name: str, *continues: str, begins: str = "", split: Split = Split.TRAIN, time: float = 0.0) -> Turn:
    return Turn(Message(name, "p_00000000aa", name, time), begins or name, continues, split)


def told(threads: OpenThreads, count: int = 99, split: Split = Split.TEST) -> list[tuple[str, list[str], int]]:
    return [(t.id, [m.id for m in t.messages], t.turns_since) for t in threads.active(count, split)]


def one_log(folder: Path, messages: list[Message], first_annotated: int = 0) -> AnnotatedLog:
    write_log(folder, "train/2012-03-01.train-a", messages, first_annotated)
    (log,) = annotated_logs(folder, Split.TRAIN)
    return log


def turns_of(log: AnnotatedLog) -> list[Turn]:
    return list(log_channel(log, masked(log, MASKER, "irc"), "made").turns)


def test_threads_come_the_latest_first_with_the_turns_of_others_since() -> None:
    threads = OpenThreads()
    assert told(threads) == []
    for one in (turn("a"), turn("b"), turn("c", "b"), turn("d"), turn("e", "a")):
        threads.take(one)
    assert told(threads) == [("a", ["a", "e"], 0), ("d", ["d"], 1), ("b", ["b", "c"], 2)]
    assert [t.id for t in threads.active(2)] == ["a", "d"]
    assert [t.id for t in threads.named(["b", "a"])] == ["a", "b"]


def test_threads_that_a_message_joins_are_one_in_time_order_under_the_older_id() -> None:
    threads = OpenThreads()
    for number, one in enumerate((turn("a"), turn("b"), turn("c", "a"), turn("d", "b"), turn("e", "b", "a"))):
        one.message.time = float(number)
        threads.take(one)
    assert told(threads) == [("a", ["a", "b", "c", "d", "e"], 0)]


def test_of_a_long_thread_the_first_message_and_the_latest_are_kept() -> None:
    threads = OpenThreads()
    threads.take(turn("first"))
    for number in range(READ + 10):
        threads.take(turn(f"m{number}", "first"))
    ((_, ids, _),) = told(threads)
    assert len(ids) == READ
    assert ids[:2] == ["first", "m11"]
    assert ids[-1] == f"m{READ + 9}"


def test_the_longest_silent_thread_is_forgotten_and_what_continues_it_is_known_by_its_name() -> None:
    threads = OpenThreads(most=2)
    for one in (turn("a"), turn("b"), turn("c", "a"), turn("d")):
        threads.take(one)
    assert [name for name, _, _ in told(threads)] == ["d", "a"]
    threads.take(turn("e", "b"))
    assert told(threads)[0] == ("b", ["e"], 0)


def test_what_is_held_out_later_is_no_candidate_earlier() -> None:
    threads = OpenThreads()
    for split in Split:
        threads.take(turn(str(split), split=split))
    assert [[name for name, _, _ in told(threads, split=split)] for split in Split] == [
        ["train"],
        ["dev", "train"],
        ["test", "dev", "train"],
    ]


def test_a_log_is_masked_as_the_tables_are(tmp_path: Path) -> None:
    messages = said([("arvel", "brisca: mail me at arvel@example.com"), ("", "brisca has joined"), ("brisca", "ok arvel")])
    messages[1].kind = Kind.SYSTEM
    log = one_log(tmp_path, messages)
    first, server, last = masked(log, MASKER, "irc")
    arvel, brisca = (MASKER.person(name) for name in ("arvel", "brisca"))
    assert (first.author, last.author, last.text) == (arvel, brisca, f"ok <@{arvel}>")
    assert first.text.startswith(f"<@{brisca}>: mail me at ")
    assert not any(name in message.text for message in (first, last) for name in ("arvel", "brisca", "@example"))
    assert server.kind is Kind.SYSTEM
    assert log.messages[0].author == "arvel", "the log itself keeps its names, for the disentangler"


def test_turns_of_a_log_follow_the_annotation_up_to_each_message(tmp_path: Path) -> None:
    """Line 4 joins the threads of lines 1 and 2, two until then; line 3 is the server's, and 5 answers only it."""
    messages = said(
        [(name, f"{name} says something") for name in ("arvel", "brisca", "corvin", "", "dellwyn", "emberly", "fen")]
    )
    messages[3].kind = Kind.SYSTEM
    for line, parents in ((1, ("0",)), (4, ("1", "2")), (5, ("3",)), (6, ("2",))):
        messages[line].parents = parents
    log = one_log(tmp_path, messages)
    name = log.name
    found = [(t.message.id, t.continues, t.asked) for t in turns_of(log)]
    assert found == [
        (f"{name}:0", (), True),
        (f"{name}:1", (f"{name}:0",), True),
        (f"{name}:2", (), True),
        (f"{name}:4", (f"{name}:2", f"{name}:0"), True),
        (f"{name}:5", (), False),
        (f"{name}:6", (f"{name}:0",), True),
    ]
    threads = OpenThreads()
    for one in turns_of(log):
        threads.take(one)
    assert [t.id for t in threads.active(9)] == [f"{name}:0", f"{name}:5"]


def test_the_context_of_a_log_has_the_disentanglers_threads_and_is_not_asked_about(tmp_path: Path) -> None:
    messages = annotated_babble(120, 3)
    log = one_log(tmp_path, messages, first_annotated=100)
    turns = turns_of(log)
    assert [t.asked for t in turns] == [False] * 100 + [True] * 20
    threads = OpenThreads()
    for one in turns[:100]:
        threads.take(one)
    guessed = {frozenset(m.id for m in thread) for thread in disentangle(log.messages[:100])}
    assert {frozenset(m.id for m in t.messages) for t in threads.active(999)} == guessed
    assert len(guessed) < 100


def test_channels_of_tables_are_replayed_in_the_order_of_their_messages(tmp_path: Path) -> None:
    """Conversations lie one after the other in the table, but their messages interleave."""
    some = [
        Stored("x", sentences(3, 1), channel="b", start=NOON, step=100.0),
        Stored("y", sentences(2, 2), channel="b", start=NOON + 50, step=100.0, split="dev"),
        Stored("z", sentences(2, 3), channel="a", start=NOON + 900, split="test"),
    ]
    found = {
        channel.name: [(t.message.id, t.begins, t.continues, t.split, t.asked) for t in channel.turns]
        for channel in table_channels(store(tmp_path / "c.duckdb", some))
    }
    assert found == {
        "a": [("z-0", "z", (), "test", True), ("z-1", "z", ("z",), "test", True)],
        "b": [
            ("x-0", "x", (), "train", True),
            ("y-0", "y", (), "dev", True),
            ("x-1", "x", ("x",), "train", True),
            ("y-1", "y", ("y",), "dev", True),
            ("x-2", "x", ("x",), "train", True),
        ],
    }


def test_predicted_threads_are_marked_and_only_tested_on_and_guessed_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    tables = store(path, [Stored("x", sentences(2, 1)), Stored("y", sentences(2, 2), split="test")])
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE conversations SET truth = 'predicted'")
    (channel,) = table_channels(tables)
    assert channel.origin == f"made{SILVER}"
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE conversations SET truth = 'guessed'")
    with pytest.raises(InputError, match="threads of made are guessed"):
        list(table_channels(tables))


def test_asked_of_predicted_threads_is_only_the_test_split(tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    tables = store(path, [Stored("x", sentences(2, 1)), Stored("y", sentences(2, 2), split="test", start=NOON + 1)])
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE conversations SET truth = 'predicted'")
    asked = [(t.begins, t.asked) for channel in table_channels(tables) for t in channel.turns]
    assert asked == [("x", False), ("y", True), ("x", False), ("y", True)]


def test_a_source_without_times_is_refused(tmp_path: Path) -> None:
    tables = store(tmp_path / "c.duckdb", [Stored("x", sentences(2, 1), start=None)])
    with pytest.raises(InputError, match="has no time"):
        for channel in table_channels(tables):
            list(channel.turns)


def test_a_log_with_guessed_threads_keeps_what_was_marked(tmp_path: Path) -> None:
    """Threads grow as the disentangler links; right is the guessed thread that holds the message marked as answered."""
    log = one_log(tmp_path, annotated_babble(150, 5), first_annotated=50)
    turns = list(log_channel(log, masked(log, MASKER, "irc"), "made", guessed=True).turns)
    threads = OpenThreads()
    place: dict[str, str] = {}
    for one in turns:
        line = int(one.message.id.rpartition(":")[2])
        if one.asked:
            assert one.right == tuple(place[log.messages[parent].id] for parent in sorted(log.parents[line], reverse=True))
        threads.take(one)
        place = {message.id: thread.id for thread in threads.active(999) for message in thread.messages}
    guessed = {frozenset(m.id for m in thread) for thread in disentangle(log.messages)}
    assert {frozenset(m.id for m in t.messages) for t in threads.active(999)} == guessed
    wrong = [one for one in turns if one.asked and one.right[:1] != one.continues[:1]]
    assert 0 < len(wrong) < 50
