from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest

from thread_embed_assets.chat.model import Conversation, Kind, Message, Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import discord_channels
from thread_embed_assets.sources.discord_channels import People, Room, conversations, named_mentions, sent_at

from . import marked_threads
from .conftest import MakeSource

UTC = ZoneInfo("UTC")
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _foreseeable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discord_channels, "disentangle", marked_threads.disentangle)


Build = Callable[..., list[Conversation]]


@pytest.fixture
def build(make_source: MakeSource) -> Build:
    source = make_source("discord_export", platform="discord")

    def run(channel: list[Message], **threads: list[Message]) -> list[Conversation]:
        rooms = {name.removeprefix("t"): room(name.removeprefix("t"), messages) for name, messages in threads.items()}
        return list(conversations(room("900", channel), rooms.values(), source, frozenset({"ada"})))

    return run


def room(name: str, messages: list[Message]) -> Room:
    filled = Room(name, "general", f"{name}.json")
    for message in messages:
        filled.add(message)
    return filled


def said(number: int, hours: float, *answers: int, kind: Kind = Kind.TEXT) -> Message:
    return Message(str(number), "ada", f"text {number}", hours * HOUR, tuple(map(str, answers)), kind)


def shape(found: list[Conversation]) -> list[tuple[list[int], str]]:
    return [([int(m.id) for m in c.messages], str(c.truth)) for c in found]


def test_what_reply_marks_hold_together_is_explicit_and_all_else_is_guessed(build: Build) -> None:
    found = build(
        [
            said(1, 0),
            said(2, 1),
            said(3, 2, 1),
            said(4, 3, 3),
            said(5, 4, 2),
            said(6, 4.01),  # goes on with 5, as nobody marked
            said(7, 9),
            said(8, 9.01),
            said(9, 20),
        ]
    )
    assert shape(found) == [([1, 3, 4], "explicit"), ([2, 5, 6], "guessed"), ([7, 8], "guessed"), ([9], "guessed")]
    assert [m.parents for m in found[0].messages] == [(), ("1",), ("3",)]
    assert (found[0].id, found[0].channel, found[0].origin) == ("900:1", "general", "900.json")
    assert found[0].roster == {"ada"}


def test_threads_that_a_reply_mark_joins_are_one_however_the_disentangler_left_them(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discord_channels, "disentangle", lambda messages: ([message] for message in messages))
    found = build([said(1, 0), said(2, 1), said(3, 1000, 1), said(4, 1001, 3), said(5, 1002, 2), said(6, 1003)])
    assert shape(found) == [([1, 3, 4], "explicit"), ([2, 5], "explicit"), ([6], "guessed")]


def test_a_reply_to_what_is_not_there_has_no_parent(build: Build) -> None:
    found = build([said(1, 0), said(2, 1, 77), said(3, 2, 4), said(4, 3), said(5, 4, 5)])
    assert shape(found) == [([n], "guessed") for n in (1, 2, 3, 4, 5)]
    assert all(m.parents == () for c in found for m in c.messages)


def test_bots_and_notices_stand_alone_and_are_nobodys_parent(build: Build) -> None:
    found = build([said(1, 0, kind=Kind.BOT), said(2, 1, 1), said(3, 2, 1), said(4, 3, kind=Kind.SYSTEM)])
    assert shape(found) == [([1], "guessed"), ([2], "guessed"), ([3], "guessed"), ([4], "guessed")]


def test_a_thread_is_explicit_and_gets_the_message_it_was_opened_on(build: Build) -> None:
    found = build(
        [said(10, 0), said(20, 1), said(30, 2, 20), said(40, 9, 10)],
        t20=[said(21, 1.5), said(22, 3, 21), said(23, 30, kind=Kind.BOT)],
        t50=[said(50, 0.5), said(51, 0.6)],
        t60=[],
    )
    assert shape(found) == [
        ([10, 40], "explicit"),
        ([50, 51], "explicit"),
        ([20, 21, 22, 23], "explicit"),
        ([30], "guessed"),
    ]
    assert [c.id for c in found[1:3]] == ["50", "20"]
    assert {c.channel for c in found} == {"general"}
    assert found[2].messages[2].parents == ("21",)


