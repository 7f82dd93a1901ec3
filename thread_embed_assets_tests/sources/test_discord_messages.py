from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.model import Conversation, Kind
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import discord_channels, parsers

from . import marked_threads
from .conftest import MakeSource
from .exports import START, snowflake


@pytest.fixture(autouse=True)
def _foreseeable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord_channels, "disentangle", marked_threads.disentangle)


Read = Callable[..., list[Conversation]]


@pytest.fixture
def read(tmp_path: Path, make_source: MakeSource) -> Read:
    """The conversations of servers, by id, of these messages."""

    def run(**servers: list[dict[str, Any]]) -> list[Conversation]:
        for name, messages in servers.items():
            path = tmp_path / "servers" / f"{name.removeprefix('s')}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{json.dumps(message)}\n" for message in messages), encoding="utf-8")
        return list(parsers.parse(tmp_path, make_source("discord_messages", platform="discord")))

    return run


def said(minute: float, user: int, text: str | None, channel: str = "100", **fields: Any) -> dict[str, Any]:
    time = START + minute * 60
    return {
        "id": snowflake(time, user),
        "channel_id": channel,
        "channel_name": {"100": "general", "200": "help"}.get(channel),
        "author": {"id": str(user), "username": f"user{user}", "discriminator": "0"},
        "content": text,
        "timestamp": datetime.fromtimestamp(time, UTC).isoformat(),
        "type": 0,
        "is_bot": False,
        "mentions": [],
    } | fields


def reply(minute: float, user: int, text: str, to: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return said(minute, user, text, type=19, message_reference={"message_id": to["id"]}, **fields)


def texts(found: list[Conversation]) -> list[list[str]]:
    return [[m.text for m in c.messages] for c in found]


def test_messages_in_any_order_are_put_into_their_channels(read: Read) -> None:
    question = said(0, 1, "who has the key?")
    other = said(1, 2, "elsewhere", channel="200")
    news = said(90, 3, "news", message_reference={"message_id": question["id"]})
    found = read(s9=[news, reply(60, 2, "I have it", question), other, said(30, 3, "lunch?"), question])
    assert texts(found) == [["who has the key?", "I have it"], ["lunch?"], ["news"], ["elsewhere"]]
    assert [(c.channel, c.truth) for c in found] == [
        ("9/general", "explicit"),
        ("9/general", "guessed"),
        ("9/general", "guessed"),
        ("9/help", "guessed"),
    ]
    assert found[0].messages[1].parents == (question["id"],)
    assert found[0].origin == "servers/9.jsonl"


def test_servers_are_kept_apart(read: Read) -> None:
    found = read(s8=[said(0, 1, "one")], s9=[said(0, 2, "two", channel="300", channel_name="general")])
    assert [(c.channel, c.roster) for c in found] == [("8/general", {"user1"}), ("9/general", {"user2"})]


def test_names_within_a_server(read: Read) -> None:
    sam = {"id": "7", "username": "sam", "discriminator": "0001"}
    same = {"id": "8", "username": "sam", "global_name": "Sam Oak", "discriminator": "0002"}
    asked = said(0, 1, "<@7> or <@!8> or <@9>?", mentions=[sam, same | {"bot": False}])
    [found] = read(s9=[asked, said(1, 7, "me", author=sam)])
    assert found.messages[0].text == "<@sam#0001> or <@Sam Oak> or <@9>?"
    assert found.messages[1].author == "sam#0001"
    assert found.roster == {"user1", "sam", "sam#0001", "sam#0002", "Sam Oak"}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.TEXT),
        ({"type": 19}, Kind.TEXT),
        ({"type": None}, Kind.TEXT),
        ({"content": ""}, Kind.SYSTEM),
        ({"is_bot": True}, Kind.BOT),
        ({"author": {"id": "5", "username": "helper", "bot": True}}, Kind.BOT),
        *(({"type": number}, Kind.SYSTEM) for number in (1, 3, 6, 7, 8, 18, 20, 21, 24)),
    ],
)
def test_kinds(read: Read, fields: dict[str, Any], kind: Kind) -> None:
    [conversation] = read(s9=[said(0, 1, "text") | fields])
    assert conversation.messages[0].kind is kind


