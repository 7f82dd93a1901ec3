"""What a writer is: it gets a task and masked texts, and gives an answer, or says why there is none, for each."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from thread_embed_assets.language_models.cost import Price
from thread_embed_assets.storage.fingerprint import of_json

PROMPTS = Path(__file__).with_name("prompts")
QUESTIONS = 2
_LONGEST = 400  # characters of one line; more is no line about a conversation
_SPACE = re.compile(r"\s+")
_FENCE = re.compile(r"^\s*```(?:json)?\s*|\s*```\s*$")

Fault = Literal["refused", "cut_off", "not_as_asked", "not_answered", "nothing_to_say"]
"""Why there is no answer: the model declines, ran out of tokens, wrote something else, or was not asked in the end; or the
stand-in finds too few words that tell anything."""


class Written(BaseModel):
    """What is asked for about a conversation; every text is one line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    summary: str
    questions: tuple[str, ...]

    @field_validator("title", "summary")
    @classmethod
    def _one_line(cls, text: str) -> str:
        line = _SPACE.sub(" ", text).strip()
        if not line or len(line) > _LONGEST:
            raise ValueError(f"{len(line)} characters; 1 to {_LONGEST} are asked for")
        return line

    @field_validator("questions")
    @classmethod
    def _so_many_lines(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        lines = tuple(dict.fromkeys(cls._one_line(text) for text in texts))
        if len(lines) != QUESTIONS:
            raise ValueError(f"{len(lines)} different questions; {QUESTIONS} are asked for")
        return lines


# Written out, since services take no constraints on lengths: what they let through, the model class above refuses.
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "Three to eight words that name the matter"},
        "summary": {"type": "string", "description": "One sentence of at most 30 words"},
        "questions": {
            "type": "array",
            "items": {"type": "string"},
            "description": f"Exactly {QUESTIONS} different search questions of at most 20 words each",
        },
    },
    "required": ["title", "summary", "questions"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Task:
    """What is asked about each text.

    Attributes:
        name: of the prompt's file.
        instructions: the prompt.
        answer_tokens: an answer may have so many, far more than a fitting one needs.
    """

    name: str
    instructions: str
    answer_tokens: int = 400

    @property
    def fingerprint(self) -> str:
        """Of the prompt and of the form that answers have."""
        return of_json([self.name, self.instructions, SCHEMA, self.answer_tokens])

    @property
    def overhead(self) -> str:
        """What goes along with each text and is paid for."""
        return self.instructions + json.dumps(SCHEMA)


def read_task(name: str) -> Task:
    """The task whose prompt stands in ``prompts/<name>.md``."""
    return Task(name, (PROMPTS / f"{name}.md").read_text(encoding="utf-8").strip())


@dataclass(frozen=True, slots=True)
class Request:
    """A text to write about.

    Attributes:
        key: names the request wherever it goes, 64 hexadecimal digits at most.
        text: masked; the only thing about a conversation that leaves this machine.
    """

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request; tokens as the service counts them, paid for whether or not there is an answer."""

    key: str
    answer: Written | None
    fault: Fault | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def final(self) -> bool:
        """Whether asking again would only cost again."""
        return self.fault != "not_answered"


class Writer(Protocol):
    """Somebody who writes.

    Attributes:
        name: stands as ``written_by`` in every row, such as ``anthropic/claude-haiku-5-5``.
        price: None where writing costs nothing.
        paid_for: whether answers are worth keeping beside the table, since they cost money or time.
    """

    @property
    def name(self) -> str: ...

    @property
    def price(self) -> Price | None: ...

    @property
    def paid_for(self) -> bool: ...

    def pending(self, task: Task) -> Iterator[Result]:
        """Answers to what an earlier run had sent off when it was stopped."""
        ...

    def write(self, task: Task, requests: Iterable[Request]) -> Iterator[Result]:
        """One result for each request, in any order.

        Raises:
            InputError: the service refuses to work at all, or has failed several times on end. What was given before stays.
        """
        ...


def parsed(key: str, text: str, input_tokens: int, output_tokens: int) -> Result:
    """A model's text as a result; some local models write a code fence around JSON."""
    try:
        answer = Written.model_validate_json(_FENCE.sub("", text))
    except ValidationError:
        return Result(key, None, "not_as_asked", input_tokens, output_tokens)
    return Result(key, answer, None, input_tokens, output_tokens)


def several_at_once(ask: Callable[[Request], Result], requests: Iterable[Request], at_once: int) -> Iterator[Result]:
    """Results in the order of the requests, of which at most ``at_once`` are on their way; the rest is read as it is needed.

    What was on its way when one failed has been paid for, so it comes before the error is raised.
    """
    left, failed = iter(requests), None
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while True:
                if failed is None:
                    waiting.extend(pool.submit(ask, request) for request in islice(left, at_once + 1 - len(waiting)))
                if not waiting:
                    break
                try:
                    result = waiting.popleft().result()
                except CancelledError:
                    continue
                except Exception as error:
                    failed = failed or error
                    _cancel(waiting)
                    continue
                yield result
        finally:
            _cancel(waiting)
    if failed is not None:
        raise failed


def _cancel(waiting: Iterable[Future[Result]]) -> None:
    for future in waiting:
        future.cancel()
