"""One file over HTTP: retried, resumed, and visible under its name only when it is whole."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from tqdm import tqdm

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.storage.atomic import readable_disk_errors

ATTEMPTS = 6
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
_LONGEST_PAUSE = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_LOG_EVERY = 10.0  # seconds
_BLOCK = 2**20
_RANGE_NOT_SATISFIABLE = 416
RETRIED = frozenset({408, 429, 500, 502, 503, 504})

logger = logging.getLogger(__name__)


class _StalePartError(Exception):
    """What is on disk cannot be continued with what the server has."""


Explain = Callable[[int], tuple[str, str]]
"""Problem and remedy for a status with which a server refuses."""


def download(url: str, target: Path, *, headers: Mapping[str, str] | None = None, explain: Explain | None = None) -> None:
    """Fetch ``url`` into ``target``, or do nothing where it exists.

    A transfer that was cut, now or in an earlier process, continues in ``<target>.part``; from a server that knows no ranges
    it starts again. Connection faults and the answers 408, 429 and 5xx are retried with growing pauses, others are not.

    Args:
        headers: sent to the server of ``url``; an ``Authorization`` not to another one that it redirects to.
        explain: what to say when the server refuses; by default how to check a repository.

    Raises:
        InputError: the file cannot be had, or the disk is full; the part stays for the next try. A TransientError after
            faults that pass with time.
    """
    part = target.with_name(f"{target.name}.part")
    with readable_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not append to one part
            if target.exists():
                return
            with _readable_faults(url, explain or _explain, "it continues where it stopped"), _client(headers) as client:
                retrying()(_transfer, client, url, part)
            part.replace(target)


class ResumingReader:
    """The bytes of ``url`` from first to last, for a reader that cannot go back; a cut connection is continued.

    Each pause starts anew once bytes have come. Closing it stops the transfer.

    Raises:
        InputError: the server refuses, or (TransientError) has failed several times on end.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, explain: Explain | None = None) -> None:
        self.done = 0
        self._url = url
        self._explain = explain or _explain
        self._client = _client(headers)
        self._connection = ExitStack()
        self._blocks: Iterator[bytes] | None = None
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        if not self._rest:
            with _readable_faults(self._url, self._explain, "this time it starts anew"):
                self._rest = retrying()(self._next_block)
            self.done += len(self._rest)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def close(self) -> None:
        self._connection.close()
        self._client.close()

    def _next_block(self) -> bytes:
        try:
            if self._blocks is None:
                self._blocks = self._connect()
            return next(self._blocks, b"")
        except (httpx.HTTPError, _StalePartError):
            self._blocks = None
            self._connection.close()
            raise

    def _connect(self) -> Iterator[bytes]:
        response = self._connection.enter_context(self._client.stream("GET", self._url, headers=_from_byte(self.done)))
        response.raise_for_status()
        continued = response.status_code == httpx.codes.PARTIAL_CONTENT
        if continued and not _starts_at(response, self.done):
            raise _StalePartError(f"the server answered byte {self.done} with another one")
        if self.done:
            logger.info("%s: continuing at byte %s", self._url, f"{self.done:,}")
        blocks = response.iter_raw(_BLOCK)
        return blocks if continued else _skip(blocks, self.done)


def _skip(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        if count < len(block):
            yield block[count:]
        count = max(0, count - len(block))


def retrying() -> Retrying:
    """Retries connection faults and the answers 408, 429 and 5xx, with growing pauses."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_PAUSE, max=_LONGEST_PAUSE),
        before_sleep=_tell,
        reraise=True,
    )


def _tell(state: RetryCallState) -> None:
    """Why it waits, without the error's own words: they may hold a signed address, or what the server repeats of a token."""
    error = state.outcome.exception() if state.outcome else None
    status = getattr(getattr(error, "response", None), "status_code", None)
    pause = state.next_action.sleep if state.next_action else 0.0
    said = f"status {status}" if status else str(error) if isinstance(error, _StalePartError) else type(error).__name__
    logger.warning("trying again in %g seconds, after %s", pause, said)


def is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in RETRIED
    return isinstance(error, (httpx.TransportError, _StalePartError)) and not isinstance(error, httpx.UnsupportedProtocol)


def refused(place: str, status: int, explain: Explain) -> InputError:
    """The error to raise when all attempts met this status; a TransientError where it passes with time."""
    if status not in RETRIED:
        return InputError(place, *explain(status))
    remedy = "The server is busy: run again later, it continues where it stopped"
    return TransientError(place, f"the server answered {status}", remedy)


def _explain(status: int) -> tuple[str, str]:
    remedy = "Check the repository and revision in the catalogue, or put the archive into the mirror (THREAD_EMBED_MIRROR)"
    return f"the server answered {status}", remedy


@contextmanager
def _readable_faults(url: str, explain: Explain, next_time: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        # Without the cause, which names the address that was redirected to, with the signature that opens it.
        raise refused(url, status, explain) from None
    except (httpx.HTTPError, _StalePartError) as error:
        problem = f"the download failed after {ATTEMPTS} attempts ({type(error).__name__}: {error})"
        kind = TransientError if is_transient(error) else InputError
        raise kind(url, problem, f"Check the network and run again: {next_time}") from error


def _client(headers: Mapping[str, str] | None) -> httpx.Client:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each address that it asks, signed ones, too
    return httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers={**(headers or {}), "Accept-Encoding": "identity"})


def _starts_at(response: httpx.Response, byte: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {byte}-")


def _from_byte(start: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-"} if start else {}


def _transfer(client: httpx.Client, url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    with client.stream("GET", url, headers=_from_byte(have)) as response:
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        wrong_range = resumed and not _starts_at(response, have)
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
