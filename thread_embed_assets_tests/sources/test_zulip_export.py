from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.cleaning import LONGEST, clean
from thread_embed_assets.chat.model import Conversation, Kind
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import parsers, zulip_export

from . import exports
from .conftest import MakeSource
from .exports import START, TALK, write_json, zulip_message, zulip_topic_file

DAY = 86_400.0
Topics = dict[str, list[dict[str, Any]]]
Parse = Callable[[], list[Conversation]]
Read = Callable[..., list[Conversation]]


@pytest.fixture
def parse(tmp_path: Path, make_source: MakeSource) -> Parse:
    return lambda: list(parsers.parse(tmp_path, make_source("zulip_export", platform="zulip")))


@pytest.fixture
def read(tmp_path: Path, parse: Parse) -> Read:
    """The conversations of one channel of these topics."""

    def run(topics: Topics, folder: str = "5-general", index: dict[str, Any] | None = None) -> list[Conversation]:
        for title, messages in topics.items():
            write_json(tmp_path / "zulip_json" / folder / zulip_topic_file(title), messages)
        streams = index or {"general": {"id": 5, "latest_id": 9, "topic_data": {}}}
        write_json(tmp_path / "zulip_json" / "stream_index.json", {"streams": streams, "time": START})
        return parse()

    return run


def said(number: int, days: float, handle: str, text: str | None, **fields: Any) -> dict[str, Any]:
    return zulip_message(number, START + days * DAY, handle, text and f"<p>{text}</p>", **fields)


def texts(found: list[Conversation]) -> list[list[str]]:
    return [[clean(m.text, "zulip") for m in c.messages] for c in found]


def test_the_talk_is_read_as_it_was_held(tmp_path: Path, parse: Parse) -> None:
    exports.zulip_export(tmp_path)
    found = parse()
    held: dict[tuple[str, str], list[str]] = {}
    for line in TALK:
        text = line.text.replace("@bmarsh", "<@Ben Marsh>").replace("@dev_o", "<@Dev Okafor>")
        held.setdefault((line.channel, line.thread), []).append(text)
    assert sorted(texts(found)) == sorted(held.values())
    assert {c.truth for c in found} == {"explicit"}
    assert [c.channel for c in found] == ["help"] * 4 + ["platform"] * 4 + ["product"] * 4
    assert found[0].origin == "zulip_json/300002-help/How.20do.20I.20reset.20my.20password.3F.json"
    assert len({m.id for c in found for m in c.messages}) == len(TALK)
    for channel in ("platform", "help", "product"):
        starts = [c.start for c in found if c.channel == channel]
        assert starts == sorted(starts, key=float)


def test_a_topic_is_cut_at_long_pauses_but_not_where_a_quote_reaches_over(read: Read) -> None:
    quote = (
        '<span class="user-mention silent" data-user-id="1">Ada Lowe</span> '
        '<a href="#narrow/channel/5-general/topic/general/near/500000005">said</a>:</p>\n'
        "<blockquote>\n<p>three</p>\n</blockquote>\n<p>four"
    )
    found = read(
        {
            "general": [
                said(1, 0, "ada", "one"),
                said(2, 6.9, "bmarsh", "two"),
                said(5, 14, "ada", "three"),
                said(6, 30, "bmarsh", quote),
                said(7, 40, "cleo", "five"),
            ],
            "other": [said(3, 10, "ada", "between")],
        }
    )
    assert texts(found) == [["one", "two"], ["between"], ["three", "four"], ["five"]]
    assert [c.id for c in found] == [f"5:50000000{n}" for n in (1, 3, 5, 7)]
    assert found[2].messages[1].parents == ("500000005",)
    assert {c.truth for c in found} == {"explicit"}


def test_a_topic_goes_on_when_it_is_marked_as_resolved(read: Read) -> None:
    notice = '<span class="user-mention silent" data-user-id="1">Ada Lowe</span> has marked this topic as resolved.'
    topics = {
        "no sound": [said(1, 0, "ada", "it is silent"), said(2, 0.1, "bmarsh", "turn it up")],
        "✔ no sound": [said(2, 0.1, "bmarsh", "turn it up"), said(3, 0.2, "Notification Bot", notice)],
    }
    [found] = read(topics)
    assert texts([found])[0][:2] == ["it is silent", "turn it up"], "and what stands in both files is there once"
    assert [m.kind for m in found.messages] == [Kind.TEXT, Kind.TEXT, Kind.SYSTEM]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.TEXT),
        ({"sender_full_name": "Notification Bot"}, Kind.SYSTEM),
        ({"sender_full_name": "Welcome Bot"}, Kind.SYSTEM),
        ({"sender_full_name": "GitHub bot"}, Kind.BOT),
        ({"sender_full_name": "Ted Talbot"}, Kind.TEXT),
        ({"sender_full_name": "Builds", "sender_email": "builds-bot@chat.brackenfold.example"}, Kind.BOT),
        ({"content": ""}, Kind.SYSTEM),
    ],
)
def test_kinds(read: Read, fields: dict[str, Any], kind: Kind) -> None:
    [conversation] = read({"x": [said(1, 0, "ada", "text") | fields]})
    assert conversation.messages[0].kind is kind


