from __future__ import annotations

import codecs
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.cleaning import LONGEST, clean
from thread_embed_assets.chat.model import Conversation, Kind, microseconds
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import slack_export
from thread_embed_assets.sources.catalog import Source

from . import exports
from .conftest import MakeSource

USERS = [
    {"id": "U1", "name": "ada.l", "real_name": "Ada Lowe", "profile": {"display_name": "ada", "real_name": "Ada Lowe"}},
    {"id": "U2", "name": "ben", "real_name": "Ben Marsh", "profile": {"display_name": ""}},
    {"id": "U3", "name": "cy", "profile": {"display_name": "", "real_name": ""}},
    {"id": "U4", "name": "helper", "is_bot": True, "profile": {"display_name": "helper"}},
]
SYSTEM_SUBTYPES = [
    "channel_join",
    "channel_leave",
    "channel_topic",
    "channel_purpose",
    "channel_name",
    "channel_archive",
    "pinned_item",
    "reminder_add",
    "group_join",
    "huddle_thread",
    "not_invented_yet",
]
Day = list[dict[str, Any]]


def said(ts: str, user: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "ts": ts, "user": user, "text": text} | more


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write(tmp_path, "users.json", USERS)
    write(tmp_path, "channels.json", [{"id": "C1", "name": "general"}])
    return tmp_path


@pytest.fixture
def read(export: Path, make_source: MakeSource) -> Callable[..., list[Conversation]]:
    source = make_source("slack_export")

    def reader(*days: Day) -> list[Conversation]:
        for position, day in enumerate(days, start=1):
            write(export, f"general/2025-03-{position:02}.json", day)
        return list(slack_export.parse(export, source))

    return reader


Read = Callable[..., list[Conversation]]


def texts(conversations: list[Conversation]) -> list[list[str]]:
    return [[m.text for m in c.messages] for c in conversations]


def test_a_thread_spans_days_and_others_talk_in_between(read: Read) -> None:
    found = read(
        [
            said("100.000001", "U1", "who broke it?", thread_ts="100.000001", reply_count=2),
            said("101.000000", "U2", "lunch?"),
        ],
        [
            said("200.000000", "U2", "I did", thread_ts="100.000001"),
            said("201.000000", "U1", "thanks", thread_ts="100.000001"),
        ],
    )
    assert texts(found) == [["who broke it?", "I did", "thanks"], ["lunch?"]]
    thread, single = found
    assert (thread.id, single.id) == ("general:100.000001", "general:101.000000")
    assert [m.parents for m in thread.messages] == [(), ("general:100.000001",), ("general:100.000001",)]
    assert (thread.channel, thread.origin, thread.start) == ("general", "general", 100.000001)
    assert [m.author for m in thread.messages] == ["ada", "Ben Marsh", "ada"]


@given(
    st.permutations([f"1741079520.{n:06}" for n in (0, 1, 2, 20, 200, 199, 999_999)] + ["999999999.999999", "1741079519.9"])
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_order_is_that_of_the_exact_timestamps(read: Read, order: list[str]) -> None:
    root = "999999999.999999"
    [thread] = read([said(ts, "U1", ts, thread_ts=root) for ts in order])
    expected = [root, "1741079519.9", *(f"1741079520.{n:06}" for n in (0, 1, 2, 20, 199, 200, 999_999))]
    assert [m.text for m in thread.messages] == expected
    assert [microseconds(m.time) for m in thread.messages][2:5] == [1741079520_000000 + n for n in (0, 1, 2)]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({}, Kind.TEXT),
        ({"subtype": "thread_broadcast"}, Kind.TEXT),
        ({"subtype": "me_message"}, Kind.TEXT),
        ({"subtype": "file_share"}, Kind.TEXT),
        ({"subtype": "file_share", "text": " "}, Kind.SYSTEM),
        ({"subtype": "bot_message", "username": "deploys"}, Kind.BOT),
        ({"bot_id": "B1"}, Kind.BOT),
        ({"user": "U4"}, Kind.BOT),
        ({"user": "USLACKBOT"}, Kind.BOT),
        ({"bot_profile": {"id": "B1", "name": "deploys"}}, Kind.BOT),
        ({"is_hidden_by_limit": 1, "text": ""}, Kind.SYSTEM),
        ({"subtype": "file_comment", "comment": {"comment": "nice", "user": "U2"}}, Kind.TEXT),
        ({"subtype": "file_comment", "comment": None, "text": ""}, Kind.SYSTEM),
        *(({"subtype": subtype}, Kind.SYSTEM) for subtype in SYSTEM_SUBTYPES),
    ],
)
def test_kinds(read: Read, entry: dict[str, Any], kind: Kind) -> None:
    [conversation] = read([said("1.0", "U1", "text") | entry])
    assert conversation.messages[0].kind is kind


