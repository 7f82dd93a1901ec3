"""Telling somebody that a run has failed: to a Slack incoming webhook, by mail, or both, as the environment says.

What is told may be read by many: words of errors that are not ours may quote chat, so they stay in the run's log, and
values of the environment that look like keys are blotted out of what is told.
"""

from __future__ import annotations

import logging
import os
import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets.sources.download import RETRIED

WEBHOOK_VARIABLE = "THREAD_EMBED_SLACK_WEBHOOK"
SMTP_VARIABLE = "THREAD_EMBED_SMTP_URL"
FROM_VARIABLE = "THREAD_EMBED_SMTP_FROM"
TO_VARIABLE = "THREAD_EMBED_SMTP_TO"
USER_VARIABLE = "THREAD_EMBED_SMTP_USER"
PASSWORD_VARIABLE = "THREAD_EMBED_SMTP_PASSWORD"  # noqa: S105  a name
UI_VARIABLE = "THREAD_EMBED_UI_URL"

ATTEMPTS = 3
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt. All attempts fit into a sensor's minute
_TIMEOUT = 10.0
_MOST_CHARACTERS = 600
_PORTS = {"smtp": 25, "smtps": 465}
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|WEBHOOK|POSTGRES_URL", re.IGNORECASE)
_SHORTEST_SECRET = 6  # a value such as "true" is none


@dataclass(frozen=True)
class FailedRun:
    """What is told of a run that failed.

    Attributes:
        partition: empty where the run has none.
        steps: that failed, at times none: a run can fail before its first step.
        problem: in words of our own, such as an InputError's, which name the remedy as well.
        remedy: where ``problem`` names none.
    """

    job: str
    run_id: str
    problem: str
    remedy: str = ""
    partition: str = ""
    steps: tuple[str, ...] = ()


Send = Callable[[FailedRun], None]


def senders() -> dict[str, Send]:
    """By name, the ways to tell that the environment sets up.

    Raises:
        InputError: a setting is wrong or missing; the message does not repeat it.
    """
    found: dict[str, Send] = {}
    if webhook := os.environ.get(WEBHOOK_VARIABLE, "").strip():
        parts = urlsplit(webhook)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(WEBHOOK_VARIABLE, "it is no http(s) URL", "Set it to the URL that Slack gives for the webhook")
        found["slack"] = lambda failed: _post(webhook, text_of(failed))
    if os.environ.get(SMTP_VARIABLE, "").strip():
        mail = _Mail.from_environment()
        found["mail"] = mail.send
    return found


def text_of(failed: FailedRun) -> str:
    """Plain text of some lines, without secrets."""
    of = f"{failed.job}, {failed.partition}" if failed.partition else failed.job
    steps = f"{'step' if len(failed.steps) == 1 else 'steps'} {', '.join(failed.steps)}: " if failed.steps else ""
    ui = os.environ.get(UI_VARIABLE, "").strip().rstrip("/")
    lines = [
        f"ThreadEmbed: a run of {of} failed",
        _short(f"{steps}{failed.problem}"),
        failed.remedy,
        f"{ui}/runs/{failed.run_id}" if ui else f"run {failed.run_id}",
    ]
    return without_secrets("\n".join(line for line in lines if line))


def without_secrets(text: str) -> str:
    """The text without values of the environment's variables that are named like a key."""
    values = (value for name, value in os.environ.items() if _SECRET_NAME.search(name))
    for value in sorted((v for v in values if len(v) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=FIRST_PAUSE, jitter=FIRST_PAUSE),
        reraise=True,
    )


def _post(webhook: str, text: str) -> None:
    """Raises a TransientError if Slack cannot be reached, an InputError if it refuses; neither shows the URL, a secret."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each address that it asks
    for mark, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # what Slack takes for its own marks
        text = text.replace(mark, written)

    def post() -> None:
        try:
            status = httpx.post(webhook, json={"text": text}, timeout=_TIMEOUT).status_code
        except httpx.HTTPError as error:
            remedy = "Check the network from here to the webhook's server"
            raise TransientError(
                WEBHOOK_VARIABLE, f"the webhook cannot be reached ({type(error).__name__})", remedy
            ) from None
        if status != httpx.codes.OK:
            kind = TransientError if status in RETRIED else InputError
            raise kind(WEBHOOK_VARIABLE, f"the webhook answered {status}", "Look in Slack whether the webhook still exists")

    _retrying()(post)


@dataclass(frozen=True)
class _Mail:
    """A mail server and who writes to whom; user and password have variables of their own, since URLs are logged."""

    scheme: str
    host: str
    port: int
    sender: str
    to: tuple[str, ...]

    @classmethod
    def from_environment(cls) -> _Mail:
        remedy = "Give it the form of smtp://host:587 (STARTTLS where the server offers it) or smtps://host:465"
        try:
            parts = urlsplit(os.environ[SMTP_VARIABLE].strip())
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            raise InputError(SMTP_VARIABLE, "it is no URL", remedy) from None
        if "@" in parts.netloc or parts.query:
            problem = "it holds a user name, a password or a query"
            raise InputError(SMTP_VARIABLE, problem, f"Use {USER_VARIABLE} and {PASSWORD_VARIABLE}")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InputError(SMTP_VARIABLE, "it is no smtp:// or smtps:// URL", remedy)
        addresses = {name: os.environ.get(name, "").strip() for name in (FROM_VARIABLE, TO_VARIABLE)}
        for name, value in addresses.items():
            if not value:
                raise InputError(name, f"it is not set, but {SMTP_VARIABLE} is", "Set it to a mail address")
        to = tuple(address.strip() for address in addresses[TO_VARIABLE].split(","))
        return cls(parts.scheme, parts.hostname, port, addresses[FROM_VARIABLE], to)

    def send(self, failed: FailedRun) -> None:
        """Raises a TransientError if the server cannot be reached or asks to wait, an InputError if it refuses."""
        text = text_of(failed)
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = text.splitlines()[0], self.sender, ", ".join(self.to)
        message.set_content(text)
        _retrying()(self._deliver, message)

    def _deliver(self, message: EmailMessage) -> None:
        remedy = f"Check {SMTP_VARIABLE}, {USER_VARIABLE} and {PASSWORD_VARIABLE}"
        try:
            with self._connected() as server:
                user = os.environ.get(USER_VARIABLE, "")
                if user:
                    if not isinstance(server.sock, ssl.SSLSocket):
                        raise InputError(SMTP_VARIABLE, "the server offers no TLS, so no password is sent to it", remedy)
                    server.login(user, os.environ.get(PASSWORD_VARIABLE, ""))
                server.send_message(message)
        # What a server says may repeat what it was told, so only its code is.
        except smtplib.SMTPResponseException as error:
            kind = TransientError if 400 <= error.smtp_code < 500 else InputError
            raise kind(SMTP_VARIABLE, f"the mail server answered {error.smtp_code}", remedy) from None
        except ssl.SSLError as error:
            raise InputError(SMTP_VARIABLE, f"no safe connection to the mail server ({error.reason})", remedy) from None
        except (smtplib.SMTPException, OSError) as error:
            kind = InputError if isinstance(error, smtplib.SMTPRecipientsRefused) else TransientError
            raise kind(SMTP_VARIABLE, f"the mail was not sent ({type(error).__name__})", remedy) from None

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.scheme == "smtps":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=_TIMEOUT, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT)
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=context)
        return server
