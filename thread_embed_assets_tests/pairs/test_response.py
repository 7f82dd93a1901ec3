from __future__ import annotations

from random import Random

import pytest
from hypothesis import given

from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.pairs import response
from thread_embed_assets_tests.chat.planted import Stored

from .made import PEOPLE, SIZES, as_read, talks

A, B, C = PEOPLE


def pairs(texts: list[str], people: list[str], parents: list[list[int]] | None = None) -> list[tuple[list[int], list[int]]]:
    talk = as_read(Stored("c", texts, people=people, parents=parents or ()))
    return [(list(c.anchor), list(c.positive)) for c in response.make(talk, SIZES, Random(1))]


@given(talk=talks())
def test_an_anchor_is_a_question_and_a_positive_one_persons_later_answer(talk: StoredConversation) -> None:
    linked = any(m.parents for m in talk.messages)
    for c in response.make(talk, SIZES, Random(1)):
        (asked,), answer = c.anchor, list(c.positive)
        question, first = talk.messages[asked], talk.messages[answer[0]]
        assert response.is_question(question)
        assert asked < answer[0]
        assert answer == list(range(answer[0], answer[0] + len(answer)))
        assert 1 <= len(answer) <= 3
        assert {talk.messages[i].author for i in answer} == {first.author}
        assert first.author != question.author
        assert len(first.text.split()) >= 3
        children = [m for m in talk.messages if question.id in m.parents]
        assert not children or question.id in first.parents
        assert linked or answer[0] - asked <= 5


def test_reply_links_win_over_nearness() -> None:
    texts = ["where is the key?", "such a lovely morning", "it is in the drawer", "no it is on the hook"]
    assert pairs(texts, [A, B, C, B], [[], [], [0], [0]]) == [([0], [2]), ([0], [3])]
    assert pairs(texts, [A, B, C, B]) == [([0], [1])]


def test_without_a_link_to_it_a_question_takes_the_next_answer() -> None:
    texts = ["where is the key?", "and where is the lamp?", "the lamp is here"]
    assert pairs(texts, [A, B, C], [[], [], [1]]) == [([0], [1]), ([1], [2])]


def test_a_message_may_answer_several() -> None:
    texts = ["where is the key?", "and where is the lamp?", "both are in the drawer"]
    assert pairs(texts, [A, B, C], [[], [], [0, 1]]) == [([0], [2]), ([1], [2])]


def test_at_most_two_linked_replies() -> None:
    texts = ["where is the key?", *["it is in there"] * 4]
    found = pairs(texts, [A, B, C, B, C], [[], [0], [0], [0], [0]])
    assert found == [([0], [1]), ([0], [2])]


def test_an_answer_goes_on_while_its_author_does() -> None:
    texts = ["where is the key?", "it is in there", "the small one", "on the left", "next to the lamp", "thanks a lot then"]
    assert pairs(texts, [A, B, B, B, B, A]) == [([0], [1, 2, 3])]
    assert pairs(texts, [A, B, B, C, C, A]) == [([0], [1, 2])]


def test_answers_by_oneself_short_ones_and_far_ones_do_not_count() -> None:
    question = "where is the key?"
    assert pairs([question, "it is in there"], [A, A]) == []
    assert pairs([question, "in there", "no idea", "it is in there"], [A, B, B, C]) == [([0], [3])]
    assert pairs([question, *["hm"] * 5, "it is in there"], [A, *[B] * 5, C]) == []
    assert pairs(["where then?", "it is in there"], [A, B]) == []
    assert pairs(["it is gone", "it is in there"], [A, B]) == []


def test_a_linked_reply_that_stands_before_its_question_is_left_out() -> None:
    assert pairs(["it is in there", "where is the key?"], [B, A], [[1], []]) == []


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("it does not start, any idea?", True),
        ("how do I start it", True),
        ("  ...anyone seen the key", True),
        (f"<@{A}>: is it there", True),
        ("however it starts", False),
        ("the key is there", False),
        ("see [URL] for more", False),
        ("<@p_00000000aa> thanks", False),
    ],
)
def test_what_is_a_question(text: str, asks: bool) -> None:
    assert response.is_question(Message("m", A, text)) is asks
