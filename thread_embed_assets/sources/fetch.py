"""The one way files come in: mirror, then download cache, then origin; verified, then swapped in whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from thread_embed_assets.chat.model import Truth
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import hub
from thread_embed_assets.sources.archives import unpack_tar, unpack_zip
from thread_embed_assets.sources.catalog import (
    FolderOrigin,
    GithubOrigin,
    HubOrigin,
    HubStreamOrigin,
    PackageOrigin,
    Source,
)
from thread_embed_assets.sources.download import download
from thread_embed_assets.sources.parsers import parse
from thread_embed_assets.sources.server_stream import sample_servers
from thread_embed_assets.storage.addresses import fault_of
from thread_embed_assets.storage.atomic import atomic_folder, write_text
from thread_embed_assets.storage.fingerprint import of_folder, of_json
from thread_embed_assets.storage.layout import Layout

MIRROR_VARIABLE = "THREAD_EMBED_MIRROR"
GITHUB_VARIABLE = "THREAD_EMBED_GITHUB_URL"
GITHUB = "https://codeload.github.com"
OPT_IN_VARIABLE = "THREAD_EMBED_OPT_IN"
SURVEYED_UP_TO = 128 * 2**20  # bytes; what is larger is parsed once, when its conversations are built
_PACKAGE = Path(__file__).resolve().parents[1]
_MANIFEST = "manifest.json"

FetchedFrom = Literal["mirror", "cache", "origin", "package", "folder"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """What a source holds before any filter; ``first`` and ``last`` are seconds UTC, None for a source without times."""

    conversations: int
    messages: int
    first: float | None
    last: float | None


@dataclass(frozen=True)
class RawDataset:
    """A source's files on disk; all but ``folder`` and ``reused`` is also in the ``manifest.json`` beside the folder.

    Attributes:
        folder: the files, ``data/raw/<source>/files``: what parsers take.
        sha256: digest over the sorted (path, sha256) of the files.
        fetched_from: where they came from when they were fetched.
        files: number of files.
        bytes: their size.
        commit: the hub's commit that the revision stood for; empty for other origins, and for files from the mirror.
        declared: fingerprint of what the catalogue said of origin and format.
        survey: what parsing them found; None for a pinned source that is larger than ``SURVEYED_UP_TO`` or whose threads are
            guessed: their conversations are counted when they are built.
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
    commit: str = ""
    declared: str = ""
    survey: Survey | None = None
    reused: bool = field(default=False, compare=False)


def fetch(source: Source, layout: Layout, mirror: Path | None = None) -> RawDataset:
    """Put a source's files under ``data/raw/<source>/files``, with a manifest beside them.

    Files that are there with the catalogue's revision and checksum are kept. A team's own export without a checksum is read
    again each time, since it grows. Where a hub data set has no checksum in the catalogue, that of the first fetch is held
    to; a branch such as ``main`` then stays at the commit of the first fetch, too, until ``data/raw/<source>`` is deleted.

    Args:
        source: the catalogue's entry.
        layout: where to put the files.
        mirror: folder laid out as ``github/OWNER/REPO/COMMIT.tar.gz`` and ``hub/datasets/OWNER/NAME/REVISION/<path>``; by
            default the one ``THREAD_EMBED_MIRROR`` names.

    Raises:
        InputError: the files cannot be had, are damaged or unsafe, or have another checksum, or cannot be parsed; or the
            source has to be opted in to, and was not. What was there before stays.
    """
    _refuse_unless_opted_in(source)
    earlier = _earlier(source, layout)
    if earlier is not None and _is_current(earlier, source):
        logger.info(
            "%s: kept %d files, %s bytes, as fetched from %s",
            source.name,
            earlier.files,
            f"{earlier.bytes:,}",
            earlier.fetched_from,
        )
        return earlier
    target = layout.raw(source.name)
    with atomic_folder(target) as part:
        files = part / "files"
        files.mkdir()
        held = earlier if earlier and _same_declaration(earlier, source) else None
        filled = _Fetch(source, layout, mirror or mirror_from_environment(), files, held).fill()
        sizes = [path.stat().st_size for path in files.rglob("*") if path.is_file()]
        fetched = RawDataset(
            source=source.name,
            revision=source.revision,
            licence=source.licence,
            redistribute=source.redistribute,
            origin=_origin(source),
            fetched_from=filled.fetched_from,
            files=len(sizes),
            bytes=sum(sizes),
            sha256=filled.sha256,
            folder=target / "files",
            commit=filled.commit,
            declared=_declared(source),
            survey=_survey(files, source, filled.place, sum(sizes)),
        )
        write_text(part / _MANIFEST, _manifest(fetched))
    logger.info(
        "%s: fetched %d files, %s bytes, from %s", source.name, fetched.files, f"{fetched.bytes:,}", filled.fetched_from
    )
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
        found = content.pop("survey", None)
        return RawDataset(**content, survey=Survey(**found) if found else None, folder=path.parent / "files", reused=True)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(path, f"the manifest is damaged ({error})", f"{remedy} again") from error


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


