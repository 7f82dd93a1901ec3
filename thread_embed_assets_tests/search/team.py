"""A small Slack export of an invented team, and a searcher over it with a model that counts words."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thread_embed_assets.search.rooms import workspace_room
from thread_embed_assets.search.searcher import Searcher
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.stored import HashEncoder
from thread_embed_assets_tests.defs.export import export_source

PEOPLE = {"U1": "Quillona Vestrup", "U2": "Tibbold Sarnow", "U3": "Ondrake Pellwyn"}
MARCH = 1_741_000_000  # 2025-03-03 11:06:40 UTC
DAY = 86_400
Said = tuple[str, str]  # user id, text

PRINTER: Sequence[Said] = [
    ("U1", "morning all"),
    ("U1", "the printer on the second floor jams on every page"),
    ("U2", "<@U1> did you try another tray?"),
    ("U1", "yes, the paper still gets stuck"),
    ("U2", "then I will call the technician tomorrow, Quillona"),
    ("U1", "thank you so much"),
    ("U3", "it was <b>the toner</b> & nothing else"),
]
DEPLOY: Sequence[Said] = [
    ("U3", "the deploy of the billing service failed again"),
    ("U2", "migration 0042 locks the invoices table"),
    ("U3", "rolling it back now"),
]
CAKE: Sequence[Said] = [("U2", "there is cake in the kitchen")]
THREADS: Mapping[tuple[str, int], Sequence[Said]] = {
    ("office", MARCH): PRINTER,
    ("ops", MARCH + 2 * DAY): DEPLOY,
    ("office", MARCH + 4 * DAY): CAKE,
}


def write_team(folder: Path, threads: Mapping[tuple[str, int], Sequence[Said]] = THREADS) -> Path:
    """An export in which each thread starts at the time of its key, with a message a minute."""
    days: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for (channel, start), lines in threads.items():
        for position, (user, text) in enumerate(lines):
            moment = start + 60 * position
            entry = {"type": "message", "ts": f"{moment}.000100", "user": user, "text": text}
            if len(lines) > 1:
                entry["thread_ts"] = f"{start}.000100"
            days[folder / channel / f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}.json"].append(entry)
    channels = sorted({channel for channel, _ in threads})
    files: dict[Path, Any] = {
        folder / "users.json": [{"id": k, "name": v.split()[0].lower(), "real_name": v} for k, v in PEOPLE.items()],
        folder / "channels.json": [{"id": f"C{i}", "name": name} for i, name in enumerate(channels)],
        **days,
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def catalog_of(export: Path) -> dict[str, Source]:
    return {"team": export_source("team", export)}


def team_searcher(root: Path, encoder: HashEncoder | None = None) -> Searcher:
    """Of the export at ``root / "export"``, which is written where there is none."""
    export = root / "export"
    if not export.exists():
        write_team(export)
    layout, catalog = Layout(root / "home"), catalog_of(export)
    return Searcher(lambda: workspace_room("team", layout, catalog), encoder or HashEncoder(size=512), "plain")


def touch_later(folder: Path) -> None:
    """Files written twice within a clock's tick differ in their times all the same."""
    for path in folder.rglob("*.json"):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
