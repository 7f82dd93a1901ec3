"""Anthropic's models, by the messages API or, at half the price and within a day, by the batch API.

The library of the service retries timeouts, cut connections and the answers 408, 409, 429 and 5xx (529 is "overloaded") with
growing pauses, or after the pause that ``Retry-After`` asks for. ``ANTHROPIC_BASE_URL`` names another server.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models.cache import AnswerCache
from thread_embed_assets.language_models.cost import Price, price_of
from thread_embed_assets.language_models.writers import SCHEMA, Request, Result, Task, parsed, several_at_once
from thread_embed_assets.storage.addresses import fault_of

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types import Message
    from anthropic.types.messages import MessageBatchIndividualResponse

KEY_VARIABLE = "ANTHROPIC_API_KEY"
URL_VARIABLE = "ANTHROPIC_BASE_URL"
DEFAULT_MODEL = "claude-haiku-5-5"
RETRIES = 9
_TIMEOUT = 120.0
# platform.claude.com/docs/en/build-with-claude/batch-processing: 100,000 requests and 256 MB in one batch.
MOST_IN_BATCH = 5_000
POLL_SECONDS = 60.0
_FAULTS = {"refusal": "refused", "max_tokens": "cut_off", "model_context_window_exceeded": "cut_off"}

logger = logging.getLogger(__name__)


class _Anthropic:
    """What both ways of asking have in common.

    Raises:
        InputError: no key in the environment, a base URL there that is none, or a model without a price.
    """

    batch = False
    paid_for = True

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        self._model = model or DEFAULT_MODEL
        self._price = price_of(self._model, self.batch)
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not self._key:
            remedy = f"Set {KEY_VARIABLE}, or let writer be 'extractive'"
            raise InputError(f"writer '{self.name}'", f"{KEY_VARIABLE} is not set", remedy)
        if fault := fault_of(os.environ.get(URL_VARIABLE) or "https://api.anthropic.com"):
            raise InputError(URL_VARIABLE, fault, f"Leave out what is secret, or unset it; the key stands in {KEY_VARIABLE}")

    @property
    def name(self) -> str:
        return f"anthropic/{self._model}"

    @property
    def price(self) -> Price:
        return self._price

    def _client(self) -> Anthropic:
        from anthropic import Anthropic

        return Anthropic(api_key=self._key, max_retries=RETRIES, timeout=_TIMEOUT)

    def _body(self, task: Task, request: Request) -> dict[str, Any]:
        """What is sent: the masked text and the prompt, and nothing else about the conversation."""
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": task.answer_tokens,
            "system": task.instructions,
            "messages": [{"role": "user", "content": f"<conversation>\n{request.text}\n</conversation>"}],
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        }
        return self._thinking_as_priced(body)

    def _thinking_as_priced(self, body: dict[str, Any]) -> dict[str, Any]:
        return body if self._price.thinking == "none" else body | {"thinking": {"type": self._price.thinking}}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Errors of the service that no retry has mended, as errors that say what to do; never with the key in them."""
        import anthropic

        try:
            yield
        except (anthropic.AuthenticationError, anthropic.PermissionDeniedError) as error:
            problem = f"the server does not accept the key of {KEY_VARIABLE} ({error.status_code})"
            raise self._error(problem, f"Check {KEY_VARIABLE}, and what that key may use") from None
        except anthropic.APIStatusError as error:
            problem = f"the server refuses to work ({error.status_code}: {self._without_key(error.message)[:300]})"
            passing = error.status_code == 429 or error.status_code >= 500
            remedy = "Run again later: what is written is kept" if passing else "Check the model's name and the account"
            kind = TransientError if passing else InputError
            raise self._error(problem, remedy, kind) from None  # a server may repeat the key, and causes are logged, too
        except anthropic.APIError as error:
            problem = f"no answer after {RETRIES + 1} attempts ({type(error).__name__})"
            kind = TransientError if isinstance(error, anthropic.APIConnectionError) else InputError
            raise self._error(problem, "Check the network and run again: what is written is kept", kind) from error

    def _error(self, problem: str, remedy: str, kind: type[InputError] = InputError) -> InputError:
        place = os.environ.get(URL_VARIABLE) or "Anthropic"
        return kind(f"writer '{self.name}' at {place}", problem, remedy)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***")


class ChatModel(_Anthropic):
    """Answers a conversation of turns.

    Args:
        model: its name.
        answer_tokens: the longest answer.
    """

    def __init__(self, model: str = DEFAULT_MODEL, answer_tokens: int = 1_024) -> None:
        super().__init__(model)
        self._answer_tokens = answer_tokens

    def reply(self, instructions: str, turns: Sequence[tuple[Literal["user", "assistant"], str]]) -> str:
        """The answer to the last turn.

        Raises:
            InputError: the service refuses, or gives no text.
        """
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": self._answer_tokens,
            "system": instructions,
            "messages": [{"role": role, "content": text} for role, text in turns],
        }
        with self._client() as client, self._readable():
            answer: Message = client.messages.create(**self._thinking_as_priced(body))
        said = "".join(block.text for block in answer.content if block.type == "text").strip()
        if not said:
            raise self._error(f"it gave no text (stopped by {answer.stop_reason})", "Ask again, or allow a longer answer")
        return said


