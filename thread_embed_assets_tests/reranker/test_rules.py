from __future__ import annotations

from collections.abc import Sequence

import pytest

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.entities import signals
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.rules import (
    RULES,
    Case,
    Rule,
    announced,
    decided_by_rule,
    nothing_to_continue,
    only_one_has_it,
    quick_reply,
    reply_mark,
)

HOUR = 3600.0


def said(number: int, text: str, author: str = "user", hour: float = 0.0, parents: Sequence[str] = ()) -> Message:
    return Message(f"m{number}", author, text, hour * HOUR, tuple(parents))


ROOF = Thread(
    "roof", [said(0, "the roofer's quote for Lindenhof 7 came in"), said(1, "is it within budget?", "assistant", 1)], 1
)
BOAT = Thread(
    "boat", [said(2, "which ferry goes to Skarholm in May?", hour=1), said(3, "Two: at 9 and at 16.", "assistant", 2)]
)
THREADS = [BOAT, ROOF]


def case(message: Message, threads: Sequence[Thread] = tuple(THREADS)) -> Case:
    return Case(message, signals(message.text), threads, candidates_of(message, threads))


CASES: list[tuple[Rule, Message, str | None]] = [
    (reply_mark, said(9, "no", hour=2, parents=["m1"]), "roof"),
    (reply_mark, said(9, "no", hour=2, parents=["m77"]), None),
    (reply_mark, said(9, "both, please", hour=2, parents=["m1", "m3"]), None),
    (only_one_has_it, said(9, "can you ask whether Lindenhof 7 gets gutters?", hour=3), "roof"),
    (only_one_has_it, said(9, "new topic: who owned Lindenhof 7?", hour=3), None),
    (only_one_has_it, said(9, "is Skarholm nearer than Lindenhof 7?", hour=3), None),
    (only_one_has_it, said(9, "does the ferry to Skarholm carry bikes, as the one to Ostvik does?", hour=3), None),
    (only_one_has_it, said(9, "can you ask whether Lindenhof 7 gets gutters?", "neighbour", 3), None),
    (only_one_has_it, said(9, "what would you do?", hour=3), None),
    (announced, said(9, "new topic: a birthday cake for forty", hour=3), NEW_THREAD),
    (announced, said(9, "different question about the ferry", hour=3), None),
    (announced, said(9, "a birthday cake for forty", hour=3), None),
]


@pytest.mark.parametrize(("rule", "message", "expected"), CASES)
def test_a_rule_speaks_where_it_is_sure_and_is_silent_elsewhere(rule: Rule, message: Message, expected: str | None) -> None:
    assert rule(case(message)) == expected


ANSWERED = Thread("roof", [*ROOF.messages, said(4, "yes, by far", hour=1.5)], 1)


@pytest.mark.parametrize(
    ("message", "roof", "expected"),
    [
        (said(9, "perfect, thanks", hour=2.05), ANSWERED, "boat"),
        (said(9, "<@p_assistant> thanks", hour=2.05), ANSWERED, None),  # who wrote something else
        (said(9, "perfect, thanks", hour=2.05), ROOF, None),  # where somebody waits for a yes or a no
        (said(9, "perfect, thanks", hour=2.2), ANSWERED, None),
        (said(9, "perfect, thanks", "assistant", 2.05), ANSWERED, None),
        (said(9, "perfect, thanks", "neighbour", 2.05), ANSWERED, None),
        (said(9, "what does the early one cost?", hour=2.05), ANSWERED, None),
    ],
)
def test_a_short_reply_goes_to_the_last_message_if_nothing_else_waits_for_it(
    message: Message, roof: Thread, expected: str | None
) -> None:
    assert quick_reply(case(message, [BOAT, roof])) == expected


def test_a_name_that_is_an_everyday_word_decides_nothing() -> None:
    ferry = Thread("ferry", [said(2, "is the Monday ferry full?", hour=1), said(3, "It is.", "assistant", 2)])
    assert only_one_has_it(case(said(9, "and on Monday?", hour=3), [ferry])) is None


def test_the_first_message_of_all_starts_a_thread() -> None:
    first = case(said(9, "hello"), [])
    assert nothing_to_continue(first) == NEW_THREAD
    assert nothing_to_continue(case(said(9, "hello", hour=3))) is None
    assert decided_by_rule(first) == (NEW_THREAD, nothing_to_continue)


def test_what_the_platform_says_goes_before_what_the_words_say() -> None:
    marked = said(9, "new topic: Skarholm", hour=3, parents=["m0"])
    assert decided_by_rule(case(marked)) == ("roof", reply_mark)
    assert decided_by_rule(case(said(9, "and the second one?", hour=3)), RULES) is None
