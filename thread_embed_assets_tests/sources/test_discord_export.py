from __future__ import annotations

import codecs
import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.cleaning import LONGEST, clean
from thread_embed_assets.chat.model import Conversation, Kind
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import discord_channels, discord_export, parsers

from . import exports, marked_threads
from .conftest import MakeSource
from .exports import START, TALK, Line, discord_file, discord_message, discord_user, snowflake


@pytest.fixture(autouse=True)
def _foreseeable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord_channels, "disentangle", marked_threads.disentangle)


Parse = Callable[..., list[Conversation]]
Read = Callable[..., list[Conversation]]


@pytest.fixture
def parse(tmp_path: Path, make_source: MakeSource) -> Parse:
    def run(**fields: Any) -> list[Conversation]:
        source = make_source("discord_export", platform="discord", **fields)
        return list(parsers.parse(tmp_path, source))

    return run


@pytest.fixture
def read(tmp_path: Path, parse: Parse) -> Read:
    """The conversations of one channel of these messages."""

    def run(*messages: dict[str, Any], **fields: Any) -> list[Conversation]:
        discord_file(tmp_path, {"id": "100", "name": "general"}, list(messages))
        return parse(**fields)

    return run


def said(minute: float, handle: str, text: str | None, **fields: Any) -> dict[str, Any]:
    return discord_message(0, START + minute * 60, handle, text, **fields)


def reply(minute: float, handle: str, text: str, to: dict[str, Any], **fields: Any) -> dict[str, Any]:
    reference = {"messageId": to["id"], "channelId": "100", "guildId": "900"}
    return said(minute, handle, text, type="Reply", reference=reference, **fields)


def texts(found: list[Conversation]) -> list[list[str]]:
    return [[m.text for m in c.messages] for c in found]


def test_the_talk_is_read_as_it_was_held(tmp_path: Path, parse: Parse) -> None:
    exports.discord_export(tmp_path)
    found = parse()
    held: dict[tuple[str, str], list[str]] = {}
    for line in TALK:
        held.setdefault((line.channel, line.thread), []).append(
            line.text.replace("@bmarsh", "<@bmarsh>").replace("@dev_o", "<@dev_o>")
        )
    assert sorted(texts(found)) == sorted(held.values())
    assert {c.truth for c in found} == {"explicit"}
    assert Counter(c.channel for c in found) == {"platform": 4, "help": 4, "product": 4}
    assert len({m.id for c in found for m in c.messages}) == len(TALK)
    for channel in ("platform", "help", "product"):
        starts = [c.start for c in found if c.channel == channel]
        assert starts == sorted(starts, key=float)
    assert {m.author for c in found for m in c.messages} == set(exports.PEOPLE)


def test_added_lines_without_a_thread_are_guessed(tmp_path: Path, parse: Parse) -> None:
    exports.discord_export(tmp_path, [Line("platform", "", "ada", "Good morning"), Line("new", "", "ada", "Hello")])
    assert [(c.channel, c.truth) for c in parse() if c.truth != "explicit"] == [("new", "guessed"), ("platform", "guessed")]


