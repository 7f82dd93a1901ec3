from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import irc_html
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.fetch import RawDataset

from .conftest import MakeSource

Read = Callable[..., list[Conversation]]
JOINED = "* WeirLogBot (~PircBot@weir.example.org) has joined #duraspace"


def bot(clock: str, text: str, colour: str = "black") -> str:
    """A line as the logging bot writes it."""
    return (
        f'<span class="irc-date">[{clock}]</span> <span class="irc-{colour}">{html.escape(text, quote=False)}</span><br />'
    )


def topic(zone: str) -> str:
    return bot("6:28", f"* Set by anna on Tue Jun 30 16:32:05 {zone} 2009", "green")


@pytest.fixture
def read(tmp_path: Path, make_source: MakeSource) -> Read:
    """Writes the lines to the log of that day, and parses the folder."""

    def reader(
        lines: Sequence[str] | bytes = b"", name: str = "2012-01-05.log", timezone: str = "UTC"
    ) -> list[Conversation]:
        raw = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        (tmp_path / "original-logs").mkdir(exist_ok=True)
        if raw:
            (tmp_path / "original-logs" / name).write_bytes(raw)
        return list(irc_html.parse(tmp_path, make_source("irc_html", platform="irc", timezone=timezone)))

    return reader


def messages(found: Sequence[Conversation], *kinds: Kind) -> list[Message]:
    """In the order of the logs' lines."""
    chosen = [m for conversation in found for m in conversation.messages if m.kind in (kinds or tuple(Kind))]
    return sorted(chosen, key=lambda m: (m.id.rpartition(":")[0], int(m.id.rpartition(":")[2])))


def utc(message: Message) -> str:
    assert message.time is not None
    return datetime.fromtimestamp(message.time, UTC).strftime("%m-%d %H:%M:%S")


def test_the_bots_lines(read: Read) -> None:
    lines = [
        bot("6:28", "-sendak.example.org- *** Checking Ident", "brown"),
        bot("6:28", JOINED, "green"),
        bot("6:29", "[frigg VERSION]", "red"),
        bot("9:05", "<anna> is 3 < 4 && 'so' > \"that\"?"),
        bot("9:06", "* bert nods at anna", "brick"),
        bot("9:07", "<anna> see LINK").replace("LINK", '<a href="http://a.example/?x&amp;y">http://a.example/?x&amp;y</a>'),
        bot("9:08", "<kompewter> [ a title ] - http://a.example"),
        bot("9:09", "<TeamSlackBot> <cleo> hello from over there"),
        bot("9:10", "<- *dora* help"),
        bot("13:00", "* anna (~a@host) Quit (Quit: <anna> was here)", "navy"),
        bot("13:01", "* eddy_ is now known as eddy", "green"),
    ]
    found = read(lines)
    assert [(m.author, m.text, m.kind) for m in messages(found)] == [
        ("", "-sendak.example.org- *** Checking Ident", Kind.SYSTEM),
        ("", JOINED[2:], Kind.SYSTEM),
        ("", "[frigg VERSION]", Kind.SYSTEM),
        ("anna", "is 3 < 4 && 'so' > \"that\"?", Kind.TEXT),
        ("bert", "nods at anna", Kind.TEXT),
        ("anna", "see http://a.example/?x&y", Kind.TEXT),
        ("kompewter", "[ a title ] - http://a.example", Kind.BOT),
        ("cleo", "hello from over there", Kind.TEXT),
        ("", "<- *dora* help", Kind.SYSTEM),
        ("", "anna (~a@host) Quit (Quit: <anna> was here)", Kind.SYSTEM),
        ("", "eddy_ is now known as eddy", Kind.SYSTEM),
    ]
    assert [utc(m) for m in messages(found)][3:5] == ["01-05 09:05:00", "01-05 09:06:00"]
    assert all(c.roster == {"anna", "bert", "cleo", "kompewter"} and c.onlookers == {"WeirLogBot"} for c in found)
    assert {(c.channel, c.truth, c.origin) for c in found} == {("duraspace", Truth.GUESSED, "original-logs/2012-01-05.log")}