def test_a_clock_that_goes_backwards_is_put_right(build: Build) -> None:
    [found] = build([], t1=[said(3, 2), said(1, 0), said(2, 2), said(4, 1, 3)])
    assert [m.id for m in found.messages] == ["1", "4", "2", "3"], "at one time, in the order of their ids"
    assert found.messages[1].parents == (), "a parent that was sent later is none"


def test_of_two_messages_with_one_id_the_last_edited_is_kept() -> None:
    filled = Room("1", "general", "")
    for text, edited in (("first", None), ("second", 50.0), ("older edit", 20.0), ("unedited", None)):
        filled.add(Message("7", "ada", text, 1.0), edited)
    assert [m.text for m in filled.messages()] == ["second"]


def test_an_empty_channel_has_no_conversation(build: Build) -> None:
    assert build([]) == []


def test_names_of_people_in_either_form() -> None:
    people = People()
    people.learn({"id": "1", "name": "ada.l", "nickname": "Ada Lowe", "discriminator": "0000"})
    people.learn({"id": "1", "name": "ada.l", "nickname": "Ada 🚀", "discriminator": "0000"})
    people.learn({"id": 2, "username": "sam", "global_name": "Sam | Ops", "discriminator": "0042"})
    people.learn({"id": "3", "username": "Sam", "global_name": None, "discriminator": "0"})
    people.learn({"id": "4", "name": "Deleted User", "nickname": "Deleted User", "discriminator": "0000"})
    people.learn({"id": "5", "name": "deleted_user_0a1b2c", "nickname": " "})
    for nobody in (None, "ada", {}, {"id": None, "name": "x"}):
        people.learn(nobody)
    assert people.authors() == {"1": "ada.l", "2": "sam#0042", "3": "3", "4": "4", "5": "5"}
    assert people.roster() == {"ada.l", "Ada Lowe", "Ada 🚀", "sam", "Sam | Ops", "sam#0042", "Sam"}


def test_a_name_that_would_break_the_mark_of_a_mention_is_no_author_name() -> None:
    people = People()
    people.learn({"id": "1", "name": None, "nickname": "ada | dev"})
    assert people.authors() == {"1": "1"}
    assert named_mentions("<@1> <@!1> <@&1> <#1> <@2>", {"1": "ada"}) == "<@ada> <@ada> <@&1> <#1> <@2>"


@pytest.mark.parametrize(
    ("value", "zone", "seconds"),
    [
        ("2025-03-01T10:00:00+00:00", "UTC", 1_740_823_200.0),
        ("2025-03-01T10:00:00.5000000+00:00", "UTC", 1_740_823_200.5),
        ("2025-03-01T11:00:00+01:00", "America/New_York", 1_740_823_200.0),
        ("2025-03-01T10:00:00Z", "UTC", 1_740_823_200.0),
        ("2025-03-01T05:00:00", "America/New_York", 1_740_823_200.0),
    ],
)
def test_times_with_and_without_a_zone(value: str, zone: str, seconds: float) -> None:
    assert sent_at(value, "1", ZoneInfo(zone), "x") == seconds


def test_a_message_without_a_time_was_sent_when_its_id_says() -> None:
    assert sent_at(None, "175928847299117063", UTC, "x") == pytest.approx(1_462_015_105.796)


@pytest.mark.parametrize(
    ("value", "message_id", "problem"),
    [("noon", "1", "the time is 'noon'"), (5, "1", "the time is 5"), (None, "x7", "'id' is 'x7'")],
)
def test_damage_is_named(value: object, message_id: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        sent_at(value, message_id, UTC, "general.json, message 3")
    assert caught.value.place == "general.json, message 3"


def test_truth_of_threads_is_the_sources(make_source: MakeSource) -> None:
    source = make_source("discord_export", platform="discord", truth="predicted")
    found = list(
        conversations(room("900", [said(1, 0), said(2, 1, 1), said(3, 9)]), [room("5", [said(6, 2)])], source, frozenset())
    )
    assert [c.truth for c in found] == [Truth.PREDICTED, Truth.PREDICTED, Truth.GUESSED]
