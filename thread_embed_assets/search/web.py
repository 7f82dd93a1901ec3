"""The search page: private chat on this machine's own address, for its own page alone.

A page elsewhere on the web must not read it through the visitor's browser. So the server listens on 127.0.0.1, answers to
that name alone (against DNS rebinding), refuses what another site's page sends, and its page may run nothing but itself.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.search.filters import Filters, time_of
from thread_embed_assets.search.matches import Line, in_context
from thread_embed_assets.search.searcher import LONGEST_QUERY, Hit, Searcher

logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 8765
MOST_LINES = 400  # of a thread that are sent

_MOST_BYTES = 16_384  # of a request
_MOST_HITS = 50
_SECONDS = 30  # that a request may take to arrive
_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    query: str = Field(max_length=LONGEST_QUERY)
    channels: list[str] = Field(default=[], max_length=50)
    people: list[str] = Field(default=[], max_length=50)
    since: str = ""
    until: str = ""
    top: int = Field(default=10, ge=1, le=_MOST_HITS)


class SearchServer:
    """Serves one searcher until :meth:`stop`, or until Ctrl-C ends :meth:`run`.

    Args:
        searcher: what is asked.
        port: 0 takes a free one.

    Raises:
        InputError: the port is taken.
    """

    def __init__(self, searcher: Searcher, port: int = PORT) -> None:
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port}", f"cannot listen there ({error})", "Name another with --port") from error
        self._server.searcher = searcher
        self.port = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}/"

    def __enter__(self) -> SearchServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.server_close()

    def run(self) -> None:
        try:
            self._server.serve_forever()
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    searcher: Searcher


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, words: str) -> None:
        self.status = status
        super().__init__(words)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS
    server_version, sys_version = "thread-embed", ""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing: what people look for is nobody else's business."""

    def do_GET(self) -> None:
        self._answer({"/": self._page, "/api/room": self._room})

    def do_POST(self) -> None:
        self._answer({"/api/search": self._search})

    def _answer(self, pages: Mapping[str, Any]) -> None:
        try:
            self._refuse_strangers()
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
            page()
        except _RefusedError as refusal:
            self._leave_unread()
            self._send_json({"problem": str(refusal), "remedy": ""}, refusal.status)
        except InputError as error:
            self._send_json({"problem": f"{error.place}: {error.problem}", "remedy": error.remedy}, HTTPStatus.BAD_REQUEST)
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            logger.exception("a request failed")
            self._send_json({"problem": "the search failed", "remedy": "See the terminal"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _leave_unread(self) -> None:
        """Take the rest of a refused request off the line, so that the refusal arrives."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if length.isdecimal():
            self.rfile.read(min(int(length), 4 * _MOST_BYTES))

    def _refuse_strangers(self) -> None:
        own = {f"{name}:{self.server.server_address[1]}" for name in (HOST, "localhost")}
        if self.headers.get("Host", "").lower() not in own:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this page answers only to 127.0.0.1 and localhost")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower().removeprefix("http://") not in own:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another page asks")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another site asks")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        body = _page_text().replace("{{nonce}}", nonce).encode()
        self._send(body, "text/html; charset=utf-8", HTTPStatus.OK, {"Content-Security-Policy": policy})

    def _room(self) -> None:
        searcher = self.server.searcher
        searcher.refresh()
        self._send_json({"name": searcher.name, "channels": searcher.channels, "threads": searcher.threads})

    def _search(self) -> None:
        asked = self._asked()
        since = time_of(asked.since, "since") if asked.since.strip() else None
        until = time_of(asked.until, "until", end=True) if asked.until.strip() else None
        filters = Filters(asked.channels, asked.people, since, until)
        reply = self.server.searcher.search(asked.query, filters, asked.top)
        hits = [_hit(hit) for hit in reply.hits]
        self._send_json({"searched": reply.searched, "threads": reply.threads, "hits": hits})

    def _asked(self) -> _Asked:
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a search is sent as application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a search is at most {_MOST_BYTES:,} bytes")
        try:
            return _Asked.model_validate_json(self.rfile.read(int(length)))
        except ValidationError as error:
            raise wrong_field(error, "search", "Correct it, and ask again") from error

    def _send_json(self, content: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content).encode(), "application/json", status, {})

    def _send(self, body: bytes, kind: str, status: HTTPStatus, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_ALWAYS, **more, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@lru_cache(maxsize=1)
def _page_text() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def _hit(hit: Hit) -> dict[str, Any]:
    lines = [line if isinstance(line, int) else _line(line) for line in in_context(hit.lines, MOST_LINES)]
    return {
        "channel": hit.channel,
        "score": round(hit.score, 3),
        "started": hit.started.isoformat() if hit.started else None,
        "people": hit.people,
        "messages": len(hit.lines),
        "lines": lines,
    }


def _line(line: Line) -> dict[str, Any]:
    return {**asdict(line), "sent_at": line.sent_at.isoformat() if line.sent_at else None}
