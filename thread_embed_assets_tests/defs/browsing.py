"""A real UI (`make ui`'s webserver and daemon) on a folder of its own, and what people do in it with a browser."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from thread_embed_assets.sources.catalog import OWN_CHAT_VARIABLE
from thread_embed_assets.storage.layout import ROOT_VARIABLE

PROJECT = Path(__file__).resolve().parents[2]
LOCATION = "thread_embed_assets"
TEAM = "our_team"
LIMIT = 600  # seconds for one thing to appear, on a machine with much else to do
GRACE = 10  # seconds to end by itself; nothing in its folder is worth more
WIDTH = 1400


@dataclass(frozen=True)
class Place:
    """A root, a Dagster home and a team's export below one folder."""

    folder: Path

    @property
    def export(self) -> Path:
        return self.folder / "export"

    @property
    def log(self) -> Path:
        return self.folder / "ui.log"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.folder / "home"),
            ROOT_VARIABLE: str(self.folder / "root"),
            OWN_CHAT_VARIABLE: str(self.folder / "own_chat.yaml"),
        }

    def set_up(self) -> None:
        """The project's own instance settings, and an entry for the export, which is there already."""
        entry = {"path": str(self.export), "filter_bounds": [0.0, 0.8]}
        (self.folder / "own_chat.yaml").write_text(yaml.safe_dump({"workspaces": {TEAM: entry}}), encoding="utf-8")
        settings = yaml.safe_load((PROJECT / "data" / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
        limits = settings["concurrency"]["runs"].setdefault("tag_concurrency_limits", [])
        limits.append({"key": "dagster/schedule_name", "limit": 0})  # what a schedule asks for stays in the queue
        (self.folder / "home").mkdir()
        (self.folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@contextmanager
def serving(place: Place, *arguments: str) -> Iterator[str]:
    """The address of a UI that answers, with its daemon; both, and the runs that they started, are ended in the end.

    Args:
        arguments: further ones of ``dg dev``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "thread_embed_assets.defs.ui", "--host", "127.0.0.1", "--port", str(port), *arguments]
    with place.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **place.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _answers(process, place, address)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError):  # nobody is left of the group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(process: subprocess.Popen[bytes], place: Place, address: str) -> None:
    unreachable = retry_if_exception_type(httpx.TransportError)

    @retry(stop=stop_after_delay(LIMIT), wait=wait_fixed(0.5), retry=unreachable, reraise=True)
    def ask() -> None:
        assert process.poll() is None, place.log.read_text(encoding="utf-8")
        httpx.get(f"{address}/server_info", timeout=10).raise_for_status()

    ask()


def chromium() -> str | None:
    """Where this machine has the browser."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def until(page: Any, address: str, *texts: str | re.Pattern[str]) -> None:
    """Open a page again and again until it shows these texts: not every page renews itself."""
    from playwright.sync_api import TimeoutError as NotYet

    @retry(stop=stop_after_delay(LIMIT), retry=retry_if_exception_type(NotYet), reraise=True)
    def look() -> None:
        page.goto(address)
        for text in texts:
            page.get_by_text(text).locator("visible=true").first.wait_for(timeout=20_000)

    look()


def materialise(page: Any, address: str, job: str) -> None:
    """Press the buttons that materialise a job's assets for the team's partition."""
    page.goto(f"{address}/locations/{LOCATION}/jobs/{job}")
    page.get_by_role("button", name="Materialize all").click(timeout=LIMIT * 1000)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Select a partition").click()
    page.keyboard.type(TEAM)
    page.get_by_role("menuitem").filter(has_text=re.compile(f"^{TEAM}")).click()
    dialog.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").first.wait_for()


def check_page(address: str, asset: str, check: str) -> str:
    return f"{address}/assets/{asset}?view=checks&checkDetail={check}"


def partition_page(address: str, asset: str) -> str:
    return f"{address}/assets/{asset}?view=partitions&partition={TEAM}"
