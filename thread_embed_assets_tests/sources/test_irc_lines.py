from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.irc_lines import Clock, People, conversations, decode, numbered_lines, said

from .conftest import MakeSource

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER_ENDS = date(2026, 10, 25).toordinal()  # 03:00 becomes 02:00
SUMMER_BEGINS = date(2026, 3, 29).toordinal()  # 02:00 becomes 03:00


def told(clock: Clock, day: int, *times: str) -> list[str]:
    found = [clock.local(day, int(time[:2]) * 60 + int(time[3:5]), int(time[6:] or 0)) for time in times]
    return [datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S") for time in found]


def test_the_hour_that_summers_end_repeats_is_told_by_the_clocks_fall() -> None:
    found = told(Clock(BERLIN), SUMMER_ENDS, "02:50:00", "02:59:30", "02:00:10", "02:45:00", "03:01:00")
    assert found == ["00:50:00", "00:59:30", "01:00:10", "01:45:00", "02:01:00"]


def test_the_hour_that_summers_begin_skips_is_none() -> None:
    assert told(Clock(BERLIN), SUMMER_BEGINS, "01:59:30", "03:00:10") == ["00:59:30", "01:00:10"]


def test_a_zone_that_changes_its_offset_within_an_hour_is_told_to_the_minute() -> None:
    # St. John's turned its clocks at 00:01 until 2011; on 2010-11-07 from 00:01 back to 23:01 of the day before.
    clock = Clock(ZoneInfo("America/St_Johns"))
    assert told(clock, date(2010, 11, 7).toordinal(), "00:00:30", "00:02:00") == ["02:30:30", "03:32:00"]


def test_a_clock_set_back_stands_still_until_it_has_caught_up() -> None:
    clock = Clock(ZoneInfo("UTC"))
    assert told(clock, 738_000, "10:05:00", "10:04:20", "10:04:59", "10:05:10") == ["10:05:00"] * 3 + ["10:05:10"]
    assert clock.stretch == 0


def test_a_fall_of_more_than_a_day_begins_a_new_stretch() -> None:
    clock = Clock(ZoneInfo("UTC"))
    first = clock.local(738_000, 600)
    assert clock.local(738_000 - 3, 0) < first, "times before the fall say nothing about those after it"
    assert clock.stretch == 1


@given(st.lists(st.tuples(st.integers(0, 86_399), st.integers(-1, 1)), max_size=50))
def test_no_clock_makes_time_fall_within_a_stretch(times: list[tuple[int, int]]) -> None:
    clock = Clock(BERLIN)
    last: dict[int, float] = {}
    for second, day in times:
        now = clock.local(SUMMER_ENDS + day, second // 60, second % 60)
        assert now >= last.get(clock.stretch, now)
        last[clock.stretch] = now


@pytest.mark.parametrize(
    ("raw", "text", "is_utf8"),
    [
        ("über 5 °C\r\n".encode(), "über 5 °C", True),
        ("über 5 °C – €\n".encode("cp1252"), "über 5 °C – €", False),
        (b"h\x81llo\n", "h\x81llo", False),  # a byte that Windows-1252 does not have
        (b"\0\0\0\0[10:00] <a> x\0y\n", "[10:00] <a> xy", True),
        (b"", "", True),
    ],
)
def test_each_line_has_an_encoding_of_its_own(raw: bytes, text: str, is_utf8: bool) -> None:
    assert decode(raw) == (text, is_utf8)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw: bytes) -> None:
    text, _ = decode(raw)
    assert "\0" not in text


def test_only_a_newline_ends_a_line_and_a_mark_at_the_start_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes("\ufeffone\x0ctwo\u2028three\nfour\n".encode())
    assert list(numbered_lines(tmp_path / "log")) == [(1, "one\x0ctwo\u2028three", True), (2, "four", True)]


def test_utf16_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes("[10:00] <anna> hello\n".encode("utf-16"))
    with pytest.raises(InputError, match="iconv"):
        list(numbered_lines(tmp_path / "log"))


@pytest.mark.parametrize(
    ("nick", "text", "found"),
    [
        ("anna", "hello", ("anna", "hello", Kind.TEXT)),
        ("mikebot", "I am a person", ("mikebot", "I am a person", Kind.TEXT)),
        ("abbot", "so am I", ("abbot", "so am I", Kind.TEXT)),
        ("ubottu", "see the wiki", ("ubottu", "see the wiki", Kind.BOT)),
        ("weir-gitlab-bot", "pipeline passed", ("weir-gitlab-bot", "pipeline passed", Kind.BOT)),
        ("TeamSlackBot2", "<anna> hello <b>", ("anna", "hello <b>", Kind.TEXT)),
        ("matterbridge", "[slack] <a\u200bnna> hello", ("anna", "hello", Kind.TEXT)),
        ("discord-relay", "<\x0304anna\x0f>: hello", ("anna", "hello", Kind.TEXT)),
        ("TeamSlackBot", "anna joined", ("TeamSlackBot", "anna joined", Kind.BOT)),
        ("TeamSlackBot", "<\u200b> hello", ("TeamSlackBot", "<\u200b> hello", Kind.BOT)),
        ("slacker", "<anna> hello", ("slacker", "<anna> hello", Kind.TEXT)),
    ],
)
def test_bots_are_told_and_relays_seen_through(nick: str, text: str, found: tuple[str, str, Kind]) -> None:
    assert said(nick, text) == found


def people(*lines: tuple[str, str]) -> People:
    found = People()
    for author, text in lines:
        found.meet(author, text, Kind.TEXT if author else Kind.SYSTEM)
    return found


def test_speakers_are_the_roster_under_each_nick_and_those_who_join_are_onlookers() -> None:
    found = people(
        ("anna", "nobody answers"),
        ("", "anna is now known as anna_away"),
        ("", "ghost [~g@host] has joined #weir"),
        ("", "ghost is now known as the"),
        ("", "Joins: shade (~s@host)"),
        ("", "wisp <w@host> has joined #weir"),
        ("", "imp [account] (imp) (i@host) has joined #weir"),
        ("", "anna [~a@host] has joined #weir"),
        ("bert", "anna joined us"),
    )
    assert found.roster == {"anna", "anna_away", "bert"}
    assert found.onlookers == {"ghost", "shade", "wisp", "imp"}


def test_nick_changes_make_aliases_only_where_a_nick_is_dressed_up() -> None:
    found = people(
        *[("anna", "hi")] * 3,
        ("anna_", "hi"),
        ("bert", "hi"),
        ("", "anna_ is now known as anna"),
        ("", "anna is now known as anna|away"),
        ("", "anna|away is now known as anna"),
        ("", "bert is now known as anna"),  # for fun, on the first of April
        ("", "bert is now known as bertram"),
        ("", "cleo is now known as cleo_"),  # never speaks
        ("", "_ is now known as anna_"),
    )
    assert found.aliases() == {"anna_": "anna", "anna|away": "anna"}


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_pairs(messages: Iterator[Message]) -> Iterator[list[Message]]:
        pair: list[Message] = []
        for message in messages:
            pair.append(message)
            if len(pair) == 2:
                yield pair
                pair = []

    monkeypatch.setattr("thread_embed_assets.sources.irc_lines.disentangle", in_pairs)


@pytest.mark.usefixtures("one_thread")
def test_what_nobody_said_is_yielded_together_and_never_disentangled(
    make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thread_embed_assets.sources.irc_lines._MOST_ASIDE", 3)
    kinds = [Kind.SYSTEM, Kind.TEXT, Kind.TEXT, Kind.BOT, Kind.SYSTEM, Kind.TEXT, Kind.TEXT, Kind.SYSTEM]
    messages = [Message(f"a/b.log:{n}", "anna", f"text {n}", float(n), kind=kind) for n, kind in enumerate(kinds)]
    source = make_source("irc_log", platform="irc", truth="explicit")
    found = list(conversations(messages, "#weir", source, frozenset({"anna"}), frozenset({"bert"})))
    assert [(c.id, [m.id[8:] for m in c.messages]) for c in found] == [
        ("a/b.log:1", ["1", "2"]),
        ("a/b.log:5", ["5", "6"]),
        ("a/b.log:0:aside", ["0", "3", "4"]),
        ("a/b.log:7:aside", ["7"]),
    ]
    assert {(c.origin, c.channel, c.roster, c.onlookers) for c in found} == {
        ("a/b.log", "#weir", frozenset({"anna"}), frozenset({"bert"}))
    }
    assert {c.truth for c in found} == {Truth.GUESSED}, "whatever the catalogue says, a log's threads are guessed"