def test_edits_and_deletions(read: Read) -> None:
    found = read(
        [
            said("1.0", "U1", "frist"),
            said("2.0", "U1", "secret"),
            said("3.0", "USLACKBOT", "This message was deleted.", subtype="tombstone", thread_ts="3.0"),
            said("4.0", "U2", "answer to what is gone", thread_ts="3.0"),
            said("5.0", "U2", "as it is now", edited={"user": "U2", "ts": "6.0"}),
        ],
        [
            {"type": "message", "subtype": "message_changed", "ts": "7.0", "message": said("1.0", "U1", "fisrt")},
            {"type": "message", "subtype": "message_deleted", "ts": "8.0", "deleted_ts": "2.0"},
            {"type": "message", "subtype": "message_changed", "ts": "9.0", "message": said("1.0", "U1", "first")},
        ],
    )
    assert texts(found) == [["first"], ["answer to what is gone"], ["as it is now"]]
    assert found[1].id == "general:3.0"
    assert found[1].messages[0].parents == (), "a parent that is gone is no parent"


def test_of_two_messages_with_one_timestamp_the_first_is_kept(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert texts(read([said("1.0", "U1", "once")], [said("1.0", "U1", "twice")])) == [["once"]]
    assert "left out 1 messages" in caplog.text


def test_authors_without_a_member_entry(read: Read) -> None:
    found = read(
        [
            said("1.0", "U9", "from a guest"),
            {"type": "message", "ts": "2.0", "text": None, "subtype": "bot_message", "username": "deploys"},
            {"type": "message", "ts": "3.0", "bot_id": "B7"},
        ]
    )
    assert [c.messages[0].author for c in found] == ["U9", "deploys", "B7"]
    assert found[1].messages[0].text == ""


def test_markup_stays(read: Read) -> None:
    text = "<@U2> see <#C1|general> and <https://x.org/?a=1&amp;b|this> &lt;b&gt; *now*"
    assert texts(read([said("1.0", "U1", text)])) == [[text]]


def test_names_lead_to_the_author_and_the_roster_holds_them_all(export: Path, read: Read) -> None:
    assert slack_export.members(export) == {
        "ada": ("Ada", "Ada Lowe", "Lowe", "U1", "ada", "ada.l"),
        "Ben Marsh": ("Ben", "Ben Marsh", "Marsh", "U2", "ben"),
        "cy": ("U3", "cy"),
        "helper": ("U4", "helper"),
    }
    assert slack_export.aliases(export) == {
        "U1": "ada", "Ada": "ada", "Ada Lowe": "ada", "Lowe": "ada", "ada.l": "ada",
        "U2": "Ben Marsh", "Ben": "Ben Marsh", "Marsh": "Ben Marsh", "ben": "Ben Marsh",
        "U3": "cy", "U4": "helper",
    }  # fmt: skip
    [conversation] = read([said("1.0", "U1", "hi")])
    assert conversation.roster == {name for names in slack_export.members(export).values() for name in names}


def test_two_people_of_one_name_stay_two(export: Path, read: Read) -> None:
    users = [
        {"id": "U1", "name": "sam", "real_name": "Sam Oak", "profile": {"display_name": "Sam"}},
        {"id": "U2", "name": "sam2", "real_name": "Sam Elm", "profile": {"display_name": "sam"}},
        {"id": "U3", "name": "", "real_name": "Sam", "profile": {"display_name": "Sam"}},
    ]
    write(export, "users.json", users)
    found = read([said(f"{n}.0", f"U{n}", "hi") for n in (1, 2, 3)])
    assert [c.messages[0].author for c in found] == ["Sam Oak", "Sam Elm", "U3"]
    known = slack_export.aliases(export)
    assert known["U1"] == "Sam Oak"
    assert known["sam2"] == "Sam Elm"
    assert not {"Sam", "sam"} & set(known), "a shared name leads to nobody"
    assert {"Sam", "sam"} <= found[0].roster, "and is masked all the same"


def test_public_and_private_channels_are_read_and_direct_messages_never(export: Path, make_source: MakeSource) -> None:
    source: Source = make_source("slack_export")
    write(export, "groups.json", [{"id": "G1", "name": "board"}])
    write(export, "dms.json", [{"id": "D0123456789", "members": ["U1", "U2"]}])
    write(export, "mpims.json", [{"id": "G2", "name": "mpdm-ada--ben-1"}])
    (export / "threads.jsonl").write_text("a side file\n", encoding="utf-8")
    for name in ("general", "board", "D0123456789", "mpdm-ada--ben-1", "DABCDEFGHI", "attic"):
        write(export, f"{name}/2025-03-01.json", [said("1.0", "U1", name)])
    write(export, "general/canvas_in_the_conversation.json", {"not": "a day"})
    assert texts(list(slack_export.parse(export, source))) == [["board"], ["general"]]
    (export / "channels.json").unlink()
    assert texts(list(slack_export.parse(export, source))) == [["attic"], ["board"], ["general"]]


@pytest.mark.parametrize(
    ("name", "content", "place", "problem"),
    [
        ("general/2025-03-01.json", '[{"type": "message",\n "ts": "1.', "2025-03-01.json:2:", "not valid JSON"),
        ("general/2025-03-01.json", '{"ok": false}', "2025-03-01.json", "is not a list"),
        ("general/2025-03-01.json", '[{"ts": "1.0"}, "x"]', "2025-03-01.json, entry 1", "not a message"),
        ("general/2025-03-01.json", '[{"text": "when?"}]', "2025-03-01.json, entry 0", "'ts' is None"),
        ("general/2025-03-01.json", '[{"ts": "noon"}]', "2025-03-01.json, entry 0", "'ts' is 'noon'"),
        ("users.json", '[{"name": "ada"}]', "users.json, entry 0", "no 'id'"),
        ("channels.json", "[", "channels.json:1:", "not valid JSON"),
        ("channels.json", "\udcff", "channels.json", "not UTF-8"),
    ],
)
def test_damage_is_named(export: Path, make_source: MakeSource, name: str, content: str, place: str, problem: str) -> None:
    write(export, "general/2025-03-01.json", [said("1.0", "U1", "hi")])
    (export / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=problem) as caught:
        list(slack_export.parse(export, make_source("slack_export")))
    assert caught.value.place.startswith(f"{export}/{name.partition('/')[0]}")
    assert place in caught.value.place


def test_an_export_without_members_is_refused_since_names_could_not_be_masked(export: Path, make_source: MakeSource) -> None:
    (export / "users.json").unlink()
    with pytest.raises(InputError, match="could not be masked"):
        list(slack_export.parse(export, make_source("slack_export")))


def test_the_talk_is_read_as_it_was_held(tmp_path: Path, make_source: MakeSource) -> None:
    exports.slack_export(tmp_path)
    found = list(slack_export.parse(tmp_path, make_source("slack_export")))
    held: dict[tuple[str, str], list[str]] = {}
    for line in exports.TALK:
        text = line.text.replace("@bmarsh", "<@U00000002>").replace("@dev_o", "<@U00000004>")
        held.setdefault((line.channel, line.thread), []).append(text)
    assert sorted(texts(found)) == sorted(held.values())
    assert {m.author for c in found for m in c.messages} == set(exports.PEOPLE)


def test_of_a_huddle_what_was_written_in_its_thread_is_read(read: Read) -> None:
    huddle = {
        "type": "message",
        "subtype": "huddle_thread",
        "user": "USLACKBOT",
        "text": "",
        "ts": "1.0",
        "thread_ts": "1.0",
        "room": {"id": "R1", "created_by": "U1", "participant_history": ["U1", "U2"], "has_ended": True},
        "no_notifications": True,
    }
    [found] = read(
        [
            huddle,
            said("2.0", "U1", "the notes are in the wiki", thread_ts="1.0"),
            said("3.0", "U2", "thanks", thread_ts="1.0"),
        ]
    )
    assert [m.kind for m in found.messages] == [Kind.BOT, Kind.TEXT, Kind.TEXT]
    assert found.messages[2].text == "thanks"


def test_of_a_file_the_comment_is_read(read: Read) -> None:
    file = {"id": "F1", "name": "plan.pdf", "title": "The plan", "mode": "hosted"}
    canvas = {"id": "F2", "title": "Notes", "mode": "quip", "filetype": "quip"}
    found = read(
        [
            said("1.0", "U1", "have a look", files=[file], upload=True),
            said("2.0", "U1", "", files=[file], subtype="file_share"),
            said(
                "3.0",
                "U1",
                "<@U1> uploaded a file: <https://x/F1|The plan> and commented: is it\nright?",
                subtype="file_share",
            ),
            said("4.0", "U1", "<@U1> uploaded a file: <https://x/F1|The plan>", subtype="file_share"),
            said("5.0", "", "<@U2> commented on it", subtype="file_comment", comment={"comment": "it is", "user": "U2"}),
            said("6.0", "U1", "", files=[canvas], subtype="file_share"),
        ]
    )
    assert [(c.messages[0].text, c.messages[0].kind) for c in found] == [
        ("have a look", Kind.TEXT),
        ("", Kind.SYSTEM),
        ("is it\nright?", Kind.TEXT),
        ("", Kind.SYSTEM),
        ("it is", Kind.TEXT),
        ("", Kind.SYSTEM),
    ]
    assert found[4].messages[0].author == "Ben Marsh"


def test_what_only_the_blocks_say_is_read_in_the_same_markup(read: Read) -> None:
    section = [
        {"type": "text", "text": "Is a < b & "},
        {"type": "text", "text": "x*y", "style": {"code": True}},
        {"type": "text", "text": " right, "},
        {"type": "user", "user_id": "U2"},
        {"type": "text", "text": " and "},
        {"type": "broadcast", "range": "here"},
        {"type": "text", "text": "? See "},
        {"type": "link", "url": "https://a.org", "text": "this"},
        {"type": "channel", "channel_id": "C1"},
        {"type": "usergroup", "usergroup_id": "S1"},
        {"type": "emoji", "name": "tada"},
        {"type": "color", "value": "#000000"},
        None,
    ]
    items = [{"type": "rich_text_section", "elements": [{"type": "text", "text": text}]} for text in ("one", "two")]
    elements = [
        {"type": "rich_text_section", "elements": section},
        {"type": "rich_text_list", "style": "bullet", "elements": items},
        {"type": "rich_text_quote", "elements": [{"type": "text", "text": "as\nsaid"}]},
        {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "for x in y:\n    z"}]},
    ]
    blocks = [None, {"type": "image", "alt_text": "a cat"}, {"type": "rich_text", "elements": elements}]
    [found, kept] = read([said("1.0", "U1", "", blocks=blocks), said("2.0", "U1", "as it is", blocks=blocks)])
    assert found.messages[0].text == (
        "Is a &lt; b &amp; `x*y` right, <@U2> and <!here>? See <https://a.org><#C1><!subteam^S1>:tada:\n"
        "one\ntwo\n&gt; as\n&gt; said\n```\nfor x in y:\n    z\n```"
    )
    assert kept.messages[0].text == "as it is"