class MessagesWriter(_Anthropic):
    """One request after the other, a few at a time; answers within seconds."""

    def __init__(self, model: str = DEFAULT_MODEL, at_once: int = 4) -> None:
        super().__init__(model)
        self._at_once = at_once

    def pending(self, task: Task) -> Iterator[Result]:
        return iter(())

    def write(self, task: Task, requests: Iterable[Request]) -> Iterator[Result]:
        with self._client() as client:

            def ask(request: Request) -> Result:
                with self._readable():
                    return _result(request.key, client.messages.create(**self._body(task, request)))

            yield from several_at_once(ask, requests, self._at_once)


class BatchWriter(_Anthropic):
    """Batches that the service works off within a day, at half the price.

    A batch's id is kept in the cache from the moment the service gives it until its answers are there, so that a run that
    was stopped goes on with the batch that it has already paid for.

    Args:
        cache: where the ids are kept.
        poll_seconds: between two looks at a batch.
    """

    batch = True

    def __init__(self, cache: AnswerCache, model: str = DEFAULT_MODEL, poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__(model)
        self._cache = cache
        self._poll_seconds = poll_seconds

    def pending(self, task: Task) -> Iterator[Result]:
        batches = self._cache.batches(self._scope(task))
        if batches:
            logger.info("%s: %d batches of an earlier run are still out", self.name, len(batches))
            with self._client() as client:
                yield from self._fetched(client, batches)

    def write(self, task: Task, requests: Iterable[Request]) -> Iterator[Result]:
        left, sent = iter(requests), []
        with self._client() as client:
            while some := list(islice(left, MOST_IN_BATCH)):
                sent.append(self._send(client, task, some))
            yield from self._fetched(client, sent)

    def _send(self, client: Anthropic, task: Task, requests: Sequence[Request]) -> str:
        params: list[Any] = [{"custom_id": request.key, "params": self._body(task, request)} for request in requests]
        with self._readable():
            batch = client.messages.batches.create(requests=params)
        self._cache.remember_batch(batch.id, self._scope(task), len(requests))
        logger.info("%s: batch %s with %d requests is out", self.name, batch.id, len(requests))
        return batch.id

    def _fetched(self, client: Anthropic, batches: Iterable[str]) -> Iterator[Result]:
        for batch in batches:
            if self._ended(client, batch):
                with self._readable():
                    answers = client.messages.batches.results(batch)
                yield from map(_batch_result, answers)
            self._cache.forget_batch(batch)  # only once whoever reads here has kept all of its answers

    def _ended(self, client: Anthropic, batch: str) -> bool:
        """Wait until a batch has ended; false if the service no longer has its answers."""
        import anthropic

        while True:
            with self._readable():
                try:
                    state = client.messages.batches.retrieve(batch)
                except anthropic.NotFoundError:
                    logger.warning("%s: the service knows no batch %s; its requests are asked anew", self.name, batch)
                    return False
            counts = state.request_counts
            if state.processing_status == "ended":
                logger.info("%s: batch %s has ended: %d answered", self.name, batch, counts.succeeded)
                if state.archived_at is not None:
                    logger.warning("%s: the answers of batch %s are no longer kept; they are asked anew", self.name, batch)
                return state.archived_at is None
            logger.info("%s: batch %s: %d of its requests are still out", self.name, batch, counts.processing)
            time.sleep(self._poll_seconds)

    def _scope(self, task: Task) -> str:
        return f"{self.name} {task.fingerprint}"


def _batch_result(answer: MessageBatchIndividualResponse) -> Result:
    result = answer.result
    if result.type == "succeeded":
        return _result(answer.custom_id, result.message)
    if result.type == "errored":
        kind, message = result.error.error.type, result.error.error.message
        logger.warning("a request of the batch failed (%s: %s)", kind, message[:200])
        if kind == "invalid_request_error":
            return Result(answer.custom_id, None, "refused")
    return Result(answer.custom_id, None, "not_answered")  # expired, cancelled, or an error of the service: not paid for


def _result(key: str, message: Message) -> Result:
    used = message.usage.input_tokens, message.usage.output_tokens
    fault: Any = _FAULTS.get(message.stop_reason or "")
    if fault is not None:
        return Result(key, None, fault, *used)
    return parsed(key, "".join(block.text for block in message.content if block.type == "text"), *used)
