"""A hub that takes uploads, over its real protocol: create, validate, preupload, large files by LFS, commit."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER = "tester"
_LFS = ".safetensors"


@dataclass
class ReceivingHub:
    """What it was sent.

    Attributes:
        writers: tokens that may write.
        repositories: name to the files of its last commit.
        visibility: name to what its maker asked for.
        asked: method and path of each request.
    """

    writers: set[str]
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    visibility: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and content."""
        self.asked.append(f"{method} {path}")
        if path.startswith("/storage/"):  # signed addresses: no token goes there
            self.large[path.removeprefix("/storage/")] = body
            return (200, {}) if hashlib.sha256(body).hexdigest() == path.removeprefix("/storage/") else (400, {})
        if token not in self.writers:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            return self._create(**json.loads(body))
        if path == "/api/validate-yaml":
            wrong = "license:" not in json.loads(body)["content"].split("---\n")[1]
            return (400, {"errors": [{"message": "license is missing"}]}) if wrong else (200, {})
        name, _, action = path.removeprefix("/api/models/").partition("/preupload/")
        if action:
            files = json.loads(body)["files"]
            return 200, {"files": [self._mode(f["path"]) for f in files]} if name in self.repositories else (404, {})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            return 200, {"transfer": "basic", "objects": [self._place(**o) for o in objects]}
        name, _, action = path.removeprefix("/api/models/").partition("/commit/")
        return self._commit(name, body) if action == "main" and name in self.repositories else (404, {})

    def _create(self, name: str, organization: str, visibility: str = "public", **_: Any) -> tuple[int, Any]:
        full = f"{organization}/{name}"
        if full in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{full}"}
        if organization != OWNER:
            return 403, {"error": f"You don't have the rights to create a model under the namespace {organization}"}
        self.repositories[full], self.visibility[full] = {}, visibility
        return 200, {"url": f"{self.url}/{full}", "name": full}

    def _mode(self, path: str) -> dict[str, Any]:
        return {"path": path, "uploadMode": "lfs" if path.endswith(_LFS) else "regular", "shouldIgnore": False}

    def _place(self, oid: str, size: int, **_: Any) -> dict[str, Any]:
        return {"oid": oid, "size": size, "actions": {"upload": {"href": f"{self.url}/storage/{oid}"}}}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        for entry in map(json.loads, body.decode().splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                assert value["encoding"] == "base64"
                self.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.repositories[name][value["path"]] = self.large[value["oid"]]
        oid = hashlib.sha1(body).hexdigest()
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{name}/commit/{oid}", "hookOutput": ""}


@contextmanager
def receiving_hub(*writers: str) -> Iterator[ReceivingHub]:
    hub = ReceivingHub(set(writers))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            path = unquote(urlsplit(self.path).path)
            status, content = hub.answer(self.command, path, token, self.rfile.read(length))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _do  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
