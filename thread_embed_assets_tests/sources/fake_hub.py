"""A Hugging Face hub on this machine, for data sets: it lists revisions, and can gate, refuse, cut and lie as told.

What it answers is what huggingface_hub 2.4 reads of ``/api/datasets/.../revision/...`` and ``/datasets/.../resolve/...``.
Files come by a redirect to another host name, as the real hub's come from its content network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

from thread_embed_assets.sources import download
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE
from thread_embed_assets.sources.hub import ENDPOINT_VARIABLE

COMMIT = "a1" * 20
_INFO = re.compile(r"/api/datasets/([^/]+/[^/]+)/revision/(.+)")
_FILE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_CONTENT = re.compile(r"/content/([^/]+/[^/]+)/([^/]+)/(.+)")
_LARGE = 1000  # bytes from which on a file is kept in LFS, and its sha256 told


@dataclass(frozen=True)
class Asked:
    """One request: ``kind`` is info, file or content."""

    kind: str
    path: str
    range: str | None
    token: str | None


@dataclass
class FakeHub:
    """Data sets by name, each the files of its commits; ``main`` is the last of them.

    Attributes:
        accepted: tokens whose owners have accepted the terms; None when nothing is gated.
        info_plan: for each listing to come, the status to refuse it with.
        file_plan: for each file to come, a status from 400 to 599, or else how many bytes to send before the cut.
        ranges: whether the Range header is honoured.
        told: sha256 that the hub tells of a path in place of the true one.
        sent: bytes of files that went out.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]]
    accepted: set[str] | None = None
    info_plan: list[int] = field(default_factory=list)
    file_plan: list[int] = field(default_factory=list)
    ranges: bool = True
    told: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def kinds(self) -> list[str]:
        return [asked.kind for asked in self.asked]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        wanted = handler.headers.get("Range")
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        for kind, pattern in (("info", _INFO), ("file", _FILE), ("content", _CONTENT)):
            match = pattern.fullmatch(path)
            if match:
                self.asked.append(Asked(kind, match[match.lastindex or 0], wanted, token))
                getattr(self, f"_{kind}")(handler, *match.groups(), token, wanted)
                return
        _refuse(handler, 404, "")

    def _info(self, handler: BaseHTTPRequestHandler, name: str, revision: str, *_: str | None) -> None:
        if self.info_plan:
            _refuse(handler, self.info_plan.pop(0), "")
            return
        found = self._commit(handler, name, revision)
        if found is None:
            return
        files = self.repositories[name][found]
        content = {"id": name, "sha": found, "siblings": [self._sibling(path, data) for path, data in files.items()]}
        _send(handler, json.dumps(content).encode())

    def _sibling(self, path: str, data: bytes) -> dict[str, object]:
        sha256 = self.told.get(path, hashlib.sha256(data).hexdigest())
        large = {"lfs": {"sha256": sha256, "size": len(data), "pointerSize": 134}} if len(data) >= _LARGE else {}
        git_id = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        return {"rfilename": path, "size": len(data), "blobId": git_id, **large}

    def _file(self, handler: BaseHTTPRequestHandler, name: str, revision: str, path: str, token: str | None, _: str) -> None:
        if self.accepted is not None and token not in self.accepted:
            _refuse(handler, 403 if token else 401, "GatedRepo")
            return
        found = self._commit(handler, name, revision)
        if found is None:
            return
        if path not in self.repositories[name][found]:
            _refuse(handler, 404, "EntryNotFound")
            return
        handler.send_response(302)
        handler.send_header("Location", f"{self.url.replace('127.0.0.1', 'localhost')}/content/{name}/{found}/{path}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _content(
        self, handler: BaseHTTPRequestHandler, name: str, commit: str, path: str, _: str | None, wanted: str | None
    ) -> None:
        order = self.file_plan.pop(0) if self.file_plan else None
        if order is not None and 400 <= order < 600:
            _refuse(handler, order, "")
            return
        content = self.repositories[name][commit][path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        for block in range(start, len(content) if order is None else min(start + order, len(content)), 2**16):
            end = block + 2**16 if order is None else min(block + 2**16, start + order)
            self.sent += handler.wfile.write(content[block:end])

    def _commit(self, handler: BaseHTTPRequestHandler, name: str, revision: str) -> str | None:
        commits = self.repositories.get(name)
        if commits is None:
            _refuse(handler, 404, "RepoNotFound")
        elif revision == "main":
            return list(commits)[-1]
        elif revision not in commits:
            _refuse(handler, 404, "RevisionNotFound")
        else:
            return revision
        return None


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    handler.send_response(status)
    if code:
        handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving_hub(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the reader has closed the stream
                hub.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        hub.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def hub_in_reach(hub: FakeHub, patch: pytest.MonkeyPatch, nowhere: Path) -> Iterator[FakeHub]:
    """The hub that ``HF_ENDPOINT`` names, without anybody's token, mirror or patience."""
    for variable in (MIRROR_VARIABLE, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(variable, raising=False)
    patch.setattr(constants, "HF_TOKEN_PATH", str(nowhere))
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
    patch.setattr(download, "FIRST_PAUSE", 0.001)
    huggingface_hub.close_session()  # it may know other proxies
    with serving_hub(hub):
        patch.setenv(ENDPOINT_VARIABLE, hub.url + "/")
        yield hub
