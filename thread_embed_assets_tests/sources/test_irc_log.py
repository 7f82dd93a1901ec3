from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.cleaning import clean
from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import irc_log

from .conftest import MakeSource
from .irc_exports import CHANNEL, EVENTS, LOGS, SPOKEN

Read = Callable[..., list[Conversation]]
OPENED = "--- Log opened Mon Jan 05 10:00:00 2026"


@pytest.fixture
def read(tmp_path: Path, make_source: MakeSource) -> Read:
    """Writes the lines to a log of that name, and parses the folder."""

    def reader(lines: Sequence[str] | bytes = b"", name: str = "#weir.log", timezone: str = "UTC") -> list[Conversation]:
        raw = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        if raw:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(raw)
        return list(irc_log.parse(tmp_path, make_source("irc_log", platform="irc", timezone=timezone)))

    return reader


def messages(found: Sequence[Conversation], *kinds: Kind) -> list[Message]:
    """In the order of the log's lines."""
    chosen = [m for conversation in found for m in conversation.messages if m.kind in (kinds or (Kind.TEXT,))]
    return sorted(chosen, key=lambda m: (m.id.rpartition(":")[0], int(m.id.rpartition(":")[2])))


def said(found: Sequence[Conversation]) -> list[tuple[str, str]]:
    return [(message.author, message.text) for message in messages(found)]


def utc(message: Message) -> str:
    assert message.time is not None
    return datetime.fromtimestamp(message.time, UTC).strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize("program", LOGS)
def test_every_program_tells_the_same_evening(tmp_path: Path, make_source: MakeSource, program: str) -> None:
    LOGS[program](tmp_path)
    source = make_source("irc_log", platform="irc", timezone="Europe/Berlin")
    found = list(irc_log.parse(tmp_path, source))
    spoken = messages(found)
    assert [(m.author, m.text) for m in spoken] == [(event.nick, event.text) for event in SPOKEN]
    for message, event in zip(spoken, SPOKEN, strict=True):
        meant = event.time.replace(tzinfo=ZoneInfo("Europe/Berlin"))
        if program in ("irssi", "mirc"):  # they write no seconds
            meant = meant.replace(second=0)
        assert message.time == meant.timestamp()
    assert len(messages(found, Kind.SYSTEM)) >= len(EVENTS) - len(SPOKEN), "joins, quits, modes and nick changes"
    assert {conversation.channel for conversation in found} == {CHANNEL}
    assert {conversation.truth for conversation in found} == {Truth.GUESSED}
    assert found[0].roster == {"odile", "mirek", "pavo_k", "sanna", "sanna_away", "tamsin"}
    assert irc_log.aliases(tmp_path) == {"sanna_away": "sanna"}
    ids = [message.id for conversation in found for message in conversation.messages]
    assert len(ids) == len(set(ids))
    assert len({conversation.id for conversation in found}) == len(found)
    assert all((tmp_path / conversation.origin).is_file() for conversation in found)
    assert [c.id for c in irc_log.parse(tmp_path, source)] == [c.id for c in found], "the same in every build"