def test_people_of_other_workspaces_and_members_who_left(export: Path, read: Read) -> None:
    write(
        export,
        "users.json",
        [*USERS, {"id": "U5", "name": "old", "deleted": True, "real_name": "Olga Diaz", "profile": None}],
    )
    profile = {"name": "zoe", "real_name": "Zoe Quill", "display_name": "", "first_name": "Zoe", "team": "T9"}
    found = read(
        [
            said("1.0", "U9", "hello", user_profile=profile),
            said("2.0", "U8", "hi", user_profile=None),
            said("3.0", "U5", "bye"),
        ]
    )
    assert [c.messages[0].author for c in found] == ["Zoe Quill", "U8", "Olga Diaz"]
    known = slack_export.aliases(export)
    assert {known[name] for name in ("U9", "zoe", "Zoe", "Quill")} == {"Zoe Quill"}
    assert {known[name] for name in ("U5", "old", "Olga", "Diaz")} == {"Olga Diaz"}
    assert {"Zoe Quill", "Quill", "zoe", "U8", "Diaz"} <= found[0].roster


def test_a_last_name_that_two_share_is_masked_and_leads_to_neither(export: Path, read: Read) -> None:
    write(
        export,
        "users.json",
        [{"id": f"U{n}", "name": f"m{n}", "real_name": f"{name} Marsh"} for n, name in enumerate(("Ada", "Ben"))],
    )
    [found] = read([said("1.0", "U1", "hi")])
    assert "Marsh" in found.roster
    assert "Marsh" not in slack_export.aliases(export)


