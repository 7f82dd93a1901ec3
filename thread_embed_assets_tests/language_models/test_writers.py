from __future__ import annotations

import json
from threading import Event, Lock
from typing import Any

import pytest
from pydantic import ValidationError

from thread_embed_assets.language_models.writers import (
    PROMPTS,
    SCHEMA,
    Request,
    Result,
    Task,
    Written,
    parsed,
    read_task,
    several_at_once,
)

GOOD: dict[str, Any] = {"title": "Broken printer", "summary": "The printer is mended.", "questions": ["a b?", "c d?"]}


def test_the_form_that_is_asked_for_is_the_form_that_is_read() -> None:
    assert SCHEMA["required"] == list(Written.model_fields) == list(SCHEMA["properties"])  # type: ignore[call-overload]
    assert Written.model_validate(GOOD).model_dump(mode="json") == GOOD


def test_lines_are_one_line_without_space_around() -> None:
    written = Written.model_validate(GOOD | {"summary": "  one\n  line\t here "})
    assert written.summary == "one line here"


@pytest.mark.parametrize(
    "fault",
    [
        {"title": " "},
        {"summary": "x" * 401},
        {"questions": ["a"]},
        {"questions": ["a", "a "]},
        {"questions": ["a", "b", "c"]},
        {"questions": ["a", ""]},
        {"questions": "ab"},
        {"more": 1},
    ],
)
def test_what_is_not_as_asked_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Written.model_validate(GOOD | fault)
    assert parsed("k", json.dumps(GOOD | fault), 5, 6) == Result("k", None, "not_as_asked", 5, 6)


def test_the_task_is_named_by_all_that_shapes_an_answer() -> None:
    task = read_task("summarise")
    assert len(list(PROMPTS.glob("*.md"))) == 1
    others = [Task("other", task.instructions), Task(task.name, "do"), Task(task.name, task.instructions, 5)]
    assert len({t.fingerprint for t in [task, *others]}) == 4
    assert read_task("summarise").fingerprint == task.fingerprint


def test_no_more_than_so_many_are_on_their_way() -> None:
    lock, here, most = Lock(), [0], [0]
    pause = Event()

    def ask(request: Request) -> Result:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        pause.wait(0.002)
        with lock:
            here[0] -= 1
        return Result(request.key, None)

    asked: list[int] = []

    def requests() -> Any:
        for n in range(20):
            asked.append(n)
            yield Request(str(n), "")

    found = several_at_once(ask, requests(), 3)
    assert next(found).key == "0"
    assert len(asked) <= 5, "the requests are read as they are needed"
    assert [result.key for result in found] == [str(n) for n in range(1, 20)]
    assert 2 <= most[0] <= 3


def test_what_is_on_its_way_when_one_fails_comes_before_the_error() -> None:
    started, go_on = Event(), Event()

    def ask(request: Request) -> Result:
        if request.key == "0":
            started.wait(5)
            go_on.set()
            raise ValueError("broken")
        started.set()
        go_on.wait(5)
        return Result(request.key, None)

    found = several_at_once(ask, [Request(str(n), "") for n in range(9)], 2)
    assert next(found).key == "1"
    with pytest.raises(ValueError, match="broken"):
        list(found)
