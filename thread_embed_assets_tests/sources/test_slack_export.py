from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Conversation, Kind, microseconds
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import slack_export
from thread_embed_assets.sources.catalog import Source

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
        "ada": ("Ada", "Ada Lowe", "U1", "ada", "ada.l"),
        "Ben Marsh": ("Ben", "Ben Marsh", "U2", "ben"),
        "cy": ("U3", "cy"),
        "helper": ("U4", "helper"),
    }
    assert slack_export.aliases(export) == {
        "U1": "ada", "Ada": "ada", "Ada Lowe": "ada", "ada.l": "ada",
        "U2": "Ben Marsh", "Ben": "Ben Marsh", "ben": "Ben Marsh",
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