def test_members_of_an_organisation(export: Path, read: Read) -> None:
    (export / "users.json").rename(export / "org_users.json")
    assert [c.messages[0].author for c in read([said("1.0", "U1", "hi")])] == ["ada"]


def test_a_renamed_channel_is_read_from_all_its_folders(export: Path, make_source: MakeSource) -> None:
    channels = [
        {"id": "C1", "name": "platform", "previous_names": ["backend", "general"]},
        {"id": "C2", "name": "general", "previous_names": None},
        {"id": "C3", "name": "silent"},
    ]
    write(export, "channels.json", channels)
    (export / "silent").mkdir()
    write(export, "backend/2025-03-01.json", [said("1.0", "U1", "question", thread_ts="1.0"), said("2.0", "U1", "both")])
    write(export, "platform/2025-03-01.json", [said("2.0", "U1", "both"), said("3.0", "U2", "answer", thread_ts="1.0")])
    write(export, "general/2025-03-01.json", [said("1.0", "U1", "elsewhere")])
    found = list(slack_export.parse(export, make_source("slack_export")))
    assert [(c.channel, [m.text for m in c.messages]) for c in found] == [
        ("general", ["elsewhere"]),
        ("platform", ["question", "answer"]),
        ("platform", ["both"]),
    ]


def test_null_fields(export: Path, read: Read) -> None:
    write(export, "users.json", [*USERS, {"id": "U6", "name": None, "real_name": None, "profile": None}])
    nothing = dict.fromkeys(
        ("text", "user", "thread_ts", "subtype", "blocks", "files", "edited", "reactions", "user_profile")
    )
    [found] = read([said("1.0", "U1", "x") | nothing])
    assert (found.messages[0].author, found.messages[0].text, found.id) == ("unknown", "", "general:1.0")


def test_long_right_to_left_and_emoji_only_texts(read: Read) -> None:
    found = read(
        [
            said("1.0", "U1", "words and " * 200_000),
            said("2.0", "U1", "שלום לכולם"),
            said("3.0", "U1", ":+1::skin-tone-3:"),
            said("4.0", "U1", "👍"),
        ]
    )
    cleaned = [clean(m.text, "slack") for c in found for m in c.messages]
    assert len(cleaned[0]) <= LONGEST
    assert cleaned[1:] == ["שלום לכולם", "", "👍"]


@pytest.mark.parametrize(("mark", "encoding"), [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le")])
def test_a_file_saved_again_with_a_byte_order_mark(export: Path, read: Read, mark: bytes, encoding: str) -> None:
    read([said("1.0", "U1", "שלום")])
    for path in export.rglob("*.json"):
        if path.parent == export:
            path.write_bytes(mark + path.read_text(encoding="utf-8").encode(encoding))
    day = export / "general" / "2025-03-02.json"
    day.write_bytes(mark + json.dumps([said("2.0", "U2", "שלום")], ensure_ascii=False).encode(encoding))
    assert texts(read([said("1.0", "U1", "hi")])) == [["hi"], ["שלום"]]