def _refuse_unless_opted_in(source: Source) -> None:
    named = [name.strip() for name in os.environ.get(OPT_IN_VARIABLE, "").split(",")]
    if source.opt_in and source.name not in named:
        remedy = f"Only if you still want it, set {OPT_IN_VARIABLE}={source.name}"
        raise InputError(f"source {source.name!r}", f"this source is off by default: {source.opt_in.rstrip('. ')}", remedy)


def _earlier(source: Source, layout: Layout) -> RawDataset | None:
    try:
        return open_raw(source, layout)
    except InputError as absent_or_damaged:  # fetching mends both
        logger.info("%s: fetching, since %s", source.name, absent_or_damaged.problem)
        return None


def _is_current(raw: RawDataset, source: Source) -> bool:
    if isinstance(source.origin, FolderOrigin) and source.sha256 is None:
        return False
    if not _same_declaration(raw, source) or raw.sha256 != (source.sha256 or raw.sha256):
        return False
    return raw.folder.is_dir() and of_folder(raw.folder) == raw.sha256


def _same_declaration(raw: RawDataset, source: Source) -> bool:
    return (raw.revision, raw.declared) == (source.revision, _declared(source))


def _declared(source: Source) -> str:
    """Changes with what decides the files and their survey; a checksum alone would not see another format or sample."""
    return of_json(source.model_dump(mode="json", include={"origin", "format", "timezone"}))


def _manifest(raw: RawDataset) -> str:
    content = {name: value for name, value in asdict(raw).items() if name not in ("folder", "reused")}
    return json.dumps(content, indent=2) + "\n"


@dataclass(frozen=True)
class _Filled:
    """Files that are as they should be; ``place`` is what errors about them name."""

    fetched_from: FetchedFrom
    place: Path | str
    sha256: str
    commit: str = ""


