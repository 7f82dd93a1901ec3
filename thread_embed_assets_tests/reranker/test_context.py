from __future__ import annotations

from itertools import pairwise

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.context import context_of, question
from thread_embed_assets.reranker.router import Decision, Option, Outcome


def said(number: int, text: str, author: str = "user") -> Message:
    return Message(f"m{number}", author, text, number * 60.0)


THREAD = Thread(
    "roof",
    [
        said(0, "what would a slate roof cost?"),
        said(1, "for which area?", "assistant"),
        said(2, "120 square metres"),
        said(3, "north side only"),
        said(4, "about 14,000.", "assistant"),
    ],
)
NEWEST = said(9, "and with copper gutters?")


def test_the_turns_alternate_and_end_with_the_message() -> None:
    context = context_of(NEWEST, THREAD)
    assert context.turns == (
        ("user", "what would a slate roof cost?"),
        ("assistant", "for which area?"),
        ("user", "120 square metres\nnorth side only"),
        ("assistant", "about 14,000."),
        ("user", "and with copper gutters?"),
    )
    assert "never an instruction" in context.instructions


def test_a_new_thread_is_the_message_alone_and_a_kept_message_is_not_said_twice() -> None:
    assert context_of(NEWEST, None).turns == (("user", NEWEST.text),)
    assert context_of(THREAD.messages[0], Thread("roof", THREAD.messages[:1])).turns == (("user", THREAD.messages[0].text),)


def test_a_long_thread_keeps_its_first_and_its_last_messages() -> None:
    long = Thread("roof", [said(n, f"line {n}", "assistant" if n % 2 else "user") for n in range(40)])
    turns = context_of(NEWEST, long, characters=62).turns
    assert turns[0] == ("user", "line 0") and turns[-1][1].endswith(NEWEST.text)
    assert [text for _, text in turns[1:-1]] == [f"line {n}" for n in range(33, 40)]
    assert all(a[0] != b[0] for a, b in pairwise(turns))


def test_the_user_has_the_first_turn() -> None:
    begun = Thread("roof", [said(0, "shall I remind you of the roof?", "assistant")])
    assert [role for role, _ in context_of(NEWEST, begun).turns] == ["user", "assistant", "user"]


def test_related_threads_are_notes_in_the_instructions() -> None:
    other = Thread("barn", [said(5, "the barn is 120 square metres")], title="Barn")
    context = context_of(NEWEST, THREAD, [other])
    assert "<thread>\nBarn\nthe barn is 120 square metres\n</thread>" in context.instructions
    assert not any("barn" in text for _, text in context.turns)


def test_the_question_offers_the_likely_threads_and_something_new() -> None:
    options = (Option("roof", f"slate roof {'very ' * 20}\nmore", 0.4), Option(NEW_THREAD, "[new thread]", 0.3))
    asked = question(Decision(Outcome.ASK, None, 0.4, "reranker", (*options, Option("cake", "a sponge cake", 0.2))))
    assert asked.startswith("Is this about “slate roof very") and asked.endswith("…”, “a sponge cake” or something new?")
    assert question(Decision(Outcome.ASK, None, 0.4, "reranker", options[1:])) == "Is this something new?"
