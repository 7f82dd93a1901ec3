"""Data sets of the Hugging Face hub: what a revision holds, its files, and one file as a stream.

``HF_ENDPOINT`` and ``HF_TOKEN`` are read at each call. The hub's own client tells what a revision holds; the bytes come
through ``download``, so that what is cut, busy or refused is handled in one way everywhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoSibling
from tenacity import retry_any, retry_if_exception

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.sources.archives import matches, safe_parts
from thread_embed_assets.sources.download import ATTEMPTS, RETRIED, Explain, ResumingReader, download, refused, retrying
from thread_embed_assets.storage.addresses import fault_of
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.fingerprint import of_file

ENDPOINT_VARIABLE = "HF_ENDPOINT"
ENDPOINT = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_NAMED = 5
_BLOCK = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubFile:
    """A file of a revision. Of a large one the hub tells the sha256, of a small one git's own id of the content."""

    path: str
    size: int
    sha256: str | None
    git_id: str | None


@dataclass(frozen=True)
class Revision:
    """What a data set holds at a commit."""

    commit: str
    files: tuple[HubFile, ...]


def folder_name(repository: str, revision: str) -> Path:
    """Where a data set's files lie below the mirror and below the download cache."""
    return Path("hub", "datasets", repository, revision)


def address(repository: str, revision: str) -> str:
    return f"{_endpoint()}/datasets/{repository}/tree/{revision}"


def fetch_files(repository: str, revision: str, include: Sequence[str], files: Path, cache: Path) -> tuple[str, bool]:
    """Put the files that match ``include`` into the folder ``files``, through the download cache.

    Each is checked against the hub's size and checksum. A name such as ``main`` is resolved to the commit it stands for now;
    at a commit, what the cache holds is taken without asking the hub.

    Returns:
        The commit, and whether anything was downloaded.

    Raises:
        InputError: the hub refuses, cannot be reached or has no such data set, revision or file; or a file is damaged.
    """
    held = _revision(repository, revision, cache)
    by_path = {file.path: file for file in held.files}
    place = address(repository, held.commit)
    wanted = select(by_path, include, place)
    downloaded = False
    for number, path in enumerate(wanted, 1):
        file = by_path[path]
        parts = safe_parts(place, path)
        copy = (cache / folder_name(repository, held.commit)).joinpath(*parts)
        if copy.exists() and _fault(copy, file):
            logger.warning("%s: the cached file is damaged, fetching it again", copy)
            copy.unlink()
        if not copy.exists():
            logger.info("%s: file %d of %d, %s, %s bytes", repository, number, len(wanted), path, f"{file.size:,}")
            _download(repository, held.commit, file, copy)
            downloaded = True
        _link(copy, files.joinpath(*parts))
    return held.commit, downloaded


def select(paths: Iterable[str], include: Sequence[str], place: Path | str) -> list[str]:
    """The paths that match one of the glob patterns, sorted.

    Raises:
        InputError: a pattern matches nothing.
    """
    known = sorted(paths)
    for pattern in include:
        if not any(matches(PurePosixPath(path), pattern) for path in known):
            there = ", ".join(known[:_MOST_NAMED]) + (", ..." if len(known) > _MOST_NAMED else "")
            remedy = f"Correct `include` or `revision` of this source in the catalogue. There are: {there or 'no files'}"
            raise InputError(place, f"no file matches {pattern!r}", remedy)
    return [path for path in known if any(matches(PurePosixPath(path), pattern) for pattern in include)]


@contextmanager
def open_stream(repository: str, revision: str, path: str) -> Iterator[ResumingReader]:
    """One file's bytes, never stored; the transfer stops where the block ends."""
    url = _url(repository, revision, path)
    with closing(ResumingReader(url, headers=_headers(), explain=_explain(repository, revision, path))) as reader:
        yield reader


def _revision(repository: str, revision: str, cache: Path) -> Revision:
    if _COMMIT.fullmatch(revision):
        listing = _listing(repository, revision, cache)
        try:
            content: dict[str, Any] = json.loads(listing.read_text(encoding="utf-8"))
            return Revision(content["commit"], tuple(HubFile(**file) for file in content["files"]))
        except (OSError, ValueError, TypeError, KeyError):  # asking again mends it
            logger.info("%s: asking the hub what revision %s holds", repository, revision)
    found = _ask(repository, revision)
    write_text(_listing(repository, found.commit, cache), json.dumps(asdict(found)))
    return found