def test_names_of_people_who_wrote_or_were_mentioned(tmp_path: Path, read: Read) -> None:
    mention = (
        'Hi <span class="user-mention" data-user-id="8">@Zoë O&#39;Neil</span> '
        'and <span class="user-mention" data-user-id="*">@all</span>'
    )
    [found] = read({"x": [said(1, 0, "ada", mention), said(2, 0, "Ben Lowe", "hi")]})
    assert found.roster == {"Ada Lowe", "Ada", "Lowe", "Ben Lowe", "Ben", "Zoë O'Neil", "Zoë", "O'Neil"}
    known = zulip_export.aliases(tmp_path)
    assert known == {"Ada": "Ada Lowe", "Ben": "Ben Lowe", "Zoë": "Zoë O'Neil", "O'Neil": "Zoë O'Neil"}


@pytest.mark.parametrize("folder", ["5-release-notes-(beta)", "5releasenotesbeta"])
def test_the_folders_of_every_version_of_the_archive(read: Read, folder: str) -> None:
    index = {"release notes (beta)": {"id": 5, "latest_id": 3, "topic_data": {}}}
    [found] = read({"v1.0 / 50%": [said(1, 0, "ada", "hi")]}, folder, index)
    assert (found.channel, found.origin) == ("release notes (beta)", f"zulip_json/{folder}/v1.2E0.20.2F.2050.25.json")


def test_a_renamed_channel_is_one_and_has_its_last_name(read: Read) -> None:
    index = {
        "chat": {"id": 5, "latest_id": 2, "topic_data": {}},
        "lounge": {"id": 5, "latest_id": 7, "topic_data": {}},
        "never used": {"id": 6, "latest_id": None, "topic_data": {}},
    }
    read({"x": [said(1, 0, "ada", "frist"), said(2, 0.1, "ada", "second")]}, "5-chat", index)
    found = read({"x": [said(1, 0, "ada", "first")]}, "5-lounge", index)
    assert texts(found) == [["first", "second"]]
    assert found[0].channel == "lounge"


def test_a_clock_that_goes_backwards(read: Read) -> None:
    quote = '<a href="#narrow/near/500000009">said</a>:</p><blockquote>x</blockquote><p>reply'
    [found] = read({"x": [said(3, 0.2, "ada", "third"), said(1, 0.1, "ada", quote), said(9, 0.1, "ada", "second")]})
    assert [m.id for m in found.messages] == ["500000001", "500000009", "500000003"]
    assert found.messages[0].parents == (), "what is quoted before it was said is no parent"


def test_null_fields_and_an_empty_topic(read: Read) -> None:
    [found] = read({"x": [said(1, 0, "ada", None, sender_full_name=None, sender_email=None)], "empty": []})
    assert (found.messages[0].author, found.messages[0].text, found.messages[0].kind) == ("unknown", "", Kind.SYSTEM)


def test_long_right_to_left_and_emoji_only_texts(read: Read) -> None:
    emoji = '<span aria-label="thumbs up" class="emoji emoji-1f44d" role="img" title="thumbs up">:+1:</span>'
    [found] = read(
        {"x": [said(1, 0, "ada", "words and " * 200_000), said(2, 0, "ada", "שלום לכולם"), said(3, 0, "ada", emoji)]}
    )
    [cleaned] = texts([found])
    assert len(cleaned[0]) <= LONGEST
    assert cleaned[1:] == ["שלום לכולם", "👍"]


@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")])
def test_a_file_saved_again_with_a_byte_order_mark(
    tmp_path: Path, read: Read, parse: Parse, mark: bytes, encoding: str
) -> None:
    read({"x": [said(1, 0, "ada", "שלום")]})
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(mark + path.read_text(encoding="utf-8").encode(encoding))
    assert texts(parse()) == [["שלום"]]


@pytest.mark.parametrize(
    ("name", "content", "problem", "place"),
    [
        ("5-general/x.json", b'[{"id": 1, "conte', "not valid JSON", "x.json:1:"),
        ("5-general/x.json", '[{"content": "café"}]'.encode("latin-1"), "byte 17 is not UTF-8", "x.json"),
        ("5-general/x.json", b'{"messages": []}', "is not a list", "x.json"),
        ("5-general/x.json", b'["x"]', "is not a message", "x.json, message 0"),
        ("5-general/x.json", b'[{"id": 1, "timestamp": null}]', "'timestamp' is None", "x.json, message 0"),
        ("5-general/x.json", b'[{"id": "1", "timestamp": 5}]', "'id' is '1'", "x.json, message 0"),
        ("stream_index.json", b"[]", "has no 'streams'", "stream_index.json"),
        ("stream_index.json", b'{"streams": {"general": {}}}', "has no 'id'", "stream_index.json, channel 'general'"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, read: Read, parse: Parse, name: str, content: bytes, problem: str, place: str
) -> None:
    read({"x": [said(1, 0, "ada", "hi")]})
    (tmp_path / "zulip_json" / name).write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        parse()
    assert caught.value.place.startswith(str(tmp_path / "zulip_json"))
    assert place in caught.value.place


def test_a_folder_without_an_index_is_refused(tmp_path: Path, parse: Parse) -> None:
    with pytest.raises(InputError, match=r"no stream_index\.json"):
        parse()


def test_as_many_conversations_as_topics(tmp_path: Path, parse: Parse) -> None:
    exports.zulip_export(tmp_path, [exports.Line("help", "", "ada", "Morning"), exports.Line("help", "", "cleo", "Hello")])
    index = json.loads((tmp_path / "zulip_json" / "stream_index.json").read_text(encoding="utf-8"))
    topics = Counter({name: len(stream["topic_data"]) for name, stream in index["streams"].items()})
    assert Counter(c.channel for c in parse()) == topics
