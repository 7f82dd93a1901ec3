from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Conversation, Kind, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import irc
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.fetch import RawDataset

from .conftest import MakeSource

DAY = "2009-03-01"


def write(folder: Path, lines: Sequence[str], links: Sequence[tuple[int, int]], name: str = f"train/{DAY}.train-a") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ascii.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    (folder / f"{name}.annotation.txt").write_text("".join(f"{a} {b} - \n" for a, b in links), encoding="utf-8")


@pytest.fixture
def read(tmp_path: Path, make_source: MakeSource) -> Callable[..., list[Conversation]]:
    source = make_source("irc_annotated", platform="irc", truth="annotated")

    def reader(lines: Sequence[str], links: Sequence[tuple[int, int]], **more: str) -> list[Conversation]:
        write(tmp_path, lines, links, **more)
        return list(irc.parse(tmp_path, source))

    return reader


Read = Callable[[Sequence[str], Sequence[tuple[int, int]]], list[Conversation]]


def texts(conversations: Sequence[Conversation]) -> list[list[str]]:
    return [[message.text for message in conversation.messages] for conversation in conversations]


def iso(time: float | None) -> str:
    assert time is not None
    return datetime.fromtimestamp(time, UTC).strftime("%m-%d %H:%M")


def test_annotations_count_the_logs_lines_from_zero(read: Read) -> None:
    # Were lines counted from 1, or from the first annotated one, no reply would start with its parent's nick.
    lines = [f"[10:{n:02}] <nick{n}> nick{n - 2}: so it is" for n in range(60)]
    for conversation in read(lines, [(n - 2, n) for n in range(50, 60)]):
        by_id = {message.id: message for message in conversation.messages}
        replies = [message for message in conversation.messages if message.parents]
        assert len(replies) == 5
        assert all(reply.text.startswith(by_id[reply.parents[0]].author + ":") for reply in replies)


def test_components_parents_and_ids(read: Read) -> None:
    lines = [f"[10:0{n}] <n{n}> text {n}" for n in range(8)]
    found = read(lines, [(2, 4), (3, 3), (3, 5), (2, 5), (6, 6), (7, 7), (7, 6), (4, 4), (2, 4)])
    place = f"train/{DAY}.train-a"
    assert texts(found) == [["text 2", "text 3", "text 4", "text 5"], ["text 6", "text 7"]]
    assert [conversation.id for conversation in found] == [f"{place}:2", f"{place}:6"]
    first, second = found
    assert first.messages[3].id == f"{place}:5"
    assert first.messages[3].parents == (f"{place}:2", f"{place}:3"), "all parents of a message are kept"
    assert first.messages[2].parents == (f"{place}:2",)
    assert second.messages[1].parents == (f"{place}:6",), "the earlier line is the parent, whichever comes first in the link"
    assert first.published_split is Split.TRAIN
    assert (first.channel, first.origin) == ("ubuntu", f"{place}.ascii.txt")


@given(
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40),
    st.lists(st.integers(0, 24 * 60 - 1), min_size=30, max_size=30),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_links_give_a_partition_in_time_order(read: Read, links: list[tuple[int, int]], minutes: list[int]) -> None:
    lines = [f"[{m // 60:02}:{m % 60:02}] <n{n}> {n}" for n, m in enumerate(minutes)]
    found = [[int(text) for text in conversation] for conversation in texts(read(lines, links))]
    linked = [n for conversation in found for n in conversation]
    assert sorted(linked) == sorted({n for link in links for n in link}), "each linked line is in exactly one conversation"
    home = {n: position for position, conversation in enumerate(found) for n in conversation}
    assert all(home[a] == home[b] for a, b in links)
    apart = {n: {n} for n in home}  # merged one link at a time: slow, and plainly right
    for a, b in links:
        merged = apart[a] | apart[b]
        for n in merged:
            apart[n] = merged
    assert len(found) == len({frozenset(group) for group in apart.values()})
    for conversation in read(lines, links):
        times = [message.time or 0.0 for message in conversation.messages]
        assert times == sorted(times)


def test_kinds_of_lines(read: Read) -> None:
    lines = [
        "=== anna [~a@host] has joined #ubuntu",
        "[10:00] <anna> hello <b> there",
        "[10:00]  * bert waves at anna",
        "[10:01] <ubottu> anna: see the wiki",
        "[10:01] <FloodBot2> anna: do not flood",
        "[10:02] <mikebot> I am a person",
        "[10:02] -spam:#ubuntu- buy this",
        "[10:03] <cleo>",
    ]
    messages = [conversation.messages[0] for conversation in read(lines, [(n, n) for n in range(len(lines))])]
    assert [(message.author, message.text, message.kind) for message in messages] == [
        ("", "anna [~a@host] has joined #ubuntu", Kind.SYSTEM),
        ("anna", "hello <b> there", Kind.TEXT),
        ("bert", "waves at anna", Kind.TEXT),
        ("ubottu", "anna: see the wiki", Kind.BOT),
        ("FloodBot2", "anna: do not flood", Kind.BOT),
        ("mikebot", "I am a person", Kind.TEXT),
        ("", "-spam:#ubuntu- buy this", Kind.SYSTEM),
        ("cleo", "", Kind.TEXT),
    ]


def test_context_enters_only_where_a_link_reaches_it(read: Read) -> None:
    lines = [f"[10:00] <n{n}> {n}" for n in range(1003)]
    assert texts(read(lines, [(4, 1000), (1001, 1001), (1001, 1002)])) == [["4", "1000"], ["1001", "1002"]]