def test_replies_are_linked_and_other_references_are_not(read: Read) -> None:
    first = said(0, "ada", "who has the key?")
    pin = {"messageId": first["id"], "channelId": "100", "guildId": "900"}
    forward = pin | {"type": "Forward"}
    found = read(
        first,
        said(60, "cleo", "lunch?"),
        reply(61, "bmarsh", "I have it", first),
        said(70, "cleo", "Pinned a message.", type="ChannelPinnedMessage", reference=pin),
        said(80, "cleo", "", reference=forward, forwardedMessage={"content": "who has the key?"}),
        said(90, "cleo", "news of another channel", reference=pin),
    )
    assert texts(found) == [
        ["who has the key?", "I have it"],
        ["lunch?"],
        ["Pinned a message."],
        [""],
        ["news of another channel"],
    ]
    assert [c.truth for c in found] == ["explicit", "guessed", "guessed", "guessed", "guessed"]
    assert [m.parents for m in found[0].messages] == [(), (first["id"],)]
    assert [c.messages[0].kind for c in found[2:]] == [Kind.SYSTEM, Kind.SYSTEM, Kind.TEXT]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.TEXT),
        ({"type": "Reply"}, Kind.TEXT),
        ({"type": None}, Kind.TEXT),
        ({"attachments": [{"id": "1", "url": "x", "fileName": "a.png", "fileSizeBytes": 5}]}, Kind.TEXT),
        ({"content": " ", "stickers": [{"id": "1", "name": "wave"}]}, Kind.SYSTEM),
        ({"author": discord_user("ada", isBot=True)}, Kind.BOT),
        ({"author": discord_user("ada", isBot=True), "type": "20"}, Kind.BOT),
        *(
            ({"type": kind}, Kind.SYSTEM)
            for kind in (
                "RecipientAdd",
                "RecipientRemove",
                "Call",
                "ChannelNameChange",
                "ChannelIconChange",
                "ChannelPinnedMessage",
                "GuildMemberJoin",
                "ThreadCreated",
                "8",
                "21",
            )
        ),
    ],
)
def test_kinds(read: Read, fields: dict[str, Any], kind: Kind) -> None:
    [conversation] = read(said(0, "ada", "text") | fields)
    assert conversation.messages[0].kind is kind


def test_mentions_are_marked_however_the_exporter_wrote_them(read: Read) -> None:
    ada, ben = discord_user("ada"), discord_user("bmarsh", nickname="Ben")
    benny = discord_user("benny", id="77", nickname="Ben M. (ops)")
    found = read(
        said(0, "cleo", "@Ada Lowe and @Ben M. (ops): @Ben, @Benjamin, ben@Ben.org", mentions=[ada, ben, benny]),
        said(60, "cleo", f"<@{ada['id']}> and <@!{ben['id']}> and <@4711>"),
        said(120, "cleo", "@Ada Lowe without a mention in the file"),
    )
    assert texts(found) == [
        ["<@ada> and <@benny>: <@bmarsh>, @Benjamin, ben@Ben.org"],
        ["<@ada> and <@bmarsh> and <@4711>"],
        ["@Ada Lowe without a mention in the file"],
    ]
    assert {"ada", "Ada Lowe", "Ben", "bmarsh", "benny", "Cleo Varga"} <= found[0].roster


def test_every_name_of_a_user_leads_to_the_author_name(tmp_path: Path, read: Read) -> None:
    reacted = {"emoji": {"name": "👍"}, "count": 1, "users": [discord_user("esme")]}
    other = discord_user("ada2", id="55", nickname="ada", discriminator="0042")
    found = read(
        said(0, "ada", "hi", reactions=[reacted], mentions=[discord_user("bmarsh")]), said(60, "x", "hi", author=other)
    )
    assert [c.messages[0].author for c in found] == ["Ada Lowe", "ada2"]
    known = discord_export.aliases(tmp_path)
    assert known[discord_user("esme")["id"]] == "esme"
    assert (known["Ben Marsh"], known["Marsh"], known["Tully"]) == ("bmarsh", "bmarsh", "esme")
    assert (known["55"], known["ada2#0042"]) == ("ada2", "ada2")
    assert "ada" not in known, "a name that two share leads to neither"
    assert {"ada", "Lowe", "Ada", "esme", "ada2#0042"} <= found[0].roster


def test_a_user_who_left_and_one_who_was_deleted(tmp_path: Path, read: Read) -> None:
    left = discord_user("zed", id="66", nickname="zed", roles=[])
    gone = discord_user("x", id="456226577798135808", name="Deleted User", nickname="Deleted User")
    found = read(
        said(0, "zed", "bye", author=left), said(60, "x", "what I said", author=gone), said(120, "ada", "@Unknown left")
    )
    assert [c.messages[0].author for c in found] == ["zed", "456226577798135808", "ada"]
    assert "Deleted User" not in found[0].roster
    assert discord_export.aliases(tmp_path)["66"] == "zed"


