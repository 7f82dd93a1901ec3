"""The server of the search page, asked without a browser."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.search.web import SearchServer
from thread_embed_assets_tests.search.team import team_searcher

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    with SearchServer(team_searcher(tmp_path_factory.mktemp("team")), 0) as serving:
        thread = threading.Thread(target=serving.run)
        thread.start()
        yield serving
        serving.stop()
        thread.join()


def ask(
    server: SearchServer, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, sent, {**(JSON if method == "POST" else {}), **(headers or {})})
    reply = connection.getresponse()
    content = reply.read().decode()
    connection.close()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}, content


def test_a_search_is_answered(server: SearchServer) -> None:
    status, _, content = ask(server, "POST", "/api/search", {"query": "printer jams", "people": ["quillona"], "top": 2})
    reply = json.loads(content)
    assert (status, reply["searched"], reply["threads"]) == (200, 1, 3)
    [hit] = reply["hits"]
    assert (hit["channel"], hit["messages"]) == ("office", 7)
    line = hit["lines"][1]
    assert line["matches"] and line["author"] == "Quillona Vestrup" and line["marks"][0] == [4, 11]
    status, _, content = ask(server, "GET", "/api/room")
    assert json.loads(content) == {"name": "workspace team", "channels": ["office", "ops"], "threads": 3}


def test_the_page_may_run_and_load_nothing_but_itself(server: SearchServer) -> None:
    status, headers, page = ask(server, "GET", "/")
    assert status == 200 and headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert page.count(f'nonce="{nonce}"') == 2 and "{{" not in page
    assert "http://" not in page and "https://" not in page and "innerHTML" not in page
    assert nonce not in ask(server, "GET", "/")[2]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost", "", "[::1]:80", "127.0.0.1:1"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/api/room"), ("POST", "/api/search")])
def test_another_host_name_is_refused(server: SearchServer, host: str, method: str, path: str) -> None:
    status, _, content = ask(server, method, path, {"query": "printer"}, {"Host": host})
    assert status == 403 and "Quillona" not in content and "127.0.0.1 and localhost" in content


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_is_refused(server: SearchServer, headers: dict[str, str]) -> None:
    status, answered, content = ask(server, "POST", "/api/search", {"query": "printer"}, headers)
    assert status == 403 and "Quillona" not in content
    assert "access-control-allow-origin" not in answered


def test_its_own_page_is_let_in_by_both_names(server: SearchServer) -> None:
    for name in ("127.0.0.1", "localhost"):
        own = f"{name}:{server.port}"
        headers = {"Host": own, "Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}
        assert ask(server, "POST", "/api/search", {"query": "printer"}, headers)[0] == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"query": ""}, "blank"),
        ({"query": "printer", "channels": ["nowhere"]}, "no such channel"),
        ({"query": "printer", "since": "soon"}, "no time"),
        ({"query": "printer", "top": 10_000}, "less than or equal to 50"),
        ({"query": 5}, "valid string"),
        ({"query": "x", "secret": 1}, "not permitted"),
        ({}, "required"),
        ([1], "object"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        ({"query": "x" * 3000}, "at most 2000"),
    ],
)
def test_wild_input_is_an_error_that_says_why(server: SearchServer, body: Any, words: str) -> None:
    status, headers, content = ask(server, "POST", "/api/search", body)
    assert status == 400 and headers["content-type"] == "application/json"
    assert words in json.loads(content)["problem"]


def test_what_is_no_search_is_refused(server: SearchServer) -> None:
    assert ask(server, "POST", "/api/search", b"query=x", {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "POST", "/api/search", {"query": "x" * 20_000})[0] == 413
    assert ask(server, "POST", "/api/search", {"query": "x"}, {"Content-Length": "-1"})[0] == 413
    assert ask(server, "GET", "/api/search")[0] == 404
    assert ask(server, "GET", "/../page.html")[0] == 404
    assert ask(server, "PUT", "/")[0] == 501


def test_it_listens_on_this_machine_alone(server: SearchServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/" and server._server.server_address[0] == "127.0.0.1"
    with pytest.raises(InputError, match="cannot listen there"):
        SearchServer(team_never(), server.port)
    with pytest.raises(InputError, match="cannot listen there"):
        SearchServer(team_never(), 70_000)


def team_never() -> Any:
    return None


def test_a_failure_tells_the_page_nothing_of_the_chat(
    server: SearchServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Quillona")

    monkeypatch.setattr("thread_embed_assets.search.searcher.Searcher.search", fail)
    status, _, content = ask(server, "POST", "/api/search", {"query": "printer"})
    assert status == 500 and "Quillona" not in content
    assert "a request failed" in caplog.text and "printer" not in capsys.readouterr().err