def _listing(repository: str, commit: str, cache: Path) -> Path:
    folder = cache / folder_name(repository, commit)
    return folder.with_name(f"{commit}.json")


def _ask(repository: str, revision: str) -> Revision:
    api, place = HfApi(endpoint=_endpoint()), address(repository, revision)
    attempts = retrying()
    attempts.retry = retry_any(attempts.retry, retry_if_exception(_is_transient))
    try:
        info = attempts(api.dataset_info, repository, revision=revision, files_metadata=True, timeout=60.0)
    except OfflineModeIsEnabled as error:
        remedy = "Unset HF_HUB_OFFLINE, or put the files into the mirror (THREAD_EMBED_MIRROR)"
        raise InputError(
            address(repository, revision), "the hub is not asked, since HF_HUB_OFFLINE is set", remedy
        ) from error
    except HfHubHTTPError as error:
        raise refused(place, error.response.status_code, _explain(repository, revision)) from None  # it quotes the server
    except httpx2.HTTPError as error:
        problem = f"the hub could not be reached in {ATTEMPTS} attempts ({type(error).__name__}: {error})"
        remedy = "Check the network, or HF_ENDPOINT, or put the files into the mirror (THREAD_EMBED_MIRROR)"
        raise (TransientError if _is_transient(error) else InputError)(place, problem, remedy) from error
    return Revision(info.sha or revision, tuple(map(_file, info.siblings or ())))


def _file(told: RepoSibling) -> HubFile:
    sha256 = told.lfs.sha256 if told.lfs else None
    return HubFile(told.rfilename, told.size or 0, sha256, told.blob_id if sha256 is None else None)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in RETRIED
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)


def _download(repository: str, commit: str, file: HubFile, copy: Path) -> None:
    url = _url(repository, commit, file.path)
    download(url, copy, headers=_headers(), explain=_explain(repository, commit, file.path))
    fault = _fault(copy, file)
    if fault:
        copy.unlink()
        raise InputError(url, fault, "Nothing was kept; run again")


def _fault(copy: Path, file: HubFile) -> str:
    size = copy.stat().st_size
    if size != file.size:
        return f"the file has {size:,} bytes, but the hub says {file.size:,}"
    kind, told = ("sha256", file.sha256) if file.sha256 else ("git id", file.git_id)
    found = of_file(copy) if file.sha256 else _git_id(copy)
    return f"the file's {kind} is {found}, but the hub says {told}" if found != told else ""


def _git_id(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _link(copy: Path, target: Path) -> None:
    """A second name where the file system has such, so that gigabytes are not there twice."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(copy)
    except OSError:
        shutil.copyfile(copy, target)


def _endpoint() -> str:
    url = (os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
    if fault := fault_of(url):
        raise InputError(ENDPOINT_VARIABLE, fault, f"Give it the form of {ENDPOINT}; a token stands in HF_TOKEN")
    return url


def _url(repository: str, revision: str, path: str) -> str:
    return hf_hub_url(repository, path, repo_type="dataset", revision=revision, endpoint=_endpoint())


def _headers() -> dict[str, str]:
    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _explain(repository: str, revision: str, path: str = "") -> Explain:
    """Problem and remedy by status; the hub answers 401 both for what is gated and for what is not there."""
    wanted = f"{path} at revision {revision}" if path else f"revision {revision}"
    page = f"{_endpoint()}/datasets/{repository}"

    def explain(status: int) -> tuple[str, str]:
        if status in (401, 403):
            problem = f"the hub answered {status}: the data set {repository} is gated or private, or there is none"
            account = "the account of your HF_TOKEN" if _headers() else "your account"
            then = "" if _headers() else f", make a token at {_endpoint()}/settings/tokens and set HF_TOKEN to it"
            return problem, f"Accept its terms at {page} with {account}{then}; then run again"
        if status == 404:
            return f"the hub answered 404: {repository} has no {wanted}", f"Look at {page} and correct the catalogue's entry"
        return f"the hub answered {status} for {wanted} of {repository}", f"Look at {page}"

    return explain