@pytest.mark.parametrize("program", LOGS)
def test_logs_of_a_whole_evening_lose_nothing_to_wrong_line_ends(
    tmp_path: Path, make_source: MakeSource, program: str
) -> None:
    path = LOGS[program](tmp_path)
    for log in [path] if path.is_file() else sorted(path.iterdir()):
        log.write_bytes(log.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert len(messages(list(irc_log.parse(tmp_path, make_source("irc_log"))))) == len(SPOKEN)


@pytest.mark.parametrize(
    ("line", "author", "text", "kind"),
    [
        ("10:00 <@anna> hello <b> there", "anna", "hello <b> there", Kind.TEXT),
        ("10:00 < anna> hello", "anna", "hello", Kind.TEXT),
        ("10:00:59  * anna waves", "anna", "waves", Kind.TEXT),
        ("10:00 <+[w]eird\\`^{|}> x", "[w]eird\\`^{|}", "x", Kind.TEXT),
        ("10:00 <anna>", "anna", "", Kind.TEXT),
        ("10:00 <ubottu> see the wiki", "ubottu", "see the wiki", Kind.BOT),
        ("10:00 <weir-slack-bot> <anna> hello", "anna", "hello", Kind.TEXT),
        ("10:00 -!- anna [a@host] has left #weir [bye]", "", "anna [a@host] has left #weir [bye]", Kind.SYSTEM),
        ("10:00 -anna:#weir- notice to all", "", "-anna:#weir- notice to all", Kind.SYSTEM),
        ("10:00 -!- anna changed the topic of #weir to: <bert> said so", "", None, Kind.SYSTEM),
        ("10:00 * anna (a@host) has joined #weir", "", "anna (a@host) has joined #weir", Kind.SYSTEM),
        ("10:00 * anna has joined the dots", "", "anna has joined the dots", Kind.SYSTEM),
        ("10:00 * anna joined the dots", "anna", "joined the dots", Kind.TEXT),
    ],
)
def test_kinds_of_lines(read: Read, line: str, author: str, text: str | None, kind: Kind) -> None:
    [message] = messages(read([OPENED, line]), *Kind)
    assert (message.author, message.kind) == (author, kind)
    assert text is None or message.text == text


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("libera/#dev.log", ("libera", "#dev")),
        ("ada/libera/#dev/2026-01-05.log", ("ada/libera", "#dev")),
        ("irc.libera.#dev.weechatlog", ("irc.libera", "#dev")),
        ("ada_libera_#dev_20260105.log", ("ada_libera", "#dev")),
        ("libera/2026-01/#dev.2026-01-05.log", ("libera", "#dev")),
        ("2026/01/05/#dev.txt", ("", "#dev")),
        ("#dev", ("", "#dev")),
        ("##c++.log", ("", "##c++")),
        ("#rust.de.log", ("", "#rust.de")),
        ("#room12345678.log", ("", "#room12345678")),
        ("libera/&local.log", ("libera", "&local")),
        ("libera/anna.log", ("libera", "")),
        ("2026-01-05.log", ("", "")),
        ("irc.server.libera.weechatlog", ("", "")),
    ],
)
def test_network_and_channel_are_told_by_the_place(path: str, place: tuple[str, str]) -> None:
    assert irc_log._place(Path(path)) == place


def test_channels_of_one_name_on_two_networks_stay_apart(read: Read) -> None:
    read([OPENED, "10:00 <anna> hello"], name="libera/#weir.log")
    found = read([OPENED, "10:00 <bert> hello"], name="oftc/#weir.log")
    assert {c.channel: said([c]) for c in found} == {
        "libera/#weir": [("anna", "hello")],
        "oftc/#weir": [("bert", "hello")],
    }


def test_the_days_of_a_channel_are_one_and_in_order(read: Read) -> None:
    for day in ("2026-01-06", "2026-01-05", "2026-01-07"):
        found = read([f"[23:59:00] <anna> {day}", f"[23:59:30] <bert> {day}"], name=f"#weir/{day}.log")
    assert {c.channel for c in found} == {"#weir"}
    assert [m.text for m in messages(found)] == [day for day in ("2026-01-05", "2026-01-06", "2026-01-07") for _ in "ab"]
    assert [utc(m) for m in messages(found)][:3] == ["01-05 23:59:00", "01-05 23:59:30", "01-06 23:59:00"]


def test_private_queries_are_left_out_unread(read: Read, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "libera").mkdir()
    (tmp_path / "libera/anna.log").write_text(f"{OPENED}\n10:00 <anna> between you and me\n")
    (tmp_path / "libera/diary.log").write_text("nothing that could be read\n")
    caplog.set_level(logging.INFO)
    found = read([OPENED, "10:00 <bert> in the open"], name="libera/#weir.log")
    assert said(found) == [("bert", "in the open")]
    assert "anna" not in found[0].roster
    assert "left out 2 of 3 files" in caplog.text
    assert "anna" not in caplog.text, "whom somebody talks to in private is nobody's business"


