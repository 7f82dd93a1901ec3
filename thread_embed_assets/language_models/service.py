"""What all services behind HTTP have in common: they are busy at times, say why they refuse, and ask for a pause."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from tenacity import RetryCallState, Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_exponential

ATTEMPTS = 7
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
RETRIED = frozenset({408, 409, 429})
_LONGEST_PAUSE = 60.0
_LONGEST_WAIT_ASKED_FOR = 600.0
_OUT_OF_MONEY = "insufficient_quota"  # OpenAI's 429 that no waiting mends


class BusyError(Exception):
    """The service asks to try again.

    Attributes:
        pause: seconds it asks to wait, if it says so.
    """

    def __init__(self, status: int, pause: float | None) -> None:
        self.status = status
        self.pause = pause
        super().__init__(f"the server answered {status}")


def out_of_money(answer: httpx.Response) -> bool:
    """Whether the account has no credit left, which no waiting mends."""
    return answer.status_code == httpx.codes.TOO_MANY_REQUESTS and _OUT_OF_MONEY in answer.text


def busy(answer: httpx.Response) -> BusyError | None:
    """The error to raise where another attempt may do better."""
    status = answer.status_code
    if status in RETRIED or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return BusyError(status, pause_asked_for(answer))
    return None


def said(answer: httpx.Response) -> str:
    """What a refusal says: OpenAI's ``error.message``, Voyage's ``detail``, else the start of its text."""
    try:
        content = answer.json()
        error = content.get("error")
        message = error.get("message") if isinstance(error, dict) else error or content.get("detail")
    except (ValueError, AttributeError):
        message = None
    return str(message or answer.text)[:300].strip() or "no reason given"


def pause_asked_for(answer: httpx.Response) -> float | None:
    """Seconds of the ``Retry-After`` header, which gives them or a date."""
    asked = answer.headers.get("Retry-After", "").strip()
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT_ASKED_FOR)


def retrying(logger: logging.Logger) -> Retrying:
    """Attempts with growing pauses, or after the pause that is asked for; the last error is raised as it is."""
    growing = wait_exponential(multiplier=FIRST_PAUSE, max=_LONGEST_PAUSE)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.pause if isinstance(error, BusyError) else None
        return growing(state) if asked is None else asked

    return Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait,
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )


def _passes(error: BaseException) -> bool:
    """Whether another attempt may do better."""
    return isinstance(error, (BusyError, httpx.TransportError))
