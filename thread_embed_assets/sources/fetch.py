"""The one way files come in: mirror, then download cache, then origin; verified, then swapped in whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.archives import unpack_tar, unpack_zip
from thread_embed_assets.sources.catalog import FolderOrigin, GithubOrigin, PackageOrigin, Source
from thread_embed_assets.sources.download import download
from thread_embed_assets.sources.parsers import parse
from thread_embed_assets.storage.atomic import atomic_folder, write_text
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout

MIRROR_VARIABLE = "THREAD_EMBED_MIRROR"
GITHUB_VARIABLE = "THREAD_EMBED_GITHUB_URL"
GITHUB = "https://codeload.github.com"
_PACKAGE = Path(__file__).resolve().parents[1]
_MANIFEST = "manifest.json"

FetchedFrom = Literal["mirror", "cache", "origin", "package", "folder"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawDataset:
    """A source's files on disk; all but ``folder`` and ``reused`` is also in the ``manifest.json`` beside the folder.

    Attributes:
        folder: the files, ``data/raw/<source>/files``: what parsers take.
        sha256: digest over the sorted (path, sha256) of the files.
        fetched_from: where they came from when they were fetched.
        files: number of files.
        bytes: their size.
        reused: they were already there, and were not fetched again.
    """

    source: str
    revision: str
    licence: str
    redistribute: bool
    origin: str
    fetched_from: FetchedFrom
    files: int
    bytes: int
    sha256: str
    folder: Path = field(compare=False)
    reused: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Survey:
    """What a source holds before any filter; ``first`` and ``last`` are seconds UTC, None for a source without times."""

    conversations: int
    messages: int
    first: float | None
    last: float | None


def fetch(source: Source, layout: Layout, mirror: Path | None = None) -> RawDataset:
    """Put a source's files under ``data/raw/<source>/files``, with a manifest beside them.

    Files that are there with the catalogue's revision and checksum are kept. A team's own export without a checksum is read
    again each time, since it grows.

    Args:
        source: the catalogue's entry.
        layout: where to put the files.
        mirror: folder laid out as ``github/OWNER/REPO/COMMIT.tar.gz``; by default the one ``THREAD_EMBED_MIRROR`` names.

    Raises:
        InputError: the files cannot be had, are damaged or unsafe, or have another checksum, or an export cannot be parsed.
            What was there before stays.
    """
    kept = _already_there(source, layout)
    if kept is not None:
        logger.info(
            "%s: kept %d files, %s bytes, as fetched from %s", source.name, kept.files, f"{kept.bytes:,}", kept.fetched_from
        )
        return kept
    target = layout.raw(source.name)
    with atomic_folder(target) as part:
        files = part / "files"
        files.mkdir()
        fetched_from = _fill(files, source, layout, mirror or mirror_from_environment())
        sizes = [path.stat().st_size for path in files.rglob("*") if path.is_file()]
        fetched = RawDataset(
            source=source.name,
            revision=source.revision,
            licence=source.licence,
            redistribute=source.redistribute,
            origin=_origin(source),
            fetched_from=fetched_from,
            files=len(sizes),
            bytes=sum(sizes),
            sha256=of_folder(files),
            folder=target / "files",
        )
        write_text(part / _MANIFEST, _manifest(fetched))
    logger.info("%s: fetched %d files, %s bytes, from %s", source.name, fetched.files, f"{fetched.bytes:,}", fetched_from)
    return fetched


def open_raw(source: Source, layout: Layout) -> RawDataset:
    """What :func:`fetch` put there, read from its manifest.

    Raises:
        InputError: nothing was fetched, or the manifest is damaged.
    """
    path = layout.raw(source.name) / _MANIFEST
    remedy = f"Materialise the raw_dataset of {source.name!r}"
    if not path.exists():
        raise InputError(path, "this source was not fetched yet", remedy)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return RawDataset(**content, folder=path.parent / "files", reused=True)
    except (ValueError, TypeError) as error:
        raise InputError(path, f"the manifest is damaged ({error})", f"{remedy} again") from error


def survey(raw: RawDataset, source: Source) -> Survey:
    """Parse everything once and count.

    Raises:
        InputError: a file is malformed, or the source yields no conversation.
    """
    found = _count(raw.folder, source, raw.folder)
    logger.info("%s: %d conversations, %d messages", source.name, found.conversations, found.messages)
    return found


def mirror_from_environment() -> Path | None:
    """The folder that ``THREAD_EMBED_MIRROR`` names, if it is set.

    Raises:
        InputError: it is set, but is not a folder.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(
            folder, f"{MIRROR_VARIABLE} names this folder, but it does not exist", "Correct or unset the variable"
        )
    return folder


