"""A local HTTP server that speaks JSON: what the stand-ins for the stores' servers have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request; ``path`` has its parts unquoted, ``body`` is None without one."""

    method: str
    path: tuple[str, ...]
    options: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class RefusedError(Exception):
    """What the real server would refuse, too, with its HTTP status."""

    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


class UnknownError(Exception):
    """What a stand-in does not speak; it remembers each, so that a client cannot take it for an answer."""


class JsonServer(ABC):
    """Serves while its ``with`` block lasts.

    Attributes:
        url: where it listens.
        requests: how many it had.
        unknown: what it was asked beyond what it speaks.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.unknown: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(handler) -> None:  # noqa: N805
                status, said = self._asked(handler)
                data = b"" if said is None else json.dumps(said).encode()
                handler.send_response(status)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(data)))
                handler.end_headers()
                handler.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = answer  # noqa: N815

            def log_message(handler, format: str, *args: object) -> None:  # noqa: A002, N805
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()

    @abstractmethod
    def answer(self, asked: Asked) -> Any:
        """What to send, as JSON; None sends nothing."""

    def refusal(self, error: RefusedError) -> Any:
        """How this server words it."""
        return {"error": str(error)}

    def _asked(self, handler: BaseHTTPRequestHandler) -> tuple[int, Any]:
        self.requests += 1
        data = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(handler.path)
        path = tuple(unquote(part) for part in parts.path.strip("/").split("/"))
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        try:
            if handler.command == "CONNECT":
                raise UnknownError("this is no proxy")
            body = json.loads(data) if data else None
            return 200, self.answer(Asked(handler.command, path, options, handler.headers, body))
        except RefusedError as error:
            return error.status, self.refusal(error)
        except UnknownError as error:
            self.unknown.append(f"{handler.command} {handler.path}: {error}")
            return 501, {"error": str(error)}


def known(given: Any, fields: set[str], what: str) -> None:
    """Refuse fields that are not spoken.

    Raises:
        UnknownError: there are some, or it is no object at all.
    """
    if not isinstance(given, Mapping) or set(given) - fields:
        raise UnknownError(f"{what} has {given!r}, and only {sorted(fields)} are known")