def test_a_line_that_was_cut_keeps_what_there_is(read: Read) -> None:
    [message] = messages(read([bot("9:00", "<anna> almost d").removesuffix("</span><br />")]))
    assert (message.author, message.text) == ("anna", "almost d")


def test_what_clients_logged_where_the_bot_failed(read: Read) -> None:
    lines = [
        "<h3>Conversation with #duraspace at 1/5/2012 8:41:22 AM on irc.example.org (irc)</h3>\r",
        "<h4>NOTE: All Times below are CDT. The bot had issues today</h4>\r",
        '<font size="2">(11:56:26 AM)</font><b> marc [<em>~marc@host.example</em>] entered the room.</b><br/>\r',
        '<font color="#16569E"><font size="2">(12:02:27 PM)</font> <b>anna:</b></font> Hi all, we&apos;re on: today<br/>\r',
        '<font color="#062585"><font size="2">(1:03:18 PM)</font> <b>***anna</b></font> notes it&apos;s late<br/>\r',
        '<span class="irc-date">3:01:26 PM CDT</span> <span class="irc-black"> SlackBot: <bert> here: <b> it is</span><br/>',
        '<span class="irc-date">3:01:27 PM CDT</span> <span class="irc-black"> marc left the room (quit: x: y).</span><br/>',
        "[21:02] == cleo [c@gateway.example] has joined #duraspace",
        "[21:04] <cleo> as I said: no",
        "[21:05] * cleo sighs",
    ]
    found = messages(read(lines))
    assert [(m.author, m.text, utc(m)[6:]) for m in found if m.kind is Kind.TEXT] == [
        ("anna", "Hi all, we're on: today", "18:02:27"),
        ("anna", "notes it's late", "19:03:18"),
        ("bert", "here:  it is", "21:01:26"),
        ("cleo", "as I said: no", "03:04:00"),
        ("cleo", "sighs", "03:05:00"),
    ]
    assert [m.text for m in found if m.kind is Kind.SYSTEM][2:] == [
        "marc [~marc@host.example] entered the room.",
        "marc left the room (quit: x: y).",
        "cleo [c@gateway.example] has joined #duraspace",
    ]


def test_lines_without_times_have_that_of_the_line_above_and_a_space_stands_for_the_same_nick(read: Read) -> None:
    lines = [
        "<pre>",
        "--&gt; anna (n=anna@host) has joined #duraspace",
        " bert (n=bert@host) has joined #duraspace",
        "&lt;anna&gt; first",
        " and more",
        "* bert nods",
        " twice",
        "</pre>",
        "",
        bot("9:00", "<cleo> good morning"),
        "<hr size=1>",
        "<dora> raw <b>brackets</b>",
        "--- dora is now known as dora_",
        "something else",
        "<-- dora_ has quit ()",
    ]
    found = messages(read(lines, name="2009-08-04.log"))
    assert [(m.author, m.text, utc(m)[6:11]) for m in found] == [
        ("", "anna (n=anna@host) has joined #duraspace", "00:00"),
        ("", "bert (n=bert@host) has joined #duraspace", "00:00"),
        ("anna", "first", "00:00"),
        ("anna", "and more", "00:00"),
        ("bert", "nods", "00:00"),
        ("bert", "twice", "00:00"),
        ("cleo", "good morning", "09:00"),
        ("dora", "raw brackets", "09:00"),
        ("", "dora is now known as dora_", "09:00"),
        ("", "something else", "09:00"),
        ("", "dora_ has quit ()", "09:00"),
    ]


