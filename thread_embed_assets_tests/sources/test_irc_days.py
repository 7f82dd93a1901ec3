from __future__ import annotations

import gzip
import json
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import irc_days

from .conftest import MakeSource

SHARD = "v0/documents/00000_ubuntu.jsonl.gz"
Parse = Callable[[], list[Conversation]]


def row(*lines: str, day: str = "2013-04-29", channel: str = "#millpond", **fields: Any) -> dict[str, Any]:
    """A row as it is published."""
    return {
        "id": f"{day}-{channel}",
        "text": "\n".join(lines),
        "source": "ubuntu-chat",
        "added": "2024-01-12T19:40:10.630330",
        "created": day,
        "metadata": {"license": "Public Domain", "authors": ["anna"], "url": "https://example.org/x", "channel": channel},
    } | fields


def save(folder: Path, rows: Sequence[Any], name: str = SHARD) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{json.dumps(entry)}\n" for entry in rows).encode()))
    return path


@pytest.fixture
def parse(tmp_path: Path, make_source: MakeSource) -> Parse:
    return lambda: list(irc_days.parse(tmp_path, make_source("irc_days", platform="irc", truth="guessed")))


def messages(found: Sequence[Conversation], *kinds: Kind) -> list[Message]:
    """In the order of the rows' lines."""
    chosen = [m for conversation in found for m in conversation.messages if m.kind in (kinds or tuple(Kind))]
    return sorted(chosen, key=lambda m: (m.id.rpartition(":")[0], int(m.id.rpartition(":")[2])))


def clock(message: Message) -> str:
    assert message.time is not None
    return datetime.fromtimestamp(message.time, UTC).strftime("%Y-%m-%d %H:%M")


def test_a_row_is_a_channels_day(tmp_path: Path, parse: Parse) -> None:
    lines = [
        "[10:19] <anna> is the <b> gate open?",
        "[10:20]  * bert nods",
        "",
        "[23:59] <ubottu> see the wiki",
        "[10:21] <cleo>",
    ]
    save(tmp_path, [row(*lines), row("[00:00] <anna> later", day="2013-04-30")])
    found = parse()
    assert [(m.id, m.author, m.text, m.kind, clock(m)) for m in messages(found)] == [
        ("2013-04-29-#millpond:1", "anna", "is the <b> gate open?", Kind.TEXT, "2013-04-29 10:19"),
        ("2013-04-29-#millpond:2", "bert", "nods", Kind.TEXT, "2013-04-29 10:20"),
        ("2013-04-29-#millpond:4", "ubottu", "see the wiki", Kind.BOT, "2013-04-29 23:59"),
        ("2013-04-29-#millpond:5", "cleo", "", Kind.TEXT, "2013-04-29 23:59"),
        ("2013-04-30-#millpond:1", "anna", "later", Kind.TEXT, "2013-04-30 00:00"),
    ]
    assert {(c.channel, c.truth, c.published_split) for c in found} == {("#millpond", Truth.GUESSED, None)}
    assert {c.origin: c.roster for c in found} == {
        "2013-04-29-#millpond": {"anna", "bert", "ubottu", "cleo"},
        "2013-04-30-#millpond": {"anna"},
    }


def test_rows_are_yielded_as_the_shards_hold_them_and_the_same_each_time(tmp_path: Path, parse: Parse) -> None:
    save(tmp_path, [row("[10:00] <a> x", channel="#two"), row("[10:00] <a> x", channel="#one")])
    save(tmp_path, [row("[10:00] <a> x", day="2004-07-05")], "v0/documents/00001_ubuntu.jsonl.gz")
    ids = [c.id for c in parse()]
    assert ids == ["2013-04-29-#two:1", "2013-04-29-#one:1", "2004-07-05-#millpond:1"]
    assert [c.id for c in parse()] == ids


