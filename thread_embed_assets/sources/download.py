"""One file over HTTP: retried, resumed, and visible under its name only when it is whole."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_exponential
from tqdm import tqdm

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import readable_disk_errors

ATTEMPTS = 6
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
_LONGEST_PAUSE = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_LOG_EVERY = 10.0  # seconds
_RANGE_NOT_SATISFIABLE = 416
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

logger = logging.getLogger(__name__)


class _StalePartError(Exception):
    """What is on disk cannot be continued with what the server has."""


def download(url: str, target: Path) -> None:
    """Fetch ``url`` into ``target``, or do nothing where it exists.

    A transfer that was cut, now or in an earlier process, continues in ``<target>.part``; from a server that knows no ranges
    it starts again. Connection faults and the answers 408, 429 and 5xx are retried with growing pauses, others are not.

    Raises:
        InputError: the file cannot be had, or the disk is full; the part stays for the next try.
    """
    part = target.with_name(f"{target.name}.part")
    retrying = Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=_LONGEST_PAUSE),
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )
    with readable_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not append to one part
            if target.exists():
                return
            try:
                with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
                    retrying(_transfer, client, url, part)
            except httpx.HTTPStatusError as error:
                raise InputError(url, f"the server answered {error.response.status_code}", _remedy(error)) from error
            except (httpx.HTTPError, _StalePartError) as error:
                problem = f"the download failed after {ATTEMPTS} attempts ({type(error).__name__}: {error})"
                raise InputError(url, problem, "Check the network and run again: it continues where it stopped") from error
            part.replace(target)


def _remedy(error: httpx.HTTPStatusError) -> str:
    if _is_transient(error):
        return "The server is busy: run again later, it continues where it stopped"
    return "Check the repository and revision in the catalogue, or put the archive into the mirror (THREAD_EMBED_MIRROR)"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _RETRIED
    return isinstance(error, (httpx.TransportError, _StalePartError)) and not isinstance(error, httpx.UnsupportedProtocol)


def _transfer(client: httpx.Client, url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        wrong_range = resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if wrong_range or response.status_code == _RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            raise _StalePartError(f"the server cannot continue at byte {have}")
        response.raise_for_status()
        start = have if resumed else 0
        if have:
            logger.info("%s: %s", url, f"continuing at byte {have:,}" if resumed else "starting again: no ranges here")
        with part.open("ab" if resumed else "wb") as file:
            for block in _with_progress(response, url, start):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())


def _with_progress(response: httpx.Response, url: str, start: int) -> Iterator[bytes]:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    done, reported = start, time.monotonic()
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for block in response.iter_raw():
            yield block
            done += len(block)
            bar.update(len(block))
            if time.monotonic() - reported >= _LOG_EVERY:
                reported = time.monotonic()
                logger.info("%s: %s of %s bytes", url, f"{done:,}", f"{total:,}" if total else "unknown")
    logger.info("%s: downloaded, %s bytes", url, f"{done:,}")