@dataclass(frozen=True)
class _Fetch:
    """One source on its way into the empty folder ``files``."""

    source: Source
    layout: Layout
    mirror: Path | None
    files: Path
    earlier: RawDataset | None  # of the same declaration

    def fill(self) -> _Filled:
        match self.source.origin:
            case GithubOrigin() as origin:
                return self._from_github(origin)
            case HubOrigin() as origin:
                return self._from_hub(origin)
            case HubStreamOrigin() as origin:
                return self._from_stream(origin)
            case PackageOrigin(path=path):
                self._copy(_PACKAGE / path)
                return self._verified("package", _PACKAGE / path)
            case FolderOrigin(path=path):
                export = self.layout.root / Path(path).expanduser()
                if not export.is_file():
                    self._copy(export)
                elif zipfile.is_zipfile(export) or export.suffix.lower() == ".zip":
                    unpack_zip(export, self.files)
                else:
                    _copy_file(export, self.files / export.name)
                return self._verified("folder", export)

    def _from_github(self, origin: GithubOrigin) -> _Filled:
        name = Path("github", origin.repository, f"{self.source.revision}.tar.gz")
        if self.mirror is not None and (self.mirror / name).exists():
            unpack_tar(self.mirror / name, self.files, origin.include)
            return self._verified("mirror", self.mirror / name)
        cached = self.layout.download_cache / name
        fetched_from: FetchedFrom = "cache" if cached.exists() else "origin"
        if fetched_from == "origin":
            download(_origin(self.source), cached)
        try:
            unpack_tar(cached, self.files, origin.include)
            return self._verified(fetched_from, cached)
        except InputError:
            cached.unlink()  # so that the next try downloads it afresh
            raise

    def _from_hub(self, origin: HubOrigin) -> _Filled:
        mirrored = self._mirrored(origin)
        if mirrored is not None:
            there = [path.relative_to(mirrored).as_posix() for path in mirrored.rglob("*") if path.is_file()]
            for path in hub.select(there, origin.include, mirrored):
                _copy_file(mirrored / path, self.files / path)
            return self._verified("mirror", mirrored)
        revision = (self.earlier.commit if self.earlier else "") or self.source.revision
        cache = self.layout.download_cache
        commit, downloaded = hub.fetch_files(origin.repository, revision, origin.include, self.files, cache)
        return self._verified("origin" if downloaded else "cache", hub.address(origin.repository, commit), commit)

    def _from_stream(self, origin: HubStreamOrigin) -> _Filled:
        servers, name = self.files / "servers", self.source.name
        servers.mkdir()
        mirrored = self._mirrored(origin)
        if mirrored is not None and (mirrored / origin.path).is_file():
            with (mirrored / origin.path).open("rb") as archive:
                sample_servers(archive, servers, origin, name, mirrored / origin.path)
            return self._verified("mirror", mirrored / origin.path)
        place = _origin(self.source)
        with hub.open_stream(origin.repository, self.source.revision, origin.path) as stream:
            sample_servers(stream, servers, origin, name, place)
        return self._verified("origin", place)

    def _mirrored(self, origin: HubOrigin | HubStreamOrigin) -> Path | None:
        if self.mirror is None:
            return None
        folder = self.mirror / hub.folder_name(origin.repository, self.source.revision)
        return folder if folder.is_dir() else None

    def _copy(self, origin: Path) -> None:
        if not origin.is_dir():
            remedy = f"Correct the path of {self.source.name!r} in the catalogue, or put the export there"
            raise InputError(origin, "there is no such folder, nor a zip or another file", remedy)
        for path in sorted(origin.rglob("*")):
            parts = path.relative_to(origin).parts
            if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
                _copy_file(path, self.files.joinpath(*parts))

    def _verified(self, fetched_from: FetchedFrom, place: Path | str, commit: str = "") -> _Filled:
        found = of_folder(self.files)
        expected, name = self.source.sha256, self.source.name
        if expected is not None and found != expected:
            problem = f"the files' sha256 is {found}, but the catalogue says {expected} for {name!r}"
            remedy = "Try again; if it stays so, the origin has changed: check it before correcting sha256 in the catalogue"
            raise InputError(place, problem, remedy)
        first = self.earlier.sha256 if self.earlier and isinstance(self.source.origin, HubOrigin) else found
        if expected is None and found != first:
            problem = f"changed checksum: the files' sha256 is {found}, but it was {first} when {name!r} was first fetched"
            remedy = f"Find out what has changed; to take the new files, delete {self.layout.raw(name)}"
            raise InputError(place, problem, remedy)
        return _Filled(fetched_from, place, found, commit)


def _copy_file(path: Path, copy: Path) -> None:
    """The content and its time of change, by which a parser may tell the newer of two exports of a channel."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copy)
    changed = path.stat().st_mtime_ns
    os.utime(copy, ns=(changed, changed))


def _survey(files: Path, source: Source, place: Path | str, size: int) -> Survey | None:
    """Parse and count before the files replace the last good ones.

    An own export always, since nobody has checked it; a pinned source unless that is long, as guessing its threads is.
    """
    long = size > SURVEYED_UP_TO or source.truth is Truth.GUESSED
    if long and not isinstance(source.origin, FolderOrigin):
        return None
    try:
        found = _count(files, source, place)
    except InputError as error:  # name what is known to the reader, not our temporary copy
        single = files / Path(place).name
        copied = single if single.is_file() else files
        raise InputError(error.place.replace(str(copied), str(place)), error.problem, error.remedy) from error
    logger.info("%s: %d conversations, %d messages", source.name, found.conversations, found.messages)
    return found


def _count(files: Path, source: Source, place: Path | str) -> Survey:
    conversations = messages = 0
    first: float | None = None
    last: float | None = None
    for conversation in parse(files, source):
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


def _origin(source: Source) -> str:
    match source.origin:
        case GithubOrigin(repository=repository):
            base = (os.environ.get(GITHUB_VARIABLE) or GITHUB).rstrip("/")
            if fault := fault_of(base):
                raise InputError(GITHUB_VARIABLE, fault, f"Give it the form of {GITHUB}, or unset it")
            return f"{base}/{repository}/tar.gz/{source.revision}"
        case HubOrigin(repository=repository) | HubStreamOrigin(repository=repository):
            return hub.address(repository, source.revision)
        case PackageOrigin(path=path) | FolderOrigin(path=path):
            return path
