"""One root folder for machines that share no disk: ``THREAD_EMBED_REMOTE_ROOT``, any address that fsspec knows.

DuckDB and model libraries want local files, so each machine works below a root of its own. It brings what has changed at the
remote root before a step, and sends what has changed here before the step counts as done. What was in step last is kept in a
record of sizes, times and the remote's own versions (S3: the ETag), so that neither direction moves a file twice. Of a table
that two machines make at once the last one stays, as on a shared disk.

Stays here: caches, search indexes, the router's store, vector stores, Dagster's own folder, and trainings that are not done.
"""

from __future__ import annotations

import fcntl
import filecmp
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import readable_disk_errors, temporary_beside, write_text
from thread_embed_assets.storage.layout import Layout

REMOTE_VARIABLE = "THREAD_EMBED_REMOTE_ROOT"

Stamp = tuple[int, int, str]
"""Size and time of change in ns of the local file, and the remote file's version."""

_TOPS = ("data", "models")
_LOCAL = ("data/cache/", "data/dagster_home/", "data/private/embeddings/", "data/router/", "data/search/")
_PAID_FOR = "data/cache/language_models/"
_OPEN_DATABASE = re.compile(r"\.(duckdb\.wal|sqlite-(wal|shm|journal))$")
_STORES, _STORE_RESULT = "data/stores/", "roundtrip.json"
_CHECKPOINTS, _UNFINISHED = "models/checkpoints/", frozenset({"trainer", "data", "work"})
_LAST = "manifest.json"  # which makes a folder whole
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})  # a reader never sees half of what is put there
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "mtime", "created", "LastModified", "last_modified")


@dataclass(frozen=True)
class Moved:
    """What went from one side to the other."""

    files: int = 0
    removed: int = 0