def test_a_thread_moves_its_opening_message_in_and_is_of_the_channel_it_was_opened_in(tmp_path: Path, parse: Parse) -> None:
    opening = said(0, "ada", "Which editor do you use?")
    starter = said(1, "ada", "", type="21", reference={"messageId": opening["id"], "channelId": "100", "guildId": "900"})
    first = said(2, "bmarsh", "The small one")
    discord_file(tmp_path, {"id": "100", "name": "general"}, [opening, said(90, "cleo", "lunch?")])
    thread = {
        "id": opening["id"],
        "name": "editors",
        "type": "GuildPublicThread",
        "categoryId": "100",
        "category": "general",
    }
    discord_file(tmp_path, thread, [starter, first, reply(3, "ada", "Why?", first)])
    found = parse()
    assert texts(found) == [["Which editor do you use?", "", "The small one", "Why?"], ["lunch?"]]
    assert [(c.channel, c.truth, c.id) for c in found] == [
        ("general", "explicit", opening["id"]),
        ("general", "guessed", f"100:{found[1].messages[0].id}"),
    ]
    assert found[0].messages[3].parents == (first["id"],)
    assert found[0].origin.endswith(f"editors [{opening['id']}].json")


def test_two_channels_of_one_name_are_two(tmp_path: Path, parse: Parse) -> None:
    discord_file(tmp_path / "a", {"id": "100", "name": "general"}, [said(0, "ada", "one")])
    discord_file(tmp_path / "b", {"id": "200", "name": "general"}, [said(1, "ada", "two")])
    discord_file(tmp_path / "b", {"id": "300", "name": "other"}, [said(2, "ada", "three")])
    assert [c.channel for c in parse()] == ["general [100]", "general [200]", "other"]


def test_parts_and_overlapping_exports_are_one_channel(tmp_path: Path, parse: Parse) -> None:
    first, second = said(0, "ada", "frist"), said(60, "bmarsh", "second")
    edited = first | {"content": "first", "timestampEdited": "2025-03-01T12:00:00+00:00"}
    discord_file(tmp_path, {"id": "100", "name": "general"}, [first])
    discord_file(tmp_path, {"id": "100", "name": "general"}, [second], part=2)
    discord_file(tmp_path / "again", {"id": "100", "name": "general"}, [edited, second])
    discord_file(tmp_path / "last", {"id": "100", "name": "general"}, [first])
    assert texts(parse()) == [["first"], ["second"]]


def test_direct_messages_are_never_read(tmp_path: Path, parse: Parse, caplog: pytest.LogCaptureFixture) -> None:
    discord_file(tmp_path, {"id": "1", "name": "ada", "type": "DirectTextChat"}, [said(0, "ada", "private")])
    discord_file(tmp_path, {"id": "2", "name": "us", "type": "DirectGroupTextChat"}, [said(0, "esme", "private")])
    discord_file(tmp_path, {"id": "3", "name": "voice", "type": "GuildVoiceChat"}, [said(0, "bmarsh", "public")])
    with caplog.at_level(logging.INFO):
        found = parse()
    assert texts(found) == [["public"]]
    assert "esme" not in found[0].roster
    assert "left out 2 files of direct messages" in caplog.text


def test_downloaded_attachments_are_no_exports(tmp_path: Path, read: Read) -> None:
    exports.write_json(tmp_path / "general.json_Files" / "settings-1A2B.json", {"theme": "dark"})
    assert texts(read(said(0, "ada", "hi"))) == [["hi"]]


def test_times_of_several_zones_and_a_clock_that_goes_backwards(read: Read) -> None:
    found = read(
        said(0, "ada", "third", timestamp="2025-03-01T12:02:00+01:00"),
        said(0, "ada", "first", timestamp="2025-03-01T11:00:00+00:00", id=snowflake(START, 1)),
        said(0, "ada", "second", timestamp="2025-03-01T06:01:00", id=snowflake(START, 2)),
        said(0, "ada", "by its id", timestamp=None, id=snowflake(1_740_826_980)),
        timezone="America/New_York",
    )
    assert texts(found) == [["first", "second", "third", "by its id"]]
    assert [m.time for m in found[0].messages] == [1_740_826_800 + 60 * n for n in range(4)]


