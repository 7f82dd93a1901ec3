"""The models that were promoted, and which of them is the promoted one.

Each lies whole in ``models/history/<name>``, and ``models/thread-embed`` is a symbolic link to one of them: to promote or to
go back is to replace the link, which happens at once or not at all. Decisions are lines of ``promotions.jsonl`` beside them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import readable_disk_errors, temporary_beside, temporary_folder, write_text
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import identity_of

RECORDS = "promotions.jsonl"
KEPT = 5  # models, the promoted one among them
_MODULES = "modules.json"
_NUMBERED = re.compile(r"^(\d{4,})-")

Event = Literal["promoted", "refused", "packaged again", "taken over", "rolled back"]


@dataclass(frozen=True)
class Package:
    """A model that was promoted, as it lies on disk.

    Attributes:
        name: of its folder in the history; empty where it does not lie there yet.
        identity: see :func:`.checkpoint.identity_of`.
        promoted: the promoted one.
    """

    name: str
    folder: Path
    identity: str
    promoted: bool


@dataclass(frozen=True)
class Record:
    """A line of ``promotions.jsonl``.

    Attributes:
        at: ISO 8601, UTC.
        package: the promoted one after it; empty where there is none.
        challenger: identity of the model that was decided on.
        champion: identity of the promoted one before it; empty where there was none.
        why: for people.
    """

    at: str
    event: Event
    package: str
    challenger: str
    champion: str
    why: str


def packages(layout: Layout) -> list[Package]:
    """Those in the history, the oldest first."""
    promoted = promoted_package(layout)
    name = promoted.name if promoted else ""
    return [Package(folder.name, folder, identity_of(folder), folder.name == name) for folder in _folders(layout)]


def promoted_package(layout: Layout) -> Package | None:
    """The promoted model, its folder free of links, so that who reads it reads one model whatever is promoted meanwhile."""
    _mend(layout)
    link = layout.promoted_model
    if not (link / _MODULES).exists():
        return None
    folder = link.resolve()
    return Package(folder.name if link.is_symlink() else "", folder, identity_of(folder), True)


@contextmanager
def new_package(layout: Layout, identity: str, why: str) -> Iterator[Path]:
    """Yield an empty folder; when the block succeeds it is in the history, and then the promoted model.

    Args:
        layout: where the history lies.
        identity: of the model that is put into the folder.
        why: for the record.
    """
    _take_over_plain_folder(layout)
    before = promoted_package(layout)
    champion = before.identity if before else ""
    name = _next_name(layout, identity)
    with temporary_folder(layout.model_history / "new") as part:
        yield part
        part.replace(layout.model_history / name)
    record(layout, "packaged again" if before and champion == identity else "promoted", name, identity, champion, why)
    _point_to(layout, name)
    _prune(layout, {name, before.name} if before else {name})


def roll_back(layout: Layout, name: str | None = None) -> Package:
    """Make a package of the history the promoted model again.

    Args:
        layout: where the history lies.
        name: of the package; None takes the model that the promoted one was promoted over.

    Raises:
        InputError: there is no such package, or it is the promoted one.
    """
    _take_over_plain_folder(layout)
    found, now = packages(layout), promoted_package(layout)
    there_are = f"There are: {', '.join(package.name for package in found) or 'none'}"
    if name is None:
        before = _promoted_over(layout, now.identity) if now else ""
        chosen = [package for package in found if before and package.identity == before]
        if not chosen:
            raise InputError(layout.model_history, "there is no model to go back to", there_are)
    else:
        chosen = [package for package in found if package.name == name]
        if not chosen:
            raise InputError(layout.model_history / name, "there is no such model in the history", there_are)
        if chosen[0].promoted:
            raise InputError(chosen[0].folder, "this is the promoted model already", there_are)
    back = replace(chosen[-1], promoted=True)
    record(layout, "rolled back", back.name, back.identity, now.identity if now else "", "by hand")
    _point_to(layout, back.name)
    return back


def _promoted_over(layout: Layout, identity: str) -> str:
    """The model that was the promoted one when this one last became it; empty where there was none."""
    over = [one.champion for one in records(layout) if one.event == "promoted" and one.challenger == identity]
    return over[-1] if over else ""


def taken_back(layout: Layout, identity: str) -> Record | None:
    """The record of going back from a model by hand, unless somebody has gone back to it since."""
    about = [one for one in records(layout) if one.event == "rolled back" and identity in (one.champion, one.challenger)]
    return about[-1] if about and about[-1].champion == identity else None


def record(layout: Layout, event: Event, package: str, challenger: str, champion: str, why: str) -> None:
    """Add a line, before what it tells of is done: so whatever was done has one."""
    line = Record(datetime.now(UTC).isoformat(timespec="seconds"), event, package, challenger, champion, why)
    path = layout.model_history / RECORDS
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, before + json.dumps(asdict(line), ensure_ascii=False) + "\n")


def records(layout: Layout) -> list[Record]:
    """All decisions, the oldest first.

    Raises:
        InputError: a line is damaged.
    """
    path = layout.model_history / RECORDS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            content: Mapping[str, Any] = json.loads(line)
            found.append(Record(**content))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}", f"the line is damaged ({error})", "Delete that line") from error
    return found


def _next_name(layout: Layout, identity: str) -> str:
    """The name that the next package gets: a running number, and what it is."""
    last = [int(match[1]) for folder in _folders(layout) if (match := _NUMBERED.match(folder.name))]
    head, *_, fingerprint = identity.split("/") if identity else ("model", "")
    named = identity.split("/")[1] if head == "released" else head
    return "-".join(filter(None, [f"{max(last, default=0) + 1:04d}", named, fingerprint[:8]]))


def _folders(layout: Layout) -> list[Path]:
    history = layout.model_history
    return sorted(p for p in history.iterdir() if p.is_dir() and not p.name.startswith(".")) if history.is_dir() else []


def _point_to(layout: Layout, name: str) -> None:
    link = layout.promoted_model
    with readable_disk_errors(link):
        part = temporary_beside(link)
        part.symlink_to(Path(layout.model_history.name, name), target_is_directory=True)
        part.replace(link)


def _take_over_plain_folder(layout: Layout) -> None:
    """The promoted model of before there was a history goes into it.

    No system call replaces a folder by a link at once. So the line that names it is written first: who finds no promoted
    model mends the link by it (:func:`_mend`).
    """
    plain = layout.promoted_model
    if plain.is_symlink() or not plain.is_dir():
        return
    identity = identity_of(plain)
    name = _next_name(layout, identity)
    layout.model_history.mkdir(parents=True, exist_ok=True)
    record(layout, "taken over", name, identity, "", "it was promoted before there was a history")
    with readable_disk_errors(plain):
        plain.replace(layout.model_history / name)
    _point_to(layout, name)


def _mend(layout: Layout) -> None:
    """Let the link lead where the last line says: who promoted may have been killed, or was another machine."""
    link = layout.promoted_model
    if link.is_dir() and not link.is_symlink():
        return
    there = {folder.name for folder in _folders(layout)}
    last = [one.package for one in records(layout) if one.package in there]
    if last and link.resolve().name != last[-1]:
        _point_to(layout, last[-1])


def _prune(layout: Layout, kept: set[str]) -> None:
    """Keep the newest package of each of the last ``KEPT`` models, and those named."""
    newest: dict[str, str] = {}
    for package in reversed(packages(layout)):
        newest.setdefault(package.identity or package.name, package.name)
    kept |= set(list(newest.values())[:KEPT])
    for folder in _folders(layout):
        if folder.name not in kept:
            gone = temporary_beside(layout.model_history / "pruned")
            folder.replace(gone)
            shutil.rmtree(gone)