@dataclass(frozen=True)
class RemoteRoot:
    """The remote root of a layout.

    Attributes:
        layout: where the files are here.
        url: where they are there.
        files: the fsspec file system.
        prefix: the root's path in it.
    """

    layout: Layout
    url: str
    files: Any
    prefix: str

    def bring(self, leave: Callable[[str], bool] = lambda name: False) -> Moved:
        """Make this machine's files those of the remote root, but for what was changed here and is yet to be sent.

        Args:
            leave: true for names, relative to the root, that are not needed now.

        Raises:
            InputError: a file that was never in step is on both sides, and is not the same.
        """
        with self._record() as record:
            there = {name: version for name, version in self._there().items() if not leave(name)}
            wanted = [name for name, version in there.items() if self._is_newer_there(name, version, record.get(name))]
            self._get(sorted(wanted, key=_last), there, record)
            gone = [name for name in record.keys() - there.keys() if not leave(name)]
            removed = [name for name in gone if self._here(name) == record[name][:2]]
            for name in gone:
                if name in removed:
                    self._path(name).unlink()
                del record[name]
        return Moved(len(wanted), len(removed))

    def send(self) -> Moved:
        """Make the remote root's files those that were changed here, and remove what was deleted here.

        Where the whole of ``data/pairs``, say, is gone, nothing is removed: the next :meth:`bring` restores it.
        """
        with self._record() as record:
            here = {name: stamp for name in self._names() if (stamp := self._here(name)) is not None}
            changed = sorted((name for name, stamp in here.items() if record.get(name, ())[:2] != stamp), key=_last)
            removed = [name for name in record if self._was_deleted(name)]
            self._put([name for name in changed if not _last(name)[0]])
            self._put([name for name in changed if _last(name)[0]])
            if removed:
                self.files.rm([self._key(name) for name in removed])
            versions = self._there() if changed else {}
            for name in changed:
                if name in versions:
                    record[name] = (*here[name], versions[name])
            for name in removed:
                del record[name]
        return Moved(len(changed), len(removed))

    def claim(self, path: Path) -> None:
        """Send a file, or take the one by its name that is there already: of several machines the first one's counts."""
        name = path.relative_to(self.layout.root).as_posix()
        with self._record() as record:
            if name in record:
                return
            self.files.makedirs(self.files._parent(self._key(name)), exist_ok=True)
            try:
                self.files.pipe_file(self._key(name), path.read_bytes(), mode="create")
            except FileExistsError:
                self._fetch([name])
            record[name] = (*self._stat(path), self._there()[name])

    def _is_newer_there(self, name: str, version: str, known: Stamp | None) -> bool:
        if known is None:
            return True
        here = self._here(name)
        if version == known[2]:
            return here is None and not self._was_deleted(name)
        return here in (None, known[:2])

    def _was_deleted(self, name: str) -> bool:
        """Whether a file that was in step is gone from a place that is still there."""
        return self._here(name) is None and self._path("/".join(name.split("/")[:2])).exists()

    def _get(self, names: list[str], versions: Mapping[str, str], record: dict[str, Stamp]) -> None:
        for batch in _batches(names):
            self._fetch(batch, [name for name in batch if name not in record])
            for name in batch:
                record[name] = (*self._stat(self._path(name)), versions[name])

    def _fetch(self, names: list[str], first_met: Iterable[str] = ()) -> None:
        """Download under temporary names, then rename; what was never in step must not differ from what is here."""
        with readable_disk_errors(self.layout.root):
            parts = {name: temporary_beside(self._path(name)) for name in names}
            try:
                self.files.get([self._key(name) for name in names], [str(part) for part in parts.values()])
                for name in first_met:
                    path = self._path(name)
                    if path.exists() and not filecmp.cmp(path, parts[name], shallow=False):
                        remedy = "Delete or move the one that is wrong, or begin with an empty THREAD_EMBED_ROOT"
                        raise InputError(
                            path, f"another file of this name is at {self.url}, and both were made apart", remedy
                        )
                for name, part in parts.items():
                    if name.startswith("data/private/"):
                        part.chmod(0o600)
                        part.parent.chmod(0o700)
                    part.replace(self._path(name))
            finally:
                for part in parts.values():
                    part.unlink(missing_ok=True)

    def _put(self, names: list[str]) -> None:
        whole = _protocol(self.url) in _WHOLE_PUTS
        for batch in _batches(names):
            keys = [self._key(name) for name in batch]
            parts = keys if whole else [_hidden(key) for key in keys]
            for folder in sorted({self.files._parent(key) for key in keys}) if not whole else ():
                self.files.makedirs(folder, exist_ok=True)
            self.files.put([str(self._path(name)) for name in batch], parts)
            for part, key in zip(parts, keys, strict=True):
                if part != key:
                    self.files.mv(part, key)

    def _there(self) -> dict[str, str]:
        """Name to version of what the remote root holds."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(self.prefix, detail=True)
        except FileNotFoundError:
            return {}
        names = {key: str(PurePosixPath(key).relative_to(self.prefix)) for key in found}
        return {name: _version(found[key]) for key, name in names.items() if travels(name)}

    def _names(self) -> Iterator[str]:
        for top in _TOPS:
            for folder, _, files in os.walk(self.layout.root / top):
                for file in files:
                    name = (Path(folder) / file).relative_to(self.layout.root).as_posix()
                    if travels(name):
                        yield name

    def _here(self, name: str) -> tuple[int, int] | None:
        try:
            return self._stat(self._path(name))
        except FileNotFoundError:
            return None

    def _stat(self, path: Path) -> tuple[int, int]:
        found = path.stat()
        return found.st_size, found.st_mtime_ns

    def _path(self, name: str) -> Path:
        return self.layout.root / name

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}"

    @contextmanager
    def _record(self) -> Iterator[dict[str, Stamp]]:
        """What was in step last, to be changed; one process of this machine at a time."""
        path = self.layout.data / "cache" / "remote_root.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            record = {n: (int(s), int(t), str(v)) for n, (s, t, v) in kept.get("files", {}).items()}
            if kept.get("url") != self.url:
                record = {}
            try:
                yield record
            finally:
                write_text(path, json.dumps({"url": self.url, "files": record}))


def remote_root(layout: Layout) -> RemoteRoot | None:
    """The remote root that ``THREAD_EMBED_REMOTE_ROOT`` names; None without one.

    Raises:
        InputError: the address holds what logs would show, or is of a kind that no installed package knows.
    """
    url = os.environ.get(REMOTE_VARIABLE, "").rstrip("/")
    if not url:
        return None
    if any(mark in url for mark in "@?#") or "://" not in url:
        problem = "it is no URL, or holds a user name, a password or a query, which logs would show"
        raise InputError(REMOTE_VARIABLE, problem, "Give it the form s3://bucket/prefix; keys have variables of their own")
    import fsspec

    try:
        files, prefix = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        remedy = 's3:// needs the extra: pip install -c constraints.txt "thread-embed-assets[cluster]"'
        raise InputError(REMOTE_VARIABLE, f"{url} cannot be opened ({error})", remedy) from error
    return RemoteRoot(layout, url, files, prefix.rstrip("/"))


def travels(name: str) -> bool:
    """Whether a file, named relative to the root, is of use to other machines."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or parts[0] not in _TOPS:
        return False
    if name.startswith(_LOCAL) and not name.startswith(_PAID_FOR):
        return False
    if any(part.startswith(".") for part in parts) or _OPEN_DATABASE.search(name):
        return False
    if name.startswith(_STORES):
        return parts[-1] == _STORE_RESULT
    if name.startswith(_CHECKPOINTS):
        return not _UNFINISHED & set(parts[4:]) and not parts[-1].startswith("job-")
    return True


def _last(name: str) -> tuple[bool, str]:
    """Sorts what makes a folder whole behind the rest of it."""
    return PurePosixPath(name).name == _LAST, name


def _batches(names: list[str], size: int = 256) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _hidden(key: str) -> str:
    folder, _, name = key.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}.part"


def _version(info: Mapping[str, Any]) -> str:
    """What tells one content of a remote file from the next."""
    told = next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")
    return f"{info['size']} {told}"


def _protocol(url: str) -> str:
    return url.partition("://")[0]