def _already_there(source: Source, layout: Layout) -> RawDataset | None:
    if source.sha256 is None:
        return None
    try:
        raw = open_raw(source, layout)
    except InputError as absent_or_damaged:  # fetching mends both
        logger.info("%s: fetching, since %s", source.name, absent_or_damaged.problem)
        return None
    wanted = (source.revision, source.sha256)
    if (raw.revision, raw.sha256) != wanted or not raw.folder.is_dir() or of_folder(raw.folder) != raw.sha256:
        return None
    return raw


def _manifest(raw: RawDataset) -> str:
    content = {name: value for name, value in asdict(raw).items() if name not in ("folder", "reused")}
    return json.dumps(content, indent=2) + "\n"


def _fill(files: Path, source: Source, layout: Layout, mirror: Path | None) -> FetchedFrom:
    match source.origin:
        case GithubOrigin() as origin:
            return _from_github(files, source, origin, layout, mirror)
        case PackageOrigin(path=path):
            _copy(_PACKAGE / path, files, source)
            _verify(files, source, _PACKAGE / path)
            return "package"
        case FolderOrigin(path=path):
            export = layout.root / Path(path).expanduser()
            if export.is_file():
                unpack_zip(export, files)
            else:
                _copy(export, files, source)
            _verify(files, source, export)
            _prove_readable(files, source, export)
            return "folder"


def _from_github(files: Path, source: Source, origin: GithubOrigin, layout: Layout, mirror: Path | None) -> FetchedFrom:
    name = Path("github", origin.repository, f"{source.revision}.tar.gz")
    if mirror is not None and (mirror / name).exists():
        _unpack_verified(mirror / name, files, origin.include, source)
        return "mirror"
    cached = layout.download_cache / name
    fetched_from: FetchedFrom = "cache" if cached.exists() else "origin"
    if fetched_from == "origin":
        download(_origin(source), cached)
    try:
        _unpack_verified(cached, files, origin.include, source)
    except InputError:
        cached.unlink()  # so that the next try downloads it afresh
        raise
    return fetched_from


def _unpack_verified(archive: Path, files: Path, include: Sequence[str], source: Source) -> None:
    unpack_tar(archive, files, include)
    _verify(files, source, archive)


def _copy(origin: Path, files: Path, source: Source) -> None:
    if not origin.is_dir():
        remedy = f"Correct the origin's path of {source.name!r} in the catalogue, or put the export there"
        raise InputError(origin, "there is no such folder, nor a zip file", remedy)
    for path in sorted(origin.rglob("*")):
        parts = path.relative_to(origin).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            copy = files.joinpath(*parts)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _prove_readable(files: Path, source: Source, export: Path) -> None:
    """Parse an export before it replaces the last good one; errors name the owner's file, not our temporary copy."""
    try:
        _count(files, source, export)
    except InputError as error:
        raise InputError(error.place.replace(str(files), str(export)), error.problem, error.remedy) from error


def _count(folder: Path, source: Source, place: Path) -> Survey:
    conversations = messages = 0
    first: float | None = None
    last: float | None = None
    for conversation in parse(folder, source):
        conversations += 1
        messages += len(conversation.messages)
        start, end = conversation.start, conversation.end
        if start is not None and end is not None:
            first = start if first is None else min(first, start)
            last = end if last is None else max(last, end)
    if not conversations:
        problem = f"no conversation is found when it is read as {source.format!r}"
        raise InputError(
            place, problem, "Correct `format`, or the origin's path or include, of this source in the catalogue"
        )
    return Survey(conversations, messages, first, last)


def _verify(files: Path, source: Source, place: Path) -> None:
    found = of_folder(files)
    if source.sha256 is not None and found != source.sha256:
        problem = f"the files' sha256 is {found}, but the catalogue says {source.sha256} for {source.name!r}"
        remedy = "Try again; if it stays so, the origin has changed: check it before correcting sha256 in the catalogue"
        raise InputError(place, problem, remedy)


def _origin(source: Source) -> str:
    match source.origin:
        case GithubOrigin(repository=repository):
            base = os.environ.get(GITHUB_VARIABLE) or GITHUB
            return f"{base.rstrip('/')}/{repository}/tar.gz/{source.revision}"
        case PackageOrigin(path=path) | FolderOrigin(path=path):
            return path
