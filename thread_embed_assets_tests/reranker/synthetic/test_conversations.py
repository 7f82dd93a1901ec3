from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import NEW_THREAD
from thread_embed_assets.reranker.entities import keywords
from thread_embed_assets.reranker.synthetic.conversations import ALSO_FITS, STATES, Chat, Turn
from thread_embed_assets.reranker.synthetic.people import profile

NUMBERS = (0, 8, 20, 33, 47, 60)


@pytest.fixture(scope="module")
def turns() -> list[tuple[Chat, Turn, dict[str, tuple[str, str]]]]:
    """Each turn, with the chat and, by thread, its name and the state of its last line before the turn."""
    return [found for number in NUMBERS for found in _followed(Chat(profile(number, 0)))]


def _followed(chat: Chat) -> Iterator[tuple[Chat, Turn, dict[str, tuple[str, str]]]]:
    before: dict[str, tuple[str, str]] = {}
    for turn in chat.turns():
        if not before:  # the first turn of all is not yielded
            first = chat._threads[0]
            before = {first.id: (first.thing, "")}
        yield chat, turn, dict(before)
        before = {thread.id: (thread.thing, thread.state) for thread in chat._threads}


Turns = list[tuple[Chat, Turn, dict[str, tuple[str, str]]]]


def test_a_turn_knows_only_what_was_said_before_it(turns: Turns) -> None:
    for _, turn, _ in turns:
        said: list[Message] = [message for thread in turn.threads for message in thread.messages]
        assert max(message.time or 0 for message in said) < (turn.message.time or 0)
        assert turn.message not in said
        last = {thread.id: thread.messages[-1].time for thread in turn.threads}
        for thread in turn.threads:
            since = [m for other in turn.threads if other is not thread for m in other.messages if m.time > last[thread.id]]
            assert thread.turns_since == len(since)
        assert turn.thread == NEW_THREAD or turn.thread in last


def test_threads_interleave_over_days(turns: Turns) -> None:
    days = 0
    for number in NUMBERS:
        own = [turn for _, turn, _ in turns if turn.message.id.startswith(f"u{number:03}-")]
        assert 4 <= len(own[-1].threads) + (own[-1].thread == NEW_THREAD) <= 12
        days += (own[-1].message.time or 0) - (own[0].message.time or 0) > 86_400
        switches = sum(turn.thread not in (turn.threads[0].id, NEW_THREAD) for turn in own)
        assert switches > len(own) / 4
    assert days >= len(NUMBERS) - 1


def test_only_easy_messages_name_what_they_are_about(turns: Turns) -> None:
    tiers = Counter(turn.tier for _, turn, _ in turns)
    assert min(tiers.values()) > 15
    for _, turn, threads in turns:
        if turn.thread == NEW_THREAD:
            continue
        name = threads[turn.thread][0]
        shared = sum(other == name for other, _ in threads.values()) > 1
        named = turn.tier == "easy" or (shared and "about.again" in turn.wordings)
        assert (name.lower() in turn.message.text.lower()) == named, turn.message.text
        assert turn.tier != "easy" or not shared
        assert turn.tier != "hard" or not named


def test_a_hard_message_can_only_be_meant_for_the_newest_thread_that_it_answers(turns: Turns) -> None:
    older = 0
    for _, turn, threads in turns:
        if turn.tier != "hard":
            continue
        asked = next(part.split(".")[1] for part in turn.wordings.split("+") if part.startswith("reply."))
        newer = [thread.id for thread in turn.threads[: [t.id for t in turn.threads].index(turn.thread)]]
        if asked == "any":
            assert not newer
            continue
        if threads[turn.thread][1]:
            assert threads[turn.thread][1] == asked
        assert {asked, *ALSO_FITS.get(asked, ())}.isdisjoint(threads[name][1] for name in newer)
        older += bool(newer)
    assert older > 10


def test_hard_messages_share_no_more_words_with_their_thread_than_with_others(turns: Turns) -> None:
    own, other = [], []
    for _, turn, _ in turns:
        if turn.tier == "hard":
            words = set(keywords(turn.message.text))
            for thread in turn.threads:
                shared = bool(words & {w for m in thread.messages for w in keywords(m.text)})
                (own if thread.id == turn.thread else other).append(shared)
    assert sum(own) / len(own) < sum(other) / len(other) + 0.15


def test_the_assistant_ends_in_every_state_and_a_chat_is_the_same_twice() -> None:
    chat = Chat(profile(3, 0))
    first = [(turn.message.text, turn.thread) for turn in chat.turns()]
    assert first == [(turn.message.text, turn.thread) for turn in Chat(profile(3, 0)).turns()]
    assert first != [(turn.message.text, turn.thread) for turn in Chat(profile(3, 1)).turns()]
    states = {
        thread.state for number in range(12) for c in [Chat(profile(number, 0))] for _ in c.turns() for thread in c._threads
    }
    assert states == set(STATES)
