"""``dg dev`` whose pages answer this machine's own browser tabs alone: ``python -m thread_embed_assets.defs.ui``.

Dagster's webserver asks nobody who they are. Bound to loopback the network does not reach it, but every web page that is
open in a browser here does: it can send a mutation to 127.0.0.1 (which would start runs), and, under a name that it has made
point there, read the answers. So requests that come from another page, or by another name, are refused.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from thread_embed_assets.defs.killed_runs import close_killed_runs

HOSTS_VARIABLE = "THREAD_EMBED_UI_HOSTS"
HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_SERVE = "--serve-as-dagster-webserver"
_GRAPHQL = "/graphql"


class OwnPagesOnly:
    """Middleware that passes what the UI's own pages, and programs on this machine, ask."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        named = os.environ.get(HOSTS_VARIABLE, "").split(",")
        self._hosts = HOSTS | {name.strip().lower() for name in named if name.strip()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = refusal(scope, self._hosts) if scope["type"] in ("http", "websocket") else ""
        if not why:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(f"{why}\n", status_code=403)(scope, receive, send)
        else:
            await WebSocketClose(code=1008, reason=why)(scope, receive, send)


def refusal(scope: Scope, hosts: frozenset[str]) -> str:
    """Why a request is not answered; empty where it is."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in hosts:
        return f"This server is not known as {host!r}; {HOSTS_VARIABLE} names further ones."
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return f"A page of {origin!r} may not use this server."
    graphql = scope["path"].rstrip("/").endswith(_GRAPHQL)
    if graphql and scope.get("method") == "GET" and "query" in parse_qs(scope["query_string"].decode("latin-1")):
        return "GraphQL is answered by POST alone: an image of another page could send a GET."
    followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document" and not graphql
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (followed and scope.get("method") == "GET"):
        return "A page of another site may not use this server."
    return ""


def guard() -> None:
    """Put the middleware before every webserver that this process starts from now on."""
    webserver: Any = importlib.import_module("dagster_webserver.webserver").DagsterWebserver
    built: Callable[[Any], list[Middleware]] = webserver.build_middleware
    webserver.build_middleware = lambda server: [Middleware(OwnPagesOnly), *built(server)]


def own_command(parts: list[str]) -> list[str]:
    """The command that starts the webserver, turned into the one that starts it guarded; others as they are."""
    if "dagster_webserver" not in parts:
        return parts
    place = parts.index("dagster_webserver")
    return [*parts[:place], "thread_embed_assets.defs.ui", _SERVE, *parts[place + 1 :]]


def main(arguments: list[str]) -> None:
    """Arguments are those of ``dg dev``."""
    if arguments[:1] == [_SERVE]:
        from dagster_webserver.cli import main as serve

        guard()
        sys.argv = ["dagster-webserver", *arguments[1:]]
        serve()  # type: ignore[no-untyped-call]
        return
    from dagster import DagsterInstance
    from dagster_dg_cli.cli import main as dg

    if "DAGSTER_HOME" in os.environ:
        with DagsterInstance.get() as instance:
            close_killed_runs(instance)
    dev: Any = importlib.import_module("dagster._cli.dev")
    start: Callable[..., Any] = dev.open_ipc_subprocess
    dev.open_ipc_subprocess = lambda parts, **options: start(own_command(parts), **options)
    sys.argv = ["dg", "dev", *arguments]
    dg()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1:])