def test_the_zone_is_the_catalogues_until_the_log_tells_another(read: Read) -> None:
    read([bot("16:00", "<anna> one")], name="2010-05-05.log", timezone="America/New_York")
    read([bot("16:00", "<anna> two"), topic("UTC"), bot("20:00", "<anna> three")], name="2010-06-30.log")
    read([bot("20:00", "<anna> four")], name="2010-07-07.log")
    found = read(
        [bot("20:00", "<anna> five"), topic("EDT"), bot("17:00", "<anna> six")], "2010-07-08.log", "America/New_York"
    )
    assert {m.text: utc(m) for m in messages(found, Kind.TEXT)} == {
        "one": "05-05 20:00:00",
        "two": "06-30 20:00:00",
        "three": "06-30 20:00:00",
        "four": "07-07 20:00:00",
        "five": "07-08 20:00:00",
        "six": "07-08 21:00:00",
    }


def test_somebody_who_left_is_in_the_roster_for_good(read: Read) -> None:
    read([bot("9:00", "<zorah> bye")], name="2012-01-05.log")
    found = read([bot("9:00", "<anna> zorah wrote that")], name="2014-01-05.log")
    assert all(conversation.roster == {"zorah", "anna"} for conversation in found)


def test_nick_changes_give_aliases(read: Read, tmp_path: Path) -> None:
    read([bot("9:00", "<anna> hi"), bot("9:01", "* anna is now known as anna_lunch", "green")])
    assert irc_html.aliases(tmp_path) == {"anna_lunch": "anna"}


def test_drafts_beside_a_day_are_left_out_and_days_are_in_order(read: Read, tmp_path: Path) -> None:
    (tmp_path / "original-logs").mkdir()
    for name in ("2018-05-10.log", "2018-05-09-NEW.log", "2018-05-09-OLD.log", "2018-05-09.log"):
        (tmp_path / "original-logs" / name).write_text(bot("9:00", f"<anna> {name}"), encoding="utf-8")
    assert [m.text for m in messages(read())] == ["2018-05-09.log", "2018-05-10.log"]


def test_any_bytes_and_a_clock_that_falls_lose_no_line(read: Read) -> None:
    lines = [bot(clock, f"<anna> {text}") for clock, text in (("9:05", "über"), ("9:04", "5 €"), ("9:06", "x"))]
    raw = b"\n".join([lines[0].encode(), lines[1].encode("cp1252"), lines[2].replace("x", "a\0b").encode()])
    found = messages(read(raw))
    assert [m.text for m in found] == ["über", "5 €", "ab"]
    assert [utc(m)[6:11] for m in found] == ["09:05", "09:05", "09:06"]


@pytest.mark.parametrize(
    ("lines", "name", "problem"),
    [
        ([bot("9:00", "<anna> x"), "09:00 anna - hush hush", "bert - hush"], "2012-01-05.log", "2 of 3 lines"),
        ([bot("9:00", "<anna> x")], "2012-13-05.log", "no date"),
        ([bot("9:00", "<anna> x")], "notes.log", r"no log YYYY-MM-DD\.log"),
    ],
)
def test_what_cannot_be_read_is_refused(read: Read, lines: list[str], name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(lines, name=name)
    assert "hush" not in str(caught.value)
    if "lines" in problem:
        assert caught.value.place.endswith("2012-01-05.log:2")


@pytest.mark.real_data
def test_the_published_logs(
    real_source: Callable[[str], tuple[Source, RawDataset]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thread_embed_assets.sources.irc_lines.disentangle", lambda channel: [list(channel)])
    source, raw = real_source("duraspace_irc")
    kinds: Counter[Kind] = Counter()
    ids: set[str] = set()
    for conversation in irc_html.parse(raw.folder, source):
        assert all(a.time <= b.time for a, b in pairwise(conversation.messages) if a.time is not None and b.time is not None)
        kinds.update(message.kind for message in conversation.messages)
        ids.update(message.id for message in conversation.messages)
        assert "DSpaceSlackBot" not in {message.author for message in conversation.messages if message.kind is Kind.TEXT}
    assert kinds == {Kind.TEXT: 85_333, Kind.SYSTEM: 84_804, Kind.BOT: 6_527}
    assert len(ids) == sum(kinds.values()), "message ids are unique"