def test_logs_without_channel_names_are_read_where_no_channel_is_named(read: Read) -> None:
    read([OPENED, "10:00 -!- Irssi: #mill: Total of 2 nicks", "10:00 <anna> hello"], name="evening.log")
    found = read(["[10:00] <bert> hello"], name="team/2026-01-05.log")
    assert {c.channel: c.origin for c in found} == {"#mill": "evening.log", "team": "team/2026-01-05.log"}


@pytest.mark.parametrize(
    ("lines", "name", "expected"),
    [
        ([OPENED, "23:59 <a> 1", "00:01 <a> 2"], "#w.log", ["01-05 23:59:00", "01-06 00:01:00"]),
        (
            [OPENED, "23:59 <a> 1", "--- Day changed Tue Jan 06 2026", "00:01 <a> 2"],
            "#w.log",
            ["01-05 23:59:00", "01-06 00:01:00"],
        ),
        (
            [OPENED, "23:59 <a> 1", "00:00 <a> 2", "--- Day changed Tue Jan 06 2026", "00:01 <a> 3"],
            "#w.log",
            ["01-05 23:59:00", "01-06 00:00:00", "01-06 00:01:00"],
        ),
        (["--- Log opened Mon Jan 05 23:59:30 2026", "00:01 <a> 1"], "#w.log", ["01-06 00:01:00"]),
        (["[23:59] <a> 1", "[00:01] <a> 2"], "#w.2026-01-05.log", ["01-05 23:59:00", "01-06 00:01:00"]),
        (
            ["[08:00] <a> 1", "[00:00] --- Tue Jan  6 2026", "[00:01] <a> 2"],
            "#w.20260105.log",
            ["01-05 08:00:00", "01-06 00:01:00"],
        ),
        (
            ["[10:05] <a> 1", "[10:04] <a> 2", "[10:06] <a> 3"],
            "#w.20260105.log",
            ["01-05 10:05:00", "01-05 10:05:00", "01-05 10:06:00"],
        ),
        (
            ["**** BEGIN LOGGING AT Thu Dec 31 23:00:00 2026", "Dec 31 23:59:00 <a>\t1", "Jan 01 00:01:00 <a>\t2"],
            "#w.log",
            ["12-31 23:59:00", "01-01 00:01:00"],
        ),
        (
            ["2026-01-05T12:00:00+0100 <a> 1", "2026-01-05T11:30:00.250Z <a> 2", "2026-01-05 07:00:00-05:00 <a> 3"],
            "#w.log",
            ["01-05 11:00:00", "01-05 11:30:00", "01-05 12:00:00"],
        ),
        (
            ["2026-01-05 10:00:00.123456\ta\t1", "2026-01-05T10:00:01.5Z\ta\t2"],
            "w.#w.weechatlog",
            ["01-05 10:00:00", "01-05 10:00:01"],
        ),
    ],
    ids=[
        "midnight is told by the clock",
        "midnight is told by a line",
        "by both, and counts once",
        "midnight after the heading",
        "the name says the day",
        "eggdrop's days",
        "clock set back",
        "new year without years",
        "offsets of several zones",
        "weechat's fractions",
    ],
)
def test_dates(read: Read, lines: list[str], name: str, expected: list[str]) -> None:
    assert [utc(message) for message in messages(read(lines, name))] == expected


def test_new_years_eve_lies_between_two_years(read: Read) -> None:
    lines = ["**** BEGIN LOGGING AT Thu Dec 31 23:00:00 2026", "Dec 31 23:59:00 <a>\t1", "Jan 01 00:01:00 <a>\t2"]
    first, second = messages(read(lines))
    assert second.time is not None and first.time is not None
    assert second.time - first.time == 120