def test_null_fields_and_an_empty_channel(tmp_path: Path, parse: Parse) -> None:
    empty = dict.fromkeys(("content", "author", "mentions", "reference", "reactions", "timestampEdited", "attachments"))
    discord_file(
        tmp_path,
        {"id": "100", "name": "general", "topic": None, "categoryId": None, "category": None},
        [said(0, "ada", "") | empty],
    )
    discord_file(tmp_path, {"id": "200", "name": "empty"}, [])
    discord_file(tmp_path, {"id": "300", "name": "thread", "type": "GuildPublicThread", "categoryId": None}, [])
    [found] = parse()
    assert (found.messages[0].author, found.messages[0].text, found.messages[0].kind) == ("unknown", "", Kind.SYSTEM)
    assert discord_export.aliases(tmp_path) == {}


def test_long_right_to_left_and_emoji_only_texts(read: Read) -> None:
    long = "a long line of words " * 100_000
    found = read(
        said(0, "ada", long),
        said(60, "ada", "\u202bשלום לכולם\u202c"),
        said(120, "ada", "👍🏽"),
        said(180, "ada", "<:pepe:123>"),
    )
    assert [m.kind for c in found for m in c.messages] == [Kind.TEXT] * 4
    cleaned = [clean(m.text, "discord") for c in found for m in c.messages]
    assert len(cleaned[0]) <= LONGEST
    assert cleaned[1:] == ["שלום לכולם", "👍🏽", ""]


@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")])
def test_a_file_saved_again_with_a_byte_order_mark(tmp_path: Path, parse: Parse, mark: bytes, encoding: str) -> None:
    path = discord_file(tmp_path, {"id": "100", "name": "général"}, [said(0, "ada", "שלום")])
    path.write_bytes(mark + path.read_text(encoding="utf-8").encode(encoding))
    [found] = parse()
    assert (found.channel, found.messages[0].text) == ("général", "שלום")


def _spoil(content: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
    written = json.dumps(content, indent=2, ensure_ascii=False)
    return {
        "truncated": lambda: written[:-30].encode(),
        "latin-1": lambda: written.encode("latin-1"),
        "no channel": lambda: json.dumps(content | {"channel": None}).encode(),
        "no message": lambda: json.dumps(content | {"messages": ["x"]}).encode(),
        "no id": lambda: json.dumps(content | {"messages": [said(0, "ada", "hi", id=None)]}).encode(),
        "wrong time": lambda: json.dumps(content | {"messages": [said(0, "ada", "hi", timestamp="noon")]}).encode(),
    }


@pytest.mark.parametrize(
    ("fault", "problem", "place"),
    [
        ("truncated", "not valid JSON", ", messages.item 1"),
        ("latin-1", "is not UTF-8", ""),
        ("no channel", "has no 'channel' with an 'id'", ""),
        ("no message", "is not a message", ", message 0"),
        ("no id", "'id' is 'None'", ", message 0"),
        ("wrong time", "the time is 'noon'", ", message 0"),
    ],
)
def test_damage_is_named(tmp_path: Path, parse: Parse, fault: str, problem: str, place: str) -> None:
    messages = [said(0, "ada", "café"), said(1, "ada", "y", inlineEmojis=["x" * 60])]
    path = discord_file(tmp_path, {"id": "100", "name": "general"}, messages)
    path.write_bytes(_spoil(json.loads(path.read_text(encoding="utf-8")))[fault]())
    with pytest.raises(InputError, match=problem) as caught:
        parse()
    assert caught.value.place == f"{path}{place}"


def test_names_are_read_anew_when_a_file_changes(tmp_path: Path) -> None:
    discord_file(tmp_path, {"id": "100", "name": "general"}, [said(0, "ada", "hi")])
    assert set(discord_export.aliases(tmp_path).values()) == {"ada"}
    discord_file(tmp_path, {"id": "100", "name": "general"}, [said(0, "bmarsh", "hi")])
    assert set(discord_export.aliases(tmp_path).values()) == {"bmarsh"}
