"""Keys, tokens and passwords are read from the environment and go to their server: no error, cause or log line has them.

The server here is the worst there is: it repeats the key that it was given in whatever it answers.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info

from thread_embed_assets.benchmark.api_models import ApiEncoder
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.resources import LanguageModelResource
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models import anthropic_api
from thread_embed_assets.language_models.anthropic_api import ChatModel, MessagesWriter
from thread_embed_assets.language_models.openai_compatible import OpenAiCompatibleWriter
from thread_embed_assets.language_models.writers import Request, read_task
from thread_embed_assets.release.stores.choose import STORES, open_store
from thread_embed_assets.release.stores.vector_store import not_reached
from thread_embed_assets.sources import hub
from thread_embed_assets.sources.fetch import GITHUB_VARIABLE, fetch
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets_tests.defs.export import export_source, write_export
from thread_embed_assets_tests.defs.runs import errors, log, run

MARK = "marker-7731"
KEYS = ("OPENAI_API_KEY", "VOYAGE_API_KEY", "ANTHROPIC_API_KEY", "THREAD_EMBED_LANGUAGE_MODEL_KEY", "HF_TOKEN")
NAME = "sample_workspace"
TASK, REQUESTS = read_task("summarise"), [Request("0" * 64, "speaker_1: hello")]


@dataclass
class Echo:
    """Answers everything with ``status`` and with the headers and the path that it was asked with."""

    status: int = 500
    url: str = ""
    heard: list[str] = field(default_factory=list)


@pytest.fixture
def echo() -> Iterator[Echo]:
    service = Echo()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard = f"{self.path} {self.headers.items()}"
            service.heard.append(heard)
            if service.status == 302 and "signed" not in self.path:
                self.send_response(302)
                self.send_header("Location", f"{service.url}/signed?signature={MARK}")
                self.end_headers()
                return
            content = json.dumps({"error": {"message": heard}, "detail": heard}).encode()
            self.send_response(500 if service.status == 302 else service.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815  the name that the library calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        service.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield service
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, f"key-{MARK}")
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setattr(anthropic_api, "RETRIES", 0)


def _hub(folder: Path) -> None:
    hub.fetch_files("org/name", "main", ["*"], folder / "files", folder / "cache")


def _hub_stream(_: Path) -> None:
    with hub.open_stream("org/name", "main", "all.tar.zst") as stream:
        stream.read(10)


CLIENTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "openai": ("OPENAI_BASE_URL", lambda _: ApiEncoder("openai/text-embedding-3-small").encode(["hello"], "query")),
    "voyage": ("VOYAGE_BASE_URL", lambda _: ApiEncoder("voyage/voyage-4").encode(["hello"], "query")),
    "local model": ("THREAD_EMBED_LANGUAGE_MODEL_URL", lambda _: [*OpenAiCompatibleWriter("m").write(TASK, REQUESTS)]),
    "anthropic": ("ANTHROPIC_BASE_URL", lambda _: [*MessagesWriter().write(TASK, REQUESTS)]),
    "anthropic chat": ("ANTHROPIC_BASE_URL", lambda _: ChatModel().reply("Answer.", [("user", "hello?")])),
    "hub": (hub.ENDPOINT_VARIABLE, _hub),
    "hub, streamed": (hub.ENDPOINT_VARIABLE, _hub_stream),
}


def told(caught: pytest.ExceptionInfo[InputError]) -> str:
    """All that Python and Dagster tell of an error, its causes included."""
    assert caught.tb is not None
    dagster = serializable_error_info_from_exc_info((caught.type, caught.value, caught.tb))
    return "".join(traceback.format_exception(caught.value)) + dagster.to_string()


@pytest.mark.parametrize("status", [400, 401, 404, 500])
@pytest.mark.parametrize("client", CLIENTS)
def test_no_error_and_no_log_line_has_the_key(
    client: str, status: int, echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    variable, ask = CLIENTS[client]
    monkeypatch.setenv(variable, echo.url)
    echo.status = status
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError) as caught:
        ask(tmp_path)
    assert any(MARK in heard for heard in echo.heard), "the server was given the key, and repeated it"
    assert MARK not in told(caught)
    assert MARK not in caplog.text
    assert str(status) in told(caught)


def test_a_signed_address_that_the_hub_sends_on_to_is_not_told(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(hub.ENDPOINT_VARIABLE, echo.url)
    echo.status = 302
    with caplog.at_level(logging.INFO), pytest.raises(InputError) as caught:
        _hub_stream(Path())
    assert any("/signed?signature=" in heard for heard in echo.heard)
    assert MARK not in told(caught) + caplog.text
    assert "trying again in 2 seconds, after status 500" in caplog.text


URLS = dict(CLIENTS.values()) | {
    kind.url_variable: lambda folder, name=name: open_store(name, folder)
    for name, kind in STORES.items()
    if kind.url_variable and not kind.url_with_password
}


@pytest.mark.parametrize("url", [f"http://ada:{MARK}@127.0.0.1:9/v1", f"http://127.0.0.1:9/v1?token={MARK}"])
@pytest.mark.parametrize("variable", [*URLS, GITHUB_VARIABLE])
def test_a_url_with_a_secret_is_refused_without_showing_it(
    variable: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, url)
    ask = URLS.get(variable, lambda folder: fetch(CATALOG["irc_disentangle"], Layout(folder)))
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match="which logs would show") as caught:
        ask(tmp_path)
    assert MARK not in told(caught) + caplog.text


@pytest.mark.parametrize(
    "given",
    [
        f"postgresql://ada:{MARK}@127.0.0.1:9/chat",
        f"postgresql://127.0.0.1:9/chat?user=ada&password={MARK}",
        f"host=127.0.0.1 port=9 user=ada password={MARK}",
        f"postgres//ada:{MARK}@127.0.0.1:9/chat",
        f"host=127.0.0.1 password={MARK} pasword=x",
        f"postgresql://ada:{MARK}@127.0.0.1:port/chat",
    ],
)
def test_the_password_of_a_database_is_not_told(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THREAD_EMBED_POSTGRES_URL", given)
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match="store pgvector") as caught:
        open_store("pgvector", tmp_path)
    assert MARK not in told(caught) + caplog.text


def test_a_store_whose_server_repeats_its_key_is_told_without_it() -> None:
    error = not_reached("weaviate", "http://host", ValueError(f"401: bad key {MARK}"), MARK)
    assert MARK not in str(error) and "401: bad key ***" in str(error)


def test_the_key_goes_to_no_server_that_a_run_names(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="goes to the server that THREAD_EMBED_LANGUAGE_MODEL_URL names, and to no other"):
        OpenAiCompatibleWriter("m", echo.url)
    monkeypatch.setenv("THREAD_EMBED_LANGUAGE_MODEL_URL", echo.url)
    OpenAiCompatibleWriter("m", f"{echo.url}/")
    monkeypatch.delenv("THREAD_EMBED_LANGUAGE_MODEL_KEY")
    OpenAiCompatibleWriter("m", "http://127.0.0.1:9")
    assert echo.heard == []


def test_a_run_that_fails_leaves_no_key_on_disk(echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events, errors, metadata, run configuration and logs: whatever Dagster and the engine have written."""
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    monkeypatch.setitem(CATALOG, NAME, export_source(NAME, write_export(tmp_path / "export")))
    monkeypatch.setenv("THREAD_EMBED_LANGUAGE_MODEL_URL", echo.url)
    echo.status = 400
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        writer = LanguageModelResource(writer="openai_compatible", model="m")
        assets = ["raw_dataset", "conversations", "duplicates", "conversation_summaries"]
        failed = run(instance, assets, NAME, language_model=writer)
        assert "the server refuses to work (400: " in errors(failed)
        assert log(instance, failed.run_id)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"the server refuses to work (400: " in path.read_bytes() for path in written), "the error is on disk"
    assert [path for path in written if MARK.encode() in path.read_bytes()] == []