def test_threads_are_told_by_the_message_they_were_opened_on(read: Read) -> None:
    opening = said(0, 1, "Which editor?")
    forum = said(5, 3, "How do I print?")
    told = said(9, 1, "Another", thread={"id": "777", "name": "another"})
    found = read(
        s9=[
            opening,
            said(2, 2, "The small one", channel=opening["id"], channel_name="editors"),
            forum | {"channel_id": forum["id"], "channel_name": "How do I print?"},
            said(6, 4, "With the blue button", channel=forum["id"]),
            told,
            said(10, 2, "Yes", channel="777", channel_name="another"),
        ]
    )
    assert texts(found) == [
        ["Which editor?", "The small one"],
        ["Another"],
        ["Yes"],
        ["How do I print?", "With the blue button"],
    ]
    assert [(c.channel, c.truth) for c in found] == [
        ("9/general", "explicit"),
        ("9/general", "guessed"),
        ("9/general", "explicit"),
        ("9/How do I print?", "explicit"),
    ]


def test_of_two_messages_with_one_id_the_last_edited_is_kept(read: Read) -> None:
    first = said(0, 1, "frist")
    edited = first | {"content": "first", "edited_timestamp": "2025-03-01T12:00:00+00:00"}
    assert texts(read(s9=[edited, first])) == [["first"]]


def test_a_reply_whose_parent_is_missing_and_a_clock_that_goes_backwards(read: Read) -> None:
    gone = said(0, 1, "gone")
    found = read(s9=[said(90, 1, "later"), reply(30, 2, "earlier", gone)])
    assert texts(found) == [["earlier"], ["later"]]
    assert found[0].messages[0].parents == ()


def test_null_fields(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    nothing = dict.fromkeys(
        ("channel_name", "author", "content", "timestamp", "type", "is_bot", "mentions", "message_reference")
    )
    found = read(s9=[said(0, 1, "x") | nothing, said(1, 1, "y", id=None), said(2, 1, "z", channel_id=None)])
    assert [(c.channel, c.messages[0].author, c.messages[0].kind) for c in found] == [("9/100", "unknown", Kind.SYSTEM)]
    assert found[0].start == pytest.approx(START)
    assert "left out 2 messages without an id or a channel" in caplog.text


def test_two_channels_of_one_name_and_an_empty_server(read: Read) -> None:
    found = read(s8=[], s9=[said(0, 1, "one"), said(1, 1, "two", channel="300", channel_name="general")])
    assert [c.channel for c in found] == ["9/general [100]", "9/general [300]"]


@pytest.mark.parametrize(
    ("damage", "problem", "place"),
    [
        (lambda line: line[:-20], "not valid JSON", ":2:"),
        (lambda line: line.replace(b"+00:00", b"+noon"), "the time is", ":2"),
        (lambda line: line.replace(b"second", b"caf\xe9"), "is not UTF-8", ".jsonl"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, read: Read, make_source: MakeSource, damage: Callable[[bytes], bytes], problem: str, place: str
) -> None:
    read(s9=[said(0, 1, "first"), said(1, 1, "second")])
    path = tmp_path / "servers" / "9.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + damage(second))
    with pytest.raises(InputError, match=problem) as caught:
        list(parsers.parse(tmp_path, make_source("discord_messages", platform="discord")))
    assert caught.value.place.startswith(str(path))
    assert place in caught.value.place


def test_progress_is_logged(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read(**{f"s{number}": [said(number, 1, "hi", channel=str(number))] for number in range(1, 101)})
    assert "100 servers read" in caplog.text
