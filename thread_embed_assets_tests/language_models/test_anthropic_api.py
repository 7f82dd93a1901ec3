"""Against a server on this machine that speaks the protocol, and misbehaves as told."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models import anthropic_api
from thread_embed_assets.language_models.anthropic_api import BatchWriter, ChatModel, MessagesWriter
from thread_embed_assets.language_models.cache import AnswerCache
from thread_embed_assets.language_models.cost import price_of
from thread_embed_assets.language_models.writers import SCHEMA, Request, Result, Written, read_task

from .local_services import KEY, KILL, FakeAnthropic, made_up

TASK = read_task("summarise")
REQUESTS = [Request(f"{n:064x}", f"speaker_1: talk number {n}") for n in range(6)]


def expected(requests: list[Request] = REQUESTS) -> list[Result]:
    return [Result(r.key, Written.model_validate(made_up(r.text)), None, 1000, 100) for r in requests]


def test_every_request_gets_its_answer_and_what_it_used(anthropic: FakeAnthropic) -> None:
    writer = MessagesWriter(at_once=3)
    assert list(writer.write(TASK, REQUESTS)) == expected()
    assert list(writer.pending(TASK)) == []
    body = next(b for b in anthropic.bodies if "number 0" in b["messages"][0]["content"])
    assert body == {
        "model": "claude-haiku-5-5",
        "max_tokens": TASK.answer_tokens,
        "system": TASK.instructions,
        "messages": [{"role": "user", "content": "<conversation>\nspeaker_1: talk number 0\n</conversation>"}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "thinking": {"type": "disabled"},
    }
    assert (writer.name, writer.price) == ("anthropic/claude-haiku-5-5", price_of("claude-haiku-5-5"))


def test_a_conversation_is_answered_turn_by_turn(anthropic: FakeAnthropic) -> None:
    anthropic.plan = [529]
    said = ChatModel().reply("Answer.", [("user", "a roof?"), ("assistant", "slate?"), ("user", "with copper?")])
    assert said == "About: with copper?"
    assert anthropic.bodies[-1] == {
        "model": "claude-haiku-5-5",
        "max_tokens": 1024,
        "system": "Answer.",
        "messages": [
            {"role": "user", "content": "a roof?"},
            {"role": "assistant", "content": "slate?"},
            {"role": "user", "content": "with copper?"},
        ],
        "thinking": {"type": "disabled"},
    }
    anthropic.plan = [lambda answer: answer | {"content": [], "stop_reason": "refusal"}]
    with pytest.raises(InputError, match=r"no text \(stopped by refusal\)"):
        ChatModel().reply("Answer.", [("user", "a roof?")])


def test_a_model_that_does_not_think_is_told_nothing_about_it(anthropic: FakeAnthropic) -> None:
    list(MessagesWriter("claude-haiku-4-5").write(TASK, REQUESTS[:1]))
    assert "thinking" not in anthropic.bodies[0]


def with_reason(reason: str) -> Any:
    return lambda answer: answer | {"stop_reason": reason, "content": [{"type": "text", "text": '{"title": "Half'}]}


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda answer: answer | {"stop_reason": "refusal", "content": []}, "refused"),
        (with_reason("max_tokens"), "cut_off"),
        (with_reason("model_context_window_exceeded"), "cut_off"),
        (with_reason("end_turn"), "not_as_asked"),
        (lambda answer: answer | {"content": []}, "not_as_asked"),
    ],
)
def test_what_is_no_answer_says_why_and_is_paid_for(anthropic: FakeAnthropic, spoil: Any, fault: Any) -> None:
    anthropic.plan = [spoil]
    found = list(MessagesWriter(at_once=1).write(TASK, REQUESTS[:2]))
    assert found == [Result(REQUESTS[0].key, None, fault, 1000, 100), *expected(REQUESTS[1:2])]
    assert found[0].final, "asking again would cost again"


def test_blocks_of_thinking_are_no_part_of_the_answer(anthropic: FakeAnthropic) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    anthropic.plan = [lambda answer: answer | {"content": [thought, *answer["content"]]}]
    assert list(MessagesWriter().write(TASK, REQUESTS[:1])) == expected(REQUESTS[:1])


def test_it_waits_as_long_as_the_server_asks(anthropic: FakeAnthropic) -> None:
    anthropic.plan = [(429, anthropic.refusal("slow down"), {"retry-after": "17"}), 529, KILL, 500]
    assert list(MessagesWriter().write(TASK, REQUESTS[:1])) == expected(REQUESTS[:1])
    assert anthropic.came == 5
    assert anthropic.pauses[0] == 17
    assert all(0 < pause <= 8 for pause in anthropic.pauses[1:]) and len(anthropic.pauses) == 4


@pytest.mark.parametrize("fault", [429, 529, KILL])
def test_faults_that_do_not_pass_are_an_error_in_the_end(anthropic: FakeAnthropic, fault: int) -> None:
    anthropic.plan = [fault] * 99
    with pytest.raises(TransientError, match=r"anthropic/claude-haiku-5-5.* [rR]un again.*what is written is kept"):
        list(MessagesWriter().write(TASK, REQUESTS[:1]))
    assert anthropic.came == anthropic_api.RETRIES + 1


def test_what_came_before_an_error_is_not_lost(anthropic: FakeAnthropic) -> None:
    anthropic.plan = [None, None, 400]
    found: list[Result] = []
    writing = MessagesWriter(at_once=1).write(TASK, REQUESTS)
    with pytest.raises(InputError, match="refuses to work"):
        while True:
            found.append(next(writing))
    assert found[:2] == expected(REQUESTS[:2])
    assert all(result in expected() for result in found[2:]), "what was on its way then"


def test_no_error_or_log_line_holds_the_key(
    anthropic: FakeAnthropic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    anthropic.plan = [400]
    with pytest.raises(InputError, match=r"400: .*trouble with \*\*\*") as caught:
        list(MessagesWriter().write(TASK, REQUESTS[:1]))
    assert KEY not in f"{caught.value} {caplog.text}"
    monkeypatch.setenv(anthropic_api.KEY_VARIABLE, "sk-wrong-987")
    with pytest.raises(InputError, match=r"does not accept the key of ANTHROPIC_API_KEY \(401\)") as caught:
        list(MessagesWriter().write(TASK, REQUESTS[:1]))
    assert "sk-wrong" not in f"{caught.value} {caplog.text}"


def test_without_a_key_or_a_price_nothing_is_sent(anthropic: FakeAnthropic, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"prices.yaml: it has no price for 'claude-unheard-of'"):
        MessagesWriter("claude-unheard-of")
    monkeypatch.setenv(anthropic_api.KEY_VARIABLE, " ")
    with pytest.raises(InputError, match="ANTHROPIC_API_KEY is not set"):
        MessagesWriter()
    assert anthropic.came == 0


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    yield cache
    cache.close()


def by_key(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.key)


def test_batches_bring_the_same_answers_at_half_the_price(
    anthropic: FakeAnthropic, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anthropic_api, "MOST_IN_BATCH", 4)
    anthropic.looks = 3
    writer = BatchWriter(cache, poll_seconds=7)
    assert by_key(list(writer.write(TASK, iter(REQUESTS)))) == expected()
    assert [len(requests) for requests in anthropic.batches.values()] == [4, 2]
    assert anthropic.pauses == [7, 7, 7, 7]
    assert writer.price.dollars(1e6, 1e6) == price_of("claude-haiku-5-5").dollars(1e6, 1e6) / 2
    assert writer.name == MessagesWriter().name, "who wrote it is the model, however it was asked"
    assert list(writer.pending(TASK)) == [], "what was fetched is not fetched again"


def test_a_killed_run_goes_on_with_the_batch_it_paid_for(
    anthropic: FakeAnthropic, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    anthropic.looks = 2
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", _killed)
        with pytest.raises(KeyboardInterrupt):
            list(BatchWriter(cache).write(TASK, REQUESTS))
    assert len(anthropic.batches) == 1
    again = BatchWriter(cache)
    fetching = again.pending(TASK)
    first = next(fetching)
    fetching.close()
    assert by_key([first, *again.pending(TASK)])[-1] in expected(), "a batch half read is read again"
    assert by_key(list(BatchWriter(cache, "claude-haiku-4-5").pending(TASK))) == []
    assert len(anthropic.batches) == 1, "nothing was sent twice"
    assert list(again.pending(TASK)) == []


def _killed(seconds: float) -> None:
    raise KeyboardInterrupt


def test_what_a_batch_did_not_answer_may_be_asked_again(anthropic: FakeAnthropic, cache: AnswerCache) -> None:
    def error(kind: str) -> dict[str, Any]:
        return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": None}}

    outcomes: list[dict[str, Any] | None] = [
        {"type": "expired"},
        {"type": "canceled"},
        error("api_error"),
        error("invalid_request_error"),
        None,
    ]
    anthropic.outcome = lambda name: outcomes[int(name, 16)]
    found = by_key(list(BatchWriter(cache).write(TASK, REQUESTS[:5])))
    assert [(r.fault, r.final) for r in found] == [
        ("not_answered", False),
        ("not_answered", False),
        ("not_answered", False),
        ("refused", True),
        (None, True),
    ]


@pytest.mark.parametrize("gone", ["unknown", "archived"])
def test_a_batch_that_is_no_longer_there_is_forgotten(
    anthropic: FakeAnthropic, cache: AnswerCache, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = BatchWriter(cache)
    name = writer._send(writer._client(), TASK, REQUESTS)
    if gone == "unknown":
        anthropic.batches.clear()
    anthropic.archived = gone == "archived"
    assert list(writer.pending(TASK)) == []
    assert f"batch {name}" in caplog.text and "asked anew" in caplog.text
    assert cache.batches(writer._scope(TASK)) == []


def test_the_server_of_these_tests_refuses_what_is_wrong(anthropic: FakeAnthropic, cache: AnswerCache) -> None:
    with pytest.raises(InputError, match="custom ids"):
        list(BatchWriter(cache).write(TASK, [REQUESTS[0], REQUESTS[0]]))
    with pytest.raises(InputError, match="custom ids"):
        list(BatchWriter(cache).write(TASK, [Request("a b", "text")]))
    assert json.dumps(SCHEMA).count("additionalProperties") == 1