def test_the_roster_holds_everybody_who_speaks_under_each_nick(read: Read) -> None:
    lines = [
        "[10:00] <anna> nobody answers",
        "=== anna is now known as anna_away",
        "=== ghost [~g@host] has joined #ubuntu",
        "=== ghost is now known as the",
        "[10:01]  * bert nods",
        "[10:02] <cleo> hi",
    ]
    [conversation] = read(lines, [(5, 5)])
    assert conversation.roster == {"anna", "anna_away", "bert", "cleo"}


def test_only_a_newline_ends_a_line(read: Read) -> None:
    lines = ["[10:00] <anna> one\x0ctwo\x85three\u2028four\x1dfive", "[10:01] <bert> next"]
    [conversation] = read(lines, [(0, 1)])
    assert [message.author for message in conversation.messages] == ["anna", "bert"]
    assert conversation.messages[0].text == "one\x0ctwo\x85three\u2028four\x1dfive"


@pytest.mark.parametrize(
    ("clock", "first_annotated", "expected"),
    [
        (["21:30", "23:59", "00:01", "02:00"], 0, ["03-01 21:30", "03-01 23:59", "03-02 00:01", "03-02 02:00"]),
        (["21:30", "23:59", "00:01", "02:00"], 3, ["02-28 21:30", "02-28 23:59", "03-01 00:01", "03-01 02:00"]),
        (["12:18", "12:59", "01:00", "03:01"], 0, ["03-01 12:18", "03-01 12:59", "03-01 13:00", "03-01 15:01"]),
        (["10:05", "10:04", "10:06"], 0, ["03-01 10:05", "03-01 10:05", "03-01 10:06"]),
        (["10:05", "10:05", "10:05"], 0, ["03-01 10:05", "03-01 10:05", "03-01 10:05"]),
    ],
    ids=["midnight", "the date is the first annotated line's", "12-hour clock", "clock set back", "no seconds are made up"],
)
def test_times(read: Read, clock: list[str], first_annotated: int, expected: list[str]) -> None:
    lines = [f"[{time}] <n> {n}" for n, time in enumerate(clock)]
    last = len(lines) - 1
    links = [(n, n if n >= first_annotated else last) for n in range(len(lines))]
    found = {int(m.text): iso(m.time) for conversation in read(lines, links) for m in conversation.messages}
    assert [found[n] for n in range(len(lines))] == expected


@pytest.mark.parametrize(
    ("links", "place", "problem"),
    [
        ("0 1 -\n1 3 -\n", ".annotation.txt:2", "line 3 .*the log has 3 lines"),
        ("0 1 -\none 1 -\n", ".annotation.txt:2", "two line numbers"),
        ("0\n", ".annotation.txt:1", "two line numbers"),
        ("-1 0 -\n", ".annotation.txt:1", "two line numbers"),
    ],
)
def test_a_broken_annotation_is_named_with_its_line(
    tmp_path: Path, make_source: MakeSource, links: str, place: str, problem: str
) -> None:
    write(tmp_path, ["[10:00] <a> x"] * 3, [])
    (tmp_path / f"train/{DAY}.train-a.annotation.txt").write_text(links, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        list(irc.parse(tmp_path, make_source("irc_annotated")))
    assert caught.value.place.endswith(place)


def test_an_annotation_without_its_log_and_a_log_without_a_date_are_refused(tmp_path: Path, make_source: MakeSource) -> None:
    source: Source = make_source("irc_annotated")
    write(tmp_path, ["[10:00] <a> x"], [(0, 0)], name="dev/2009-13-01")
    with pytest.raises(InputError, match="date"):
        list(irc.parse(tmp_path, source))
    (tmp_path / "dev/2009-13-01.ascii.txt").unlink()
    with pytest.raises(InputError, match=r"ascii\.txt: the file is missing"):
        list(irc.parse(tmp_path, source))


@pytest.mark.real_data
def test_the_published_counts_and_the_line_offset(real_source: Callable[[str], tuple[Source, RawDataset]]) -> None:
    source, raw = real_source("irc_disentangle")
    links: Counter[Split | None] = Counter()
    annotated: Counter[Split | None] = Counter()
    long: Counter[Split | None] = Counter()
    replies = with_nick = 0
    for conversation in irc.parse(raw.folder, source):
        split = conversation.published_split
        long[split] += sum(message.kind is not Kind.SYSTEM for message in conversation.messages) >= 3
        by_id = {message.id: message for message in conversation.messages}
        for message in conversation.messages:
            if int(message.id.rpartition(":")[2]) >= 1000:
                annotated[split] += 1
                links[split] += max(1, len(message.parents))  # a start is linked to itself
            for parent in (by_id[parent] for parent in message.parents):
                if split is Split.TRAIN and Kind.SYSTEM not in (message.kind, parent.kind):
                    replies += 1
                    with_nick += message.text.lower().startswith(parent.author.lower())
    assert annotated == {Split.TRAIN: 67_463, Split.DEV: 2_500, Split.TEST: 5_000}
    # Of the 69,395 links of train, 38 link a message to itself that is linked to parents, too.
    assert links == {Split.TRAIN: 69_395 - 38, Split.DEV: 2_607, Split.TEST: 5_187}
    assert long == {Split.TRAIN: 4_344, Split.DEV: 178, Split.TEST: 296}
    assert with_nick / replies == pytest.approx(0.453, abs=0.002), "at a wrong line offset it is 0.088"
