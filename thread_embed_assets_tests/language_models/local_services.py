"""Anthropic's API and an OpenAI-compatible one on this machine; they speak the protocols, and misbehave as told."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest

from thread_embed_assets.language_models.writers import SCHEMA

KEY = "sk-made-up-0123456789"
KILL = -1
_MESSAGE_FIELDS = {"model", "max_tokens", "system", "messages", "output_config", "thinking"}
_CUSTOM_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


def made_up(text: str) -> dict[str, Any]:
    """An answer as asked for; another text gets another one."""
    tag = hashlib.sha256(text.encode()).hexdigest()[:6]
    questions = [f"who looked into matter {tag}", f"how did matter {tag} end"]
    return {"title": f"Matter {tag}", "summary": f"Somebody explains matter {tag} and it is solved.", "questions": questions}


@dataclass
class Service(ABC):
    """One of the services.

    Attributes:
        plan: for each request to come: a status, (status, body, headers), KILL for a cut connection, or a function that
            changes the answer; after that all is well.
        answer: the text of a conversation to what is written about it.
        bodies: of completions that came with the right key, in batches or not.
        came: requests of any kind.
        pauses: seconds that the client was to sleep.
    """

    plan: list[Any] = field(default_factory=list)
    answer: Callable[[str], Any] = made_up
    bodies: list[dict[str, Any]] = field(default_factory=list)
    came: int = 0
    pauses: list[float] = field(default_factory=list)
    url: str = ""
    lock: Lock = field(default_factory=Lock)

    def handle(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else {}
        with self.lock:
            self.came += 1
            order = self.plan.pop(0) if self.plan else None
            if order == KILL:
                handler.connection.close()
                return None
            if self.key(handler) != KEY:
                return self.send(handler, 401, self.refusal(f"invalid key {self.key(handler)}"))
            if isinstance(order, tuple):
                return self.send(handler, *order)
            if isinstance(order, int):
                return self.send(handler, order, self.refusal(f"trouble with {KEY}"))
            status, answer = self.respond(method, handler.path, body)
            return self.send(handler, status, order(answer) if order and status == 200 else answer)

    @abstractmethod
    def key(self, handler: BaseHTTPRequestHandler) -> str:
        """The key that a request came with."""

    @abstractmethod
    def respond(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body of the answer."""

    def refusal(self, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "made_up_error", "message": message}}

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def text_in(body: dict[str, Any]) -> str:
    """The conversation that a completion is asked about."""
    found = re.fullmatch(r"<conversation>\n(.*)\n</conversation>", body["messages"][-1]["content"], re.DOTALL)
    assert found, body["messages"]
    return found[1]


@dataclass
class FakeAnthropic(Service):
    """``POST /v1/messages`` and the batches below it.

    Attributes:
        looks: a batch has ended after so many looks.
        batches: id to its requests.
        outcome: custom id to what becomes of it in a batch, where that is not an answer.
    """

    looks: int = 1
    batches: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    outcome: Callable[[str], dict[str, Any] | None] = lambda name: None
    archived: bool = False
    looked: dict[str, int] = field(default_factory=dict)

    def key(self, handler: BaseHTTPRequestHandler) -> str:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", handler.headers["anthropic-version"])
        return handler.headers["x-api-key"] or (handler.headers["Authorization"] or "").removeprefix("Bearer ")

    def respond(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if (method, path) == ("POST", "/v1/messages"):
            return self.message(body)
        if (method, path) == ("POST", "/v1/messages/batches"):
            return self.create(body["requests"])
        found = re.fullmatch(r"/v1/messages/batches/(\w+)(/results)?", path)
        if method != "GET" or not found or found[1] not in self.batches:
            return 404, {"type": "error", "error": {"type": "not_found_error", "message": f"nothing at {path}"}}
        return (200, self.results(found[1])) if found[2] else (200, self.state(found[1], look=True))

    def message(self, body: dict[str, Any]) -> tuple[int, Any]:
        wanted = {"type": "json_schema", "schema": SCHEMA}
        if not {"model", "max_tokens", "messages"} <= body.keys() <= _MESSAGE_FIELDS:
            return 400, self.refusal(f"fields {sorted(body)}")
        if body.get("output_config") not in (None, {"format": wanted}) or body.get("thinking") not in (
            None,
            {"type": "disabled"},
        ):
            return 400, self.refusal("output_config or thinking")
        if body["messages"][0]["role"] != "user" or not all(turn["content"].strip() for turn in body["messages"]):
            return 400, self.refusal("messages")
        self.bodies.append(body)
        answer = self.answer(text_in(body)) if "output_config" in body else f"About: {body['messages'][-1]['content']}"
        text = answer if isinstance(answer, str) else json.dumps(answer)
        usage = {"input_tokens": 1000, "output_tokens": 100}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "usage": usage}
        return 200, head | {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None}

    def create(self, requests: list[dict[str, Any]]) -> tuple[int, Any]:
        names = [request["custom_id"] for request in requests]
        if len(set(names)) < len(names) or not all(map(_CUSTOM_ID.match, names)):
            return 400, self.refusal("custom ids")
        name = f"msgbatch_{len(self.batches)}"
        self.batches[name] = requests
        return 200, self.state(name)

    def state(self, name: str, look: bool = False) -> dict[str, Any]:
        self.looked[name] = self.looked.get(name, 0) + look
        ended = self.looked[name] >= self.looks
        count = len(self.batches[name])
        kinds = dict.fromkeys(("canceled", "errored", "expired"), 0)
        when = "2026-01-01T00:00:00Z"
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": kinds | {"processing": 0 if ended else count, "succeeded": count if ended else 0},
            "results_url": f"{self.url}/v1/messages/batches/{name}/results" if ended else None,
            "created_at": when,
            "expires_at": when,
            "ended_at": when if ended else None,
            "archived_at": when if self.archived else None,
            "cancel_initiated_at": None,
        }

    def results(self, name: str) -> bytes:
        lines = []
        for request in reversed(self.batches[name]):
            outcome = self.outcome(request["custom_id"])
            if outcome is None:
                status, answer = self.message(request["params"])
                assert status == 200, answer
                outcome = {"type": "succeeded", "message": answer}
            lines.append(json.dumps({"custom_id": request["custom_id"], "result": outcome}))
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass
class FakeOpenAi(Service):
    """``POST /v1/chat/completions``."""

    def key(self, handler: BaseHTTPRequestHandler) -> str:
        return (handler.headers["Authorization"] or "").removeprefix("Bearer ")

    def respond(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if (method, path) != ("POST", "/v1/chat/completions"):
            return 404, self.refusal("no such path")
        schema = {"name": "summarise", "strict": True, "schema": SCHEMA}
        if body["response_format"] != {"type": "json_schema", "json_schema": schema}:
            return 400, self.refusal("response_format")
        self.bodies.append(body)
        answer = self.answer(text_in(body))
        message = {"role": "assistant", "content": answer if isinstance(answer, str) else json.dumps(answer)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 900, "completion_tokens": 90, "total_tokens": 990}
        return 200, {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


@contextmanager
def serving(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service.handle(self, "POST")

        def do_GET(self) -> None:
            service.handle(self, "GET")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr("time.sleep", service.pauses.append)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        service.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            http.shutdown()
            thread.join()
