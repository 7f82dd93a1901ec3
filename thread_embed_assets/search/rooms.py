"""What can be searched: the threads of a source, or all threads of a workspace's own export."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised, normalise, open_normalised
from thread_embed_assets.chat.people import Masker, salt, write_people
from thread_embed_assets.chat.splits import Assignment
from thread_embed_assets.errors import InputError
from thread_embed_assets.search.names import Names, read_names
from thread_embed_assets.sources.catalog import FolderOrigin, Source, load_catalog
from thread_embed_assets.sources.fetch import fetch
from thread_embed_assets.sources.parsers import aliases, parse
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout

_VERSION = 1  # of how a workspace's threads are made from its export


@dataclass(frozen=True)
class Room:
    """Threads that are searched together.

    Attributes:
        folder: where their index lies.
        stored: their masked conversations and messages.
        names: who their people are.
    """

    name: str
    folder: Path
    stored: Normalised
    names: Names


def source_room(name: str, layout: Layout) -> Room:
    """The conversations of a source that are materialised, filtered as for training; names stay masked in results.

    Raises:
        InputError: they are not there.
    """
    stored = open_normalised(layout.conversations(name))
    return Room(f"source {name}", layout.search(name) / "source", stored, read_names(name, layout, show=False))


def workspace_room(name: str, layout: Layout, catalog: Mapping[str, Source] | None = None) -> Room:
    """All threads of a workspace's export, short ones too, read again where the export has changed; with names.

    Raises:
        InputError: no workspace has that name, or its export cannot be read.
    """
    source = _workspace(name, load_catalog() if catalog is None else catalog)
    folder = layout.search(name) / "workspace"
    threads, state = folder / "threads.duckdb", folder / "export.json"
    stamp = _stamp(source, layout)
    known = _read(state)
    if not threads.exists() or known.get("stamp") != stamp:
        raw = fetch(source, layout)
        if not threads.exists() or known.get("raw") != raw.sha256 or known.get("version") != _VERSION:
            masker = Masker(source.name, salt(layout), aliases(raw.folder, source))
            normalise(parse(raw.folder, source), masker, _for_search, threads, keep_all=True)
            write_people(layout.people(source.name), masker)
        write_text(state, json.dumps({"version": _VERSION, "stamp": stamp, "raw": raw.sha256}) + "\n")
    return Room(f"workspace {name}", folder, open_normalised(threads), read_names(source, layout, show=True))


def _workspace(name: str, catalog: Mapping[str, Source]) -> Source:
    source = catalog.get(name)
    if source is not None and source.workspace:
        return source
    known = ", ".join(other for other, one in catalog.items() if one.workspace) or "none yet"
    problem = "there is no workspace of that name" if source is None else "this is a source, and no workspace"
    remedy = f"Declare its export in own_chat.yaml, or name one of: {known}"
    raise InputError(f"workspace {name!r}", problem, remedy if source is None else f"Search it with --source {name}")


def _stamp(source: Source, layout: Layout) -> str:
    """Changes whenever the export's files do; to see that, they are not read."""
    declared = source.model_dump(mode="json", include={"origin", "format", "timezone", "revision", "sha256"})
    files: list[tuple[str, int, int]] = []
    if isinstance(source.origin, FolderOrigin):
        export = layout.root / Path(source.origin.path).expanduser()
        found = [export] if export.is_file() else sorted(path for path in export.rglob("*") if path.is_file())
        files = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in found]
    return of_json([_VERSION, declared, files])


def _read(state: Path) -> dict[str, Any]:
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _for_search(starts: Iterable[tuple[str, float]]) -> Assignment:
    """Nothing is held out."""

    def assign(name: str, channel: str, start: float | None, end: float | None, given: str | None) -> Split:
        return Split.TRAIN

    return assign
