"""A local model behind ``POST /v1/chat/completions``, as llama.cpp, vLLM, Ollama and LM Studio serve it."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models.cost import Price, price_of
from thread_embed_assets.language_models.service import ATTEMPTS, BusyError, busy, out_of_money, retrying, said
from thread_embed_assets.language_models.writers import SCHEMA, Request, Result, Task, parsed, several_at_once
from thread_embed_assets.storage.addresses import fault_of

KEY_VARIABLE = "THREAD_EMBED_LANGUAGE_MODEL_KEY"
URL_VARIABLE = "THREAD_EMBED_LANGUAGE_MODEL_URL"
_TIMEOUT = httpx.Timeout(600.0, connect=20.0)  # a local model may take minutes
_FAULTS = {"length": "cut_off", "content_filter": "refused"}

logger = logging.getLogger(__name__)


class OpenAiCompatibleWriter:
    """A model behind an OpenAI-compatible server.

    On this machine or network it costs nothing. Elsewhere its price must stand in ``prices.yaml``, for else no budget could
    be kept.

    Args:
        model: as the server names it.
        url: base URL, to which ``/chat/completions`` is added; else ``THREAD_EMBED_LANGUAGE_MODEL_URL``. It may come from a
            run's configuration, so the key of the environment goes to the server of the environment alone.

    Raises:
        InputError: no model, no URL or one that holds a password, a server elsewhere without a price, or a key for another
            server.
    """

    paid_for = True

    def __init__(self, model: str, url: str = "", at_once: int = 4) -> None:
        self._model = model
        self._at_once = at_once
        named = os.environ.get(URL_VARIABLE, "").strip().rstrip("/")
        self._url = url.strip().rstrip("/") or named
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not model:
            raise InputError(
                "writer 'openai_compatible'", "no model is named", "Set model to the name that the server gives it"
            )
        if fault := fault_of(self._url):
            remedy = f"Set {URL_VARIABLE} to a base URL such as http://localhost:8000/v1, and {KEY_VARIABLE} to a key"
            raise InputError(f"writer '{self.name}'", fault, remedy)
        if self._key and self._url != named:
            problem = f"the key of {KEY_VARIABLE} goes to the server that {URL_VARIABLE} names, and to no other"
            raise InputError(f"writer '{self.name}' at {self._url}", problem, f"Set {URL_VARIABLE}, or unset the key")
        self._price = None if _is_near(httpx.URL(self._url).host) else price_of(model)

    @property
    def name(self) -> str:
        return f"openai_compatible/{self._model}"

    @property
    def price(self) -> Price | None:
        return self._price

    def pending(self, task: Task) -> Iterator[Result]:
        return iter(())

    def write(self, task: Task, requests: Iterable[Request]) -> Iterator[Result]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with httpx.Client(timeout=_TIMEOUT, headers=headers) as client:

            def ask(request: Request) -> Result:
                return self._result(request.key, self._asked(client, task, request))

            yield from several_at_once(ask, requests, self._at_once)

    def _asked(self, client: httpx.Client, task: Task, request: Request) -> httpx.Response:
        body = {
            "model": self._model,
            "max_tokens": task.answer_tokens,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": task.instructions},
                {"role": "user", "content": f"<conversation>\n{request.text}\n</conversation>"},
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": task.name, "strict": True, "schema": SCHEMA},
            },
        }
        try:
            return retrying(logger)(self._post, client, body)
        except BusyError as error:
            problem = f"{error} to {ATTEMPTS} attempts"
            raise self._error(problem, "Run again later: what is written is kept", TransientError) from error
        except httpx.HTTPError as error:
            problem = f"no answer after {ATTEMPTS} attempts ({type(error).__name__}: {self._without_key(str(error))})"
            kind = TransientError if isinstance(error, httpx.TransportError) else InputError
            raise self._error(problem, "See that the server runs, and run again: what is written is kept", kind) from error

    def _post(self, client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
        answer = client.post(f"{self._url}/chat/completions", json=body)
        status = answer.status_code
        if status == httpx.codes.OK:
            return answer
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._error(f"the server does not accept the key of {KEY_VARIABLE} ({status})", f"Check {KEY_VARIABLE}")
        reason = self._without_key(said(answer))
        if not out_of_money(answer) and (error := busy(answer)):
            raise error
        raise self._error(f"the server refuses to work ({status}: {reason})", f"Check the model's name and {URL_VARIABLE}")

    def _result(self, key: str, answer: httpx.Response) -> Result:
        try:
            content = answer.json()
            choice = content["choices"][0]
            message, stopped = choice["message"], choice.get("finish_reason")
            usage = content.get("usage") or {}
            used = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
            text = message.get("content")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            problem = f"the server answered with something else than a completion ({type(error).__name__}: {error})"
            raise self._error(problem, f"Check {URL_VARIABLE}: it must speak POST /v1/chat/completions") from error
        if message.get("refusal") or stopped in _FAULTS:
            fault: Any = _FAULTS.get(stopped or "", "refused")
            return Result(key, None, fault, *used)
        return parsed(key, text or "", *used)

    def _error(self, problem: str, remedy: str, kind: type[InputError] = InputError) -> InputError:
        return kind(f"writer '{self.name}' at {self._url}", problem, remedy)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _is_near(host: str) -> bool:
    """Whether a server is on this machine or in a private network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".internal")) or "." not in host
    return address.is_loopback or address.is_private
