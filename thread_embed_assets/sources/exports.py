"""Which of a team's own exports are new or have other content than when they were last looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.sources.catalog import FolderOrigin, Source
from thread_embed_assets.storage.fingerprint import of_file, of_folder, of_json
from thread_embed_assets.storage.layout import Layout


@dataclass(frozen=True)
class Seen:
    """An export as it was found.

    Attributes:
        listing: fingerprint of its files' names, sizes and times of change, which costs no reading.
        content: of the files themselves.
    """

    listing: str
    content: str


@dataclass(frozen=True)
class Look:
    """What one look at the exports found.

    Attributes:
        seen: all that are there, by source; to be handed to the next look.
        changed: sources whose content is new.
        missing: sources whose export is not there, and why; what was known of them is kept.
    """

    seen: Mapping[str, Seen]
    changed: tuple[str, ...]
    missing: Mapping[str, str]


def own_exports(catalog: Mapping[str, Source]) -> dict[str, str]:
    """Source to the path of its export, of a team's own."""
    return {name: source.origin.path for name, source in catalog.items() if isinstance(source.origin, FolderOrigin)}


def look(exports: Mapping[str, str], layout: Layout, before: Mapping[str, Seen]) -> Look:
    """Only an export whose listing has changed is read, and only one whose content has changed counts as changed.

    Args:
        exports: of :func:`own_exports`; a relative path is taken from the root folder.
        layout: gives the root folder.
        before: what the last look found.
    """
    seen, changed, missing = dict(before), [], {}
    for name, path in exports.items():
        export = layout.root / Path(path).expanduser()
        try:
            listing = _listing(export)
            known = before.get(name)
            if known is not None and known.listing == listing:
                continue
            seen[name] = Seen(listing, of_folder(export) if export.is_dir() else of_file(export))
        except OSError as error:
            missing[name] = f"{export}: {error.strerror or error}"
            continue
        if known is None or known.content != seen[name].content:
            changed.append(name)
    return Look({name: one for name, one in seen.items() if name in exports}, tuple(changed), missing)


def _listing(export: Path) -> str:
    files = sorted(path for path in export.rglob("*") if path.is_file()) if export.is_dir() else [export]
    stats = [(path.relative_to(export).as_posix(), path.stat()) for path in files]
    return of_json([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def to_json(seen: Mapping[str, Seen]) -> dict[str, dict[str, str]]:
    return {name: asdict(one) for name, one in seen.items()}


def from_json(content: Mapping[str, Any]) -> dict[str, Seen]:
    return {name: Seen(**one) for name, one in content.items()}
