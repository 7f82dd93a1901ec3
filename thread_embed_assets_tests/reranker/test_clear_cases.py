from __future__ import annotations

import json
from pathlib import Path

from thread_embed_assets.chat.model import Message, Split
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.clear_cases import Asked, Spoken, logged, measure, simulated, write_clear_cases
from thread_embed_assets.reranker.replay import Channel, Turn
from thread_embed_assets.reranker.rules import Case


def _message(number: int, text: str = "hello") -> Message:
    return Message(f"m{number}", "user", text, 60.0 * number)


THREAD = Thread("a", [_message(0)])


def always_the_first(case: Case) -> str | None:
    return case.threads[0].id


def a_question_is_new(case: Case) -> str | None:
    return NEW_THREAD if case.signals.is_question else None


def test_a_rule_is_asked_where_those_before_it_were_silent_and_counted_by_the_truth() -> None:
    asked = [
        Asked(_message(1, "who knows?"), [THREAD], frozenset({NEW_THREAD})),
        Asked(_message(2, "who knows?"), [THREAD], frozenset({"a"})),
        Asked(_message(3), [THREAD], frozenset({"a", "b"})),
    ]
    assert measure(asked, (a_question_is_new, always_the_first)) == [
        Spoken("a_question_is_new", 2, 1, 3),
        Spoken("always_the_first", 1, 1, 3),
    ]
    assert measure([], (always_the_first,)) == [Spoken("always_the_first", 0, 0, 0)]


def test_of_a_log_only_what_is_known_and_within_reach_is_asked() -> None:
    turns = [
        Turn(_message(0), "t0", (), Split.DEV),  # before it there is nothing
        Turn(_message(1), "t1", (), Split.DEV),
        Turn(_message(2), "t2", ("t0",), Split.DEV),
        Turn(_message(3), "t3", ("t1",), Split.DEV, asked=False),
        Turn(_message(4), "t4", ("gone",), Split.DEV),
        Turn(_message(5), "t5", ("t1",), Split.TEST),
    ]
    found = list(logged([Channel("made", "room", turns)]))
    assert [(one.message.id, one.right) for one in found] == [("m1", frozenset({NEW_THREAD})), ("m2", frozenset({"t0"}))]


def test_simulated_messages_are_those_of_the_split() -> None:
    first = next(simulated())
    assert first.threads and first.right


def test_counts_are_written_by_origin(tmp_path: Path) -> None:
    write_clear_cases({"made": [Spoken("rule", 2, 1, 3)]}, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == {
        "made": [{"rule": "rule", "decided": 2, "right": 1, "messages": 3}]
    }
