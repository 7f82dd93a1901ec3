"""Against a server on this machine that speaks the protocol, and misbehaves as told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models import service
from thread_embed_assets.language_models.openai_compatible import KEY_VARIABLE, URL_VARIABLE, OpenAiCompatibleWriter
from thread_embed_assets.language_models.writers import Request, Result, Written, read_task

from .local_services import KEY, KILL, FakeOpenAi, made_up

TASK = read_task("summarise")
REQUESTS = [Request(f"{n:064x}", f"speaker_1: talk number {n}") for n in range(5)]


def expected(requests: list[Request] = REQUESTS) -> list[Result]:
    return [Result(r.key, Written.model_validate(made_up(r.text)), None, 900, 90) for r in requests]


def test_every_request_gets_its_answer_and_a_local_one_is_free(local_model: FakeOpenAi) -> None:
    writer = OpenAiCompatibleWriter("tiny-chat")
    assert list(writer.write(TASK, REQUESTS)) == expected()
    assert (writer.name, writer.price) == ("openai_compatible/tiny-chat", None)
    body = next(b for b in local_model.bodies if "number 0" in b["messages"][1]["content"])
    assert (body["model"], body["max_tokens"]) == ("tiny-chat", TASK.answer_tokens)
    assert body["messages"][0] == {"role": "system", "content": TASK.instructions}


def test_a_code_fence_around_the_answer_is_taken_off(local_model: FakeOpenAi) -> None:
    local_model.answer = lambda text: f"```json\n{json.dumps(made_up(text))}\n```"
    assert list(OpenAiCompatibleWriter("m").write(TASK, REQUESTS)) == expected()


def choice(**fields: Any) -> Any:
    return lambda answer: answer | {"choices": [answer["choices"][0] | fields]}


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (choice(finish_reason="length"), "cut_off"),
        (choice(finish_reason="content_filter"), "refused"),
        (choice(message={"content": None, "refusal": "I cannot"}), "refused"),
        (choice(message={"content": "Sure! Here is a title"}), "not_as_asked"),
        (choice(message={"content": None}), "not_as_asked"),
    ],
)
def test_what_is_no_answer_says_why(local_model: FakeOpenAi, spoil: Any, fault: Any) -> None:
    local_model.plan = [spoil]
    assert list(OpenAiCompatibleWriter("m", at_once=1).write(TASK, REQUESTS[:1])) == [
        Result(REQUESTS[0].key, None, fault, 900, 90)
    ]


def test_a_server_that_counts_no_tokens_will_do(local_model: FakeOpenAi) -> None:
    local_model.plan = [lambda answer: answer | {"usage": None}]
    [found] = OpenAiCompatibleWriter("m").write(TASK, REQUESTS[:1])
    assert found.answer is not None and (found.input_tokens, found.output_tokens) == (0, 0)


def test_it_waits_as_long_as_the_server_asks(local_model: FakeOpenAi) -> None:
    local_model.plan = [(429, {}, {"Retry-After": "7"}), 503, KILL]
    assert list(OpenAiCompatibleWriter("m").write(TASK, REQUESTS[:1])) == expected(REQUESTS[:1])
    assert local_model.pauses == [7, 2, 4]


@pytest.mark.parametrize(("fault", "said"), [(503, "answered 503 to 7 attempts"), (KILL, "no answer after 7 attempts")])
def test_faults_that_do_not_pass_are_an_error_in_the_end(local_model: FakeOpenAi, fault: int, said: str) -> None:
    local_model.plan = [fault] * 99
    with pytest.raises(TransientError, match=rf"{said}.*is kept"):
        list(OpenAiCompatibleWriter("m").write(TASK, REQUESTS[:1]))
    assert local_model.came == service.ATTEMPTS


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (400, r"400: trouble with \*\*\*"),
        (403, r"does not accept the key of THREAD_EMBED_LANGUAGE_MODEL_KEY \(403\)"),
        ((429, {"error": {"message": "no money", "code": "insufficient_quota"}}), "429: no money"),
        ((200, b"<html>welcome</html>"), "something else than a completion"),
        ((200, {"choices": []}), "something else than a completion"),
    ],
)
def test_what_no_waiting_mends_is_said_at_once_and_without_the_key(local_model: FakeOpenAi, order: Any, said: str) -> None:
    local_model.plan = [order]
    with pytest.raises(InputError, match=said) as caught:
        list(OpenAiCompatibleWriter("m").write(TASK, REQUESTS[:1]))
    assert local_model.came == 1
    assert KEY not in str(caught.value)


def test_what_cannot_be_asked_is_said_before(local_model: FakeOpenAi, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no model is named"):
        OpenAiCompatibleWriter("")
    monkeypatch.delenv(KEY_VARIABLE)
    OpenAiCompatibleWriter("m")  # a local server needs no key
    monkeypatch.setenv(URL_VARIABLE, "localhost:8000")
    with pytest.raises(InputError, match="'localhost:8000' is no URL"):
        OpenAiCompatibleWriter("m")
    assert local_model.came == 0


@pytest.mark.parametrize(
    ("url", "free"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://10.1.2.3:80/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://modelbox/v1", True),
        ("https://models.example.org/v1", False),
        ("https://93.184.216.34/v1", False),
    ],
)
def test_a_server_elsewhere_must_have_a_price(url: str, free: bool) -> None:
    if free:
        assert OpenAiCompatibleWriter("m", url).price is None
    else:
        with pytest.raises(InputError, match="no price for 'm'"):
            OpenAiCompatibleWriter("m", url)
        assert OpenAiCompatibleWriter("claude-haiku-5-5", url).price is not None
