"""Against a server on this machine that speaks the two protocols, and misbehaves as told."""

from __future__ import annotations

import base64
import json
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from thread_embed_assets.benchmark import api_models, embeddings
from thread_embed_assets.benchmark.api_models import (
    PROVIDERS,
    ApiEncoder,
    Provider,
    provider_of,
)
from thread_embed_assets.benchmark.embeddings import EmbeddingCache
from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.language_models.tokens import estimate_tokens

OPENAI, VOYAGE = "openai/text-embedding-3-small", "voyage/voyage-4"
KEY = "sk-made-up-0123456789"
KILL = -1


@dataclass
class FakeApi:
    """One of the services.

    Attributes:
        provider: whose limits it keeps, by counting a token for each word.
        plan: for each request to come: a status, (status, body, headers), KILL for a cut connection, or a function that
            changes the answer; after that all is well.
        floats: answer with lists of numbers, whatever was asked for.
        requests: bodies that came with the right key.
        pauses: seconds that the client was to sleep.
    """

    provider: Provider
    plan: list[Any] = field(default_factory=list)
    floats: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    came: int = 0
    url: str = ""
    pauses: list[float] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.came += 1
        order = self.plan.pop(0) if self.plan else None
        if order == KILL:
            handler.connection.close()
            return None
        if handler.path != "/v1/embeddings":
            return self.refuse(handler, 404, "no such path")
        if handler.headers["Authorization"] != f"Bearer {KEY}":
            return self.refuse(handler, 401, f"Incorrect API key provided: {handler.headers['Authorization'][7:]}")
        if isinstance(order, tuple):
            return self.send(handler, *order)
        if isinstance(order, int):
            return self.refuse(handler, order, f"trouble with {KEY}")
        texts = body["input"]
        tokens = sum(len(text.split()) for text in texts)
        if not all(texts):
            return self.refuse(handler, 400, "'$.input' is invalid: it has an empty string")
        if len(texts) > self.provider.most_texts or tokens > self.provider.most_tokens:
            return self.refuse(handler, 400, "Max tokens per request exceeded")
        if max(len(text.split()) for text in texts) > self.provider.longest:
            return self.refuse(handler, 400, "This model's maximum context length is exceeded")
        self.requests.append(body)
        plain = self.floats or body.get("encoding_format") != "base64"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": v if plain else base64.b64encode(struct.pack("<4f", *v)).decode(),
            }
            for i, v in enumerate(vector(text) for text in texts)
        ]
        answer = {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": tokens}}
        self.send(handler, 200, order(answer) if order else answer, {})
        return None

    def refuse(self, handler: BaseHTTPRequestHandler, status: int, message: str) -> None:
        openai = self.provider.name == "openai"
        self.send(handler, status, {"error": {"message": message}} if openai else {"detail": message}, {})

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


def vector(text: str) -> list[float]:
    """Exact in float32, and tells the texts of these tests apart."""
    return [float(len(text)), float(text.count("a")), float(sum(map(ord, text[:3]))), 1.0]


@contextmanager
def serving(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            api.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        api.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        monkeypatch.setenv(api.provider.url_variable, api.url)
        monkeypatch.setenv(api.provider.key_variable, KEY)
        monkeypatch.setattr("tenacity.nap.time.sleep", api.pauses.append)
        try:
            yield api
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(FakeApi(PROVIDERS["openai"]), monkeypatch) as api:
        yield api


@pytest.fixture
def voyage(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(FakeApi(PROVIDERS["voyage"]), monkeypatch) as api:
        yield api


TEXTS = ["a cat", "who broke the build", "lunch at noon, anyone?"]
EXPECTED = np.array([vector(text) for text in TEXTS], dtype=np.float32)


def shuffled(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": answer["data"][::-1]}


@pytest.mark.parametrize("floats", [False, True])
def test_vectors_come_in_the_order_of_the_texts_however_the_server_sends_them(openai: FakeApi, floats: bool) -> None:
    openai.floats = floats
    openai.plan = [shuffled]
    np.testing.assert_array_equal(ApiEncoder(OPENAI).encode(TEXTS, "query"), EXPECTED)
    (request,) = openai.requests
    assert request == {"model": "text-embedding-3-small", "input": TEXTS, "encoding_format": "base64"}


def test_voyage_is_told_the_role_and_openai_is_not(openai: FakeApi, voyage: FakeApi) -> None:
    for role in ("query", "document"):
        ApiEncoder(VOYAGE).encode(TEXTS, role)
        ApiEncoder(OPENAI).encode(TEXTS, role)
    assert [request["input_type"] for request in voyage.requests] == ["query", "document"]
    assert voyage.requests[0]["model"] == "voyage-4"
    assert not any("input_type" in request for request in openai.requests)
    assert ApiEncoder(VOYAGE).role_key("query") != ApiEncoder(VOYAGE).role_key("document")
    assert ApiEncoder(OPENAI).role_key("query") == ApiEncoder(OPENAI).role_key("document")


def test_prompts_are_written_before_the_texts(openai: FakeApi) -> None:
    encoder = ApiEncoder(OPENAI, query_prompt="find: ")
    assert encoder.role_key("query") != encoder.role_key("document")
    encoder.encode(["a"], "query")
    encoder.encode(["a"], "document")
    assert [request["input"] for request in openai.requests] == [["find: a"], ["a"]]


@pytest.mark.parametrize("name", ["openai", "voyage"])
def test_requests_keep_within_the_documented_limits(name: str, request: pytest.FixtureRequest) -> None:
    api: FakeApi = request.getfixturevalue(name)
    encoder = ApiEncoder(OPENAI if name == "openai" else VOYAGE)
    short = [f"text number {i}" for i in range(2 * api.provider.most_texts + 1)]
    long = ["many words " * 1000 + str(i) for i in range(200)]
    vectors = encoder.encode([*short, *long], "document")
    np.testing.assert_array_equal(vectors, np.array([vector(t) for t in [*short, *long]], dtype=np.float32))
    assert max(len(r["input"]) for r in api.requests) == api.provider.most_texts
    assert [text for r in api.requests for text in r["input"]] == [*short, *long]
    assert len(api.requests) < 40, "requests are filled"


def test_a_limit_is_seen_when_it_is_broken(voyage: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests does refuse what is too large."""
    loose = Provider(**{**vars(PROVIDERS["voyage"]), "most_texts": 5000, "most_tokens": 10**9})
    monkeypatch.setitem(PROVIDERS, "voyage", loose)
    with pytest.raises(InputError, match=r"refuses 1001 texts \(400: Max tokens per request exceeded\)"):
        ApiEncoder(VOYAGE).encode([f"text {i}" for i in range(1001)], "document")
    assert voyage.came == 1, "a refusal is not retried"


def test_a_text_that_is_too_long_is_cut_and_counted(openai: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    encoder = ApiEncoder(OPENAI)
    whole = " ".join(["word"] * 9000)
    encoder.encode(["short", whole], "document")
    _, sent = openai.requests[0]["input"]
    assert whole.startswith(sent)
    assert 4000 <= len(sent.split()) <= 8191
    assert encoder.cut == 1
    assert "is cut to" in caplog.text
    assert encoder.usage()["cut"] == 1
    assert encoder.usage()["cut"] == 0


def test_blank_texts_are_sent_as_a_space(openai: FakeApi) -> None:
    assert len(ApiEncoder(OPENAI).encode(["", "\n", "a"], "document")) == 3
    assert openai.requests[0]["input"] == [" ", " ", "a"]


def test_it_waits_as_long_as_the_server_asks(openai: FakeApi) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    openai.plan = [
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}),
        (503, b"<html>", {"Retry-After": later}),
        (429, {}, {"Retry-After": "soon"}),
        429,
    ]
    np.testing.assert_array_equal(ApiEncoder(OPENAI).encode(TEXTS, "query"), EXPECTED)
    assert openai.pauses[0] == 7
    assert 80 < openai.pauses[1] <= 90
    assert openai.pauses[2:] == [4, 8], "without a number of seconds the pauses double"


@pytest.mark.parametrize("fault", [500, 502, 529, 408, KILL])
def test_faults_that_pass_are_retried(openai: FakeApi, fault: int, caplog: pytest.LogCaptureFixture) -> None:
    openai.plan = [fault, fault]
    np.testing.assert_array_equal(ApiEncoder(OPENAI).encode(TEXTS, "query"), EXPECTED)
    assert openai.came == 3
    assert openai.pauses == [1, 2]
    assert caplog.text.count("Retrying") == 2


@pytest.mark.parametrize("fault", [500, 429, KILL])
def test_faults_that_do_not_pass_are_an_error_in_the_end(openai: FakeApi, fault: int) -> None:
    openai.plan = [fault] * 99
    with pytest.raises(TransientError, match=r"text-embedding-3-small at http://127.*7 attempts.*again"):
        ApiEncoder(OPENAI).encode(TEXTS, "query")
    assert openai.came == api_models.ATTEMPTS


def test_a_server_that_does_not_answer_in_time_is_retried(openai: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    monkeypatch.setattr(api_models, "_TIMEOUT", httpx.Timeout(5.0, read=0.2))
    openai.plan = [lambda answer: _stall(answer)]
    np.testing.assert_array_equal(ApiEncoder(OPENAI).encode(TEXTS, "query"), EXPECTED)
    assert openai.came == 2


def _stall(answer: dict[str, Any]) -> dict[str, Any]:
    from threading import Event

    Event().wait(0.5)
    return answer


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_said_without_showing_it(
    voyage: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    if status == 401:
        monkeypatch.setenv("VOYAGE_API_KEY", "sk-wrong-987")
    else:
        voyage.plan = [403]
    with pytest.raises(InputError, match=rf"does not accept the key of VOYAGE_API_KEY \({status}\)") as caught:
        ApiEncoder(VOYAGE).encode(TEXTS, "query")
    assert voyage.came == 1
    for secret in ("sk-wrong", KEY):
        assert secret not in f"{caught.value} {caplog.text}"


def test_no_log_line_or_error_holds_the_key(openai: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    encoder = ApiEncoder(OPENAI, 0.02)
    openai.plan = [500, KILL]
    encoder.prepare(TEXTS)
    encoder.encode(TEXTS, "query")
    openai.plan = [400]
    with pytest.raises(InputError, match=r"400: trouble with \*\*\*") as caught:
        encoder.encode(TEXTS, "query")
    assert len(caplog.text) > 100
    assert KEY not in f"{caught.value} {caplog.text} {encoder!r} {encoder.fingerprint}"


def test_an_account_without_credit_is_not_retried(openai: FakeApi) -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    openai.plan = [(429, body, {})]
    with pytest.raises(InputError, match=r"no credit left \(You exceeded your current quota\)"):
        ApiEncoder(OPENAI).encode(TEXTS, "query")
    assert openai.came == 1


def without_last(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": answer["data"][:-1]}


def same_index(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": [{**item, "index": 0} for item in answer["data"]]}


def uneven(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": [{**answer["data"][0], "embedding": [1.0]}, *answer["data"][1:]]}


def no_usage(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "usage"}


def not_base64(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "data": [{**item, "embedding": "?"} for item in answer["data"]]}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (without_last, "2 vectors with 2 different indexes for 3 texts"),
        (same_index, "3 vectors with 1 different indexes for 3 texts"),
        (uneven, "vectors of different lengths"),
        (no_usage, "KeyError: 'usage'"),
        (not_base64, "something else than vectors"),
        ((200, b"<html>welcome</html>", {}), "something else than vectors"),
        ((200, {"data": "none"}, {}), "something else than vectors"),
    ],
)
def test_an_answer_that_is_not_one_vector_a_text_is_an_error_and_nothing_is_stored(
    openai: FakeApi, tmp_path: Path, fault: Any, said: str
) -> None:
    openai.plan = [fault]
    with pytest.raises(InputError, match=rf"{said}.*OPENAI_BASE_URL"):
        EmbeddingCache(tmp_path).embed(ApiEncoder(OPENAI), TEXTS)
    assert not list(tmp_path.rglob("*.vectors"))


def test_the_cost_is_told_before_and_after_and_kept(
    openai: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 2)
    encoder, cache = ApiEncoder(OPENAI, 0.5), EmbeddingCache(tmp_path)
    cache.embed(encoder, TEXTS, "query")
    lines = [record.message for record in caplog.records if record.name.endswith("api_models")]
    estimate = sum(map(estimate_tokens, TEXTS))
    assert lines[0] == (f"{OPENAI}: 3 texts go to 127.0.0.1, at most about {estimate} tokens, ${estimate * 0.5 / 1e6:.4f}")
    used = sum(len(text.split()) for text in TEXTS)
    assert lines[-1] == f"{OPENAI}: {used} tokens, ${used * 0.5 / 1e6:.4f} used so far"
    timing = cache.timing(encoder.fingerprint)
    assert (timing["texts"], timing["tokens"]) == (3, used)
    assert timing["dollars"] == pytest.approx(used * 0.5 / 1e6)
    cache.embed(encoder, TEXTS, "query")
    assert len(openai.requests) == 2, "two shards, and none for what is in the cache"
    assert "price not known" in ApiEncoder(OPENAI)._cost(3)
    assert "dollars" not in ApiEncoder(OPENAI).usage()


def test_the_fingerprint_tells_models_servers_and_prompts_apart(openai: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        ApiEncoder(OPENAI).fingerprint,
        ApiEncoder("openai/text-embedding-3-large").fingerprint,
        ApiEncoder(OPENAI, query_prompt="find: ").fingerprint,
    ]
    monkeypatch.delenv("OPENAI_BASE_URL")
    names.append(ApiEncoder(OPENAI).fingerprint)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1/")
    assert ApiEncoder(OPENAI).fingerprint == names[-1]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() for name in names)


def test_what_cannot_be_asked_is_said_at_once(openai: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'cohere/embed'.*openai, voyage"):
        ApiEncoder("cohere/embed")
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:1")
    with pytest.raises(InputError, match=r"OPENAI_BASE_URL: 'localhost:1' is no URL"):
        ApiEncoder(OPENAI)
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with pytest.raises(InputError, match="OPENAI_API_KEY is not set"):
        ApiEncoder(OPENAI)
    assert provider_of("sentence-transformers/all-mpnet-base-v2") is None