def test_lines_that_lost_their_time_and_nick_are_counted_and_speak_for_nobody(
    tmp_path: Path, parse: Parse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save(tmp_path, [row("[10:00] <anna> hello", "\x01\x03 relayed words", "[10:02] <bert> hi anna")])
    lost = messages(parse(), Kind.SYSTEM)
    assert [(m.author, m.text, clock(m)) for m in lost] == [("", "\x01\x03 relayed words", "2013-04-29 10:00")]
    assert "'lines without time': 1" in caplog.text


def test_the_raw_rows_with_servers_lines_and_relays_can_be_read_too(tmp_path: Path, parse: Parse) -> None:
    lines = [
        "=== anna [~a@host] has joined #millpond",
        "=== dora [~d@host] has joined #millpond",
        "[10:00] <anna> hello",
        "=== anna is now known as anna_away",
        "[10:01] <IrcsomeBot> [telegram] <bert>: hello anna",
    ]
    save(tmp_path, [row(*lines)])
    found = parse()
    assert [(m.author, m.text, m.kind) for m in messages(found)] == [
        ("", "anna [~a@host] has joined #millpond", Kind.SYSTEM),
        ("", "dora [~d@host] has joined #millpond", Kind.SYSTEM),
        ("anna", "hello", Kind.TEXT),
        ("", "anna is now known as anna_away", Kind.SYSTEM),
        ("bert", "hello anna", Kind.TEXT),
    ]
    assert all((c.roster, c.onlookers) == ({"anna", "anna_away", "bert"}, {"dora"}) for c in found)


@pytest.mark.parametrize(
    ("clocks", "meant"),
    [
        (["12:18", "01:00", "11:59", "12:05", "01:00", "11:00"], ["00:18", "01:00", "11:59", "12:05", "13:00", "23:00"]),
        (["09:00", "12:10", "01:00"], ["09:00", "12:10", "13:00"]),
        (["00:05", "12:18", "01:00"], ["00:05", "12:18", "12:18"]),
        (["01:10", "05:00", "12:59"], ["01:10", "05:00", "12:59"]),
        (["13:00", "02:00", "14:00"], ["13:00", "13:00", "14:00"]),
    ],
    ids=["a whole day", "only noon", "a 24-hour clock that fell", "a morning", "an afternoon that fell"],
)
def test_twelve_hour_clocks_are_told(tmp_path: Path, parse: Parse, clocks: list[str], meant: list[str]) -> None:
    save(tmp_path, [row(*(f"[{time}] <a> text {n}" for n, time in enumerate(clocks)))])
    assert [clock(m)[11:] for m in messages(parse())] == meant


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_read_without_loss(tmp_path: Path, parse: Parse, texts: list[str]) -> None:
    lines = [text.replace("\n", " ") for text in texts]
    save(tmp_path, [row("[10:00] <anna> first", *lines)])
    found = messages(parse())
    assert [int(m.id.rpartition(":")[2]) for m in found] == [1, *(n for n, line in enumerate(lines, 2) if line.strip())]
    assert all(a.time <= b.time for a, b in pairwise(found) if a.time is not None and b.time is not None)


@pytest.mark.parametrize("text", ["", None, "\n\n"])
def test_an_empty_day_is_no_conversation(tmp_path: Path, parse: Parse, text: str | None) -> None:
    save(tmp_path, [row(text=text), row("[10:00] <a> x", day="2013-04-30")])
    assert [c.id for c in parse()] == ["2013-04-30-#millpond:1"]


def test_the_id_says_what_other_fields_do_not(tmp_path: Path, parse: Parse) -> None:
    save(tmp_path, [row("[10:00] <a> x", channel="#c++-a", created=None, metadata=None)])
    [conversation] = parse()
    assert (conversation.channel, clock(conversation.messages[0])) == ("#c++-a", "2013-04-29 10:00")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"text": "[10:00] <a> x"}, "lacks the text fields"),
        (row(text=7), "lacks the text fields"),
        (["a list"], "lacks the text fields"),
        (row("[10:00] <a> x", created="yesterday"), "begins with a date"),
    ],
)
def test_a_row_without_its_fields_is_named_with_its_line(tmp_path: Path, parse: Parse, entry: Any, problem: str) -> None:
    save(tmp_path, [row("[10:00] <a> x"), entry])
    with pytest.raises(InputError, match=problem) as caught:
        parse()
    assert caught.value.place.endswith(f"{SHARD}:2")


def test_a_cut_shard_and_one_that_is_no_gzip_are_named(tmp_path: Path, parse: Parse) -> None:
    dice = random.Random(7)
    path = save(tmp_path, [row(f"[10:00] <a> {dice.randbytes(4_000).hex()}", day=f"2013-04-{day}") for day in range(10, 30)])
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(InputError, match="cut short") as caught:
        parse()
    assert f"{SHARD}:" in caught.value.place
    path.write_bytes(b'{"id": "plain"}\n')
    with pytest.raises(InputError, match="damaged"):
        parse()
    path.write_bytes(gzip.compress(b'{"id": "2013-04-29-#a", "text": "[10:00] <a> hush hush'))
    with pytest.raises(InputError, match="not a JSON row") as broken:
        parse()
    assert broken.value.place.endswith(f"{SHARD}:1") and "hush" not in str(broken.value)


def test_a_folder_without_shards_is_refused(parse: Parse) -> None:
    with pytest.raises(InputError, match=r"no \.jsonl\.gz"):
        parse()


def test_rows_are_read_one_by_one(tmp_path: Path, make_source: MakeSource) -> None:
    save(tmp_path, [row("[10:00] <a> x"), "no row"])
    stream = irc_days.parse(tmp_path, make_source("irc_days", platform="irc"))
    assert next(stream).id == "2013-04-29-#millpond:1", "what stands before a fault is there before the fault is met"
    with pytest.raises(InputError):
        next(stream)