def test_the_hour_that_is_repeated_in_autumn_loses_and_reorders_nothing(read: Read) -> None:
    lines = [f"2026-10-25 {clock} <a> {n}" for n, clock in enumerate(["02:50:00", "02:05:00", "02:55:00", "03:05:00"])]
    found = messages(read(lines, timezone="Europe/Berlin"))
    assert [m.text for m in found] == ["0", "1", "2", "3"]
    assert [utc(m) for m in found] == ["10-25 00:50:00", "10-25 01:05:00", "10-25 01:55:00", "10-25 02:05:00"]


@given(st.lists(st.integers(0, 24 * 60 - 1), min_size=1, max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_clock_loses_or_reorders_lines(read: Read, minutes: list[int]) -> None:
    lines = [f"{m // 60:02}:{m % 60:02} <n{n % 3}> text {n}" for n, m in enumerate(minutes)]
    found = messages(read([OPENED, *lines], timezone="Europe/Berlin"))
    assert [m.text for m in found] == [f"text {n}" for n in range(len(minutes))]
    assert all(a.time <= b.time for a, b in pairwise(found) if a.time is not None and b.time is not None)


def test_two_logs_of_the_same_days_are_both_read_and_never_mixed(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thread_embed_assets.sources.irc_lines.disentangle", lambda channel: [list(channel)])
    days = ("05", "06", "07", "08")
    talk = [f"2026-01-{day} 10:00:00 <anna> day {day}" for day in days]
    read(talk, name="libera/#weir.log")
    found = read([line.replace("10:00:00", "10:00:20") for line in talk], name="libera/#weir.2026-01-05.log")
    assert {c.channel for c in found} == {"#weir"}
    assert [[utc(m) for m in c.messages] for c in found] == [
        [f"01-{day} 10:00:{second}" for day in days] for second in ("20", "00")
    ]


def test_a_channels_logs_are_read_in_the_order_of_their_days_whatever_their_names(read: Read) -> None:
    read(["[10:00] <anna> second"], name="#weir.2026-01-06.log")
    read([OPENED.replace("2026", "2025"), "10:00 <anna> first"], name="#weir.log")
    found = read(["[10:00] <anna> third"], name="#weir.20260107.log")
    assert [m.text for c in found for m in c.messages] == ["first", "second", "third"]


def test_what_somebody_says_twice_at_one_time_counts_once(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = ["10:00 <a> yes", "10:00 <b> yes", "10:00 <a> yes", "10:00 <a> no", "10:01 <a> yes"]
    assert said(read([OPENED, *lines])) == [("a", "yes"), ("b", "yes"), ("a", "no"), ("a", "yes")]
    assert "left out 1 lines that repeat" in caplog.text


def test_a_log_of_several_encodings_is_read_line_by_line(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = [
        OPENED.encode(),
        "10:00 <a> grün – naïve".encode(),
        "10:01 <b> grün – naïve".encode("cp1252"),
        b"10:02 <c> x\x81",
    ]
    assert said(read(b"\n".join(lines))) == [("a", "grün – naïve"), ("b", "grün – naïve"), ("c", "x\x81")]
    assert "2 are not UTF-8" in caplog.text


def test_nuls_of_a_crash_and_colours_do_no_harm(read: Read) -> None:
    lines = [OPENED.encode(), b"\0" * 4096 + b"10:00 <a> before\0 the crash", b"10:01 <b> \x02bold\x02 and \x0304,01red\x0f"]
    found = said(read(b"\n".join(lines)))
    assert found[0] == ("a", "before the crash")
    assert clean(found[1][1], "irc") == "bold and red"


def test_a_line_of_two_megabytes_is_read_whole(read: Read) -> None:
    text = "weir " * 400_000
    assert said(read([OPENED, f"10:00 <a> {text}", "10:01 <b> short"])) == [("a", text), ("b", "short")]


def test_any_script_is_read(read: Read) -> None:
    texts = ["שלום לכולם", "مرحبا: كيف الحال", "🎉🎉🎉", "\u202eabc\u202c", "日本語のテキスト"]
    lines = [f"10:0{n} <nick{n}> {text}" for n, text in enumerate(texts)]
    assert [text for _, text in said(read([OPENED, *lines]))] == texts


def test_somebody_who_left_is_in_the_roster_for_good(read: Read) -> None:
    read(["[10:00:00] <zorah> bye", "[10:00:10] *** Quits: zorah (z@host) (gone)"], name="#weir/2026-01-05.log")
    found = read(["[10:00:00] <anna> zorah wrote that"], name="#weir/2026-03-05.log")
    assert all(conversation.roster == {"zorah", "anna"} for conversation in found)


def test_empty_logs_and_empty_channels_hold_no_conversation(read: Read, tmp_path: Path) -> None:
    (tmp_path / "#empty.log").touch()
    read([OPENED, "", "--- Log closed Mon Jan 05 11:00:00 2026"], name="#silent.log")
    found = read([OPENED, "10:00 <anna> hello"])
    assert {conversation.channel for conversation in found} == {"#weir"}


def test_a_channel_where_people_only_come_and_go_is_counted(read: Read) -> None:
    found = read([OPENED, "10:00 -!- anna [a@host] has joined #weir", "10:01 -!- anna [a@host] has quit []"])
    assert [m.kind for conversation in found for m in conversation.messages] == [Kind.SYSTEM, Kind.SYSTEM]
    assert found[0].onlookers == {"anna"}


def test_a_line_without_time_continues_the_one_above(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = [
        "a line before all",
        "10:00 <a> for x in y:",
        "    print(x)",
        "",
        "10:01 -!- b has quit []",
        "stray",
        "10:02 <c> ok",
    ]
    assert said(read([OPENED, *lines])) == [("a", "for x in y:\n    print(x)"), ("c", "ok")]
    assert "of 6 lines, 3 have no time" in caplog.text


def test_a_date_that_does_not_exist_is_no_time(read: Read) -> None:
    lines = ["2026-02-28 10:00:00 <a> one", "2026-02-30 10:00:00 <b> two", "2026-03-01 10:00:00 <c> three"]
    assert [author for author, _ in said(read(lines))] == ["a", "c"]


@pytest.mark.parametrize(
    ("lines", "place", "problem"),
    [
        (["", "my diary", "hush hush"], "#weir.log:2", "no known layout"),
        (["10:00 <a> hush hush"], "#weir.log:1", "clock times only"),
        (["Jan 05 10:00:00 <a>\thush hush"], "#weir.log:1", "clock times only"),
        (["--- Log opened Mo Mär 02 10:00:00 2026", "10:00 <a> hush hush"], "#weir.log:1", "'Mär' is not an English"),
        (["--- Day changed Mon Feb 30 2026", "10:00 <a> hush hush"], "#weir.log:1", "no such date"),
        ([OPENED, "10:00 <a> x", "hush hush", "hush", "10:01 <a> y", "hush"], "#weir.log:3", "3 of 5 lines have no time"),
    ],
)
def test_a_log_that_cannot_be_read_is_named_with_its_line(read: Read, lines: list[str], place: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(lines)
    assert caught.value.place.endswith(place)
    assert "hush" not in str(caught.value), "what people say stays out of messages"


def test_the_remedies_for_a_missing_date_help(read: Read, tmp_path: Path) -> None:
    line = "10:00 <a> x"
    with pytest.raises(InputError, match=r"2026-01-05\.log.*--- Day changed Mon Jan 05 2026"):
        read([line])
    (tmp_path / "#weir.log").rename(tmp_path / "#weir.2026-01-05.log")
    assert [utc(m) for m in messages(read())] == ["01-05 10:00:00"]
    (tmp_path / "#weir.2026-01-05.log").unlink()
    assert [utc(m) for m in messages(read(["--- Day changed Mon Jan 05 2026", line]))] == ["01-05 10:00:00"]


def test_a_folder_without_logs_is_refused(read: Read, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="no log in it"):
        read()
