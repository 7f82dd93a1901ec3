"""What is told of a failed run, to real servers on this machine."""

from __future__ import annotations

import datetime
import json
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from thread_embed_assets import alerts
from thread_embed_assets.alerts import (
    ATTEMPTS,
    FROM_VARIABLE,
    PASSWORD_VARIABLE,
    SMTP_VARIABLE,
    TO_VARIABLE,
    UI_VARIABLE,
    USER_VARIABLE,
    WEBHOOK_VARIABLE,
    FailedRun,
    senders,
    text_of,
)
from thread_embed_assets.errors import InputError, TransientError

MARK = "marker-7731"
FAILED = FailedRun(
    "pair", "1234-run", "users.json:1:2: not valid JSON. Export it again", partition="desk", steps=("conversations",)
)
VARIABLES = (WEBHOOK_VARIABLE, SMTP_VARIABLE, FROM_VARIABLE, TO_VARIABLE, USER_VARIABLE, PASSWORD_VARIABLE, UI_VARIABLE)


@pytest.fixture(autouse=True)
def nothing_set_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(alerts, "FIRST_PAUSE", 0.0)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Hook:
    """A webhook that answers with these statuses, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    served = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(served.statuses.pop(0) if served.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}/services/{MARK}"
        monkeypatch.setenv(WEBHOOK_VARIABLE, served.url)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def test_slack_is_told_job_partition_step_error_remedy_and_link(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UI_VARIABLE, "https://dagster.example/")
    senders()["slack"](FAILED)
    assert hook.heard == [
        {
            "text": "ThreadEmbed: a run of pair, desk failed\n"
            "step conversations: users.json:1:2: not valid JSON. Export it again\n"
            "https://dagster.example/runs/1234-run"
        }
    ]


def test_what_slack_takes_for_marks_is_escaped(hook: Hook) -> None:
    senders()["slack"](FailedRun("pair", "r", "a <!channel> & b"))
    assert "a &lt;!channel&gt; &amp; b" in hook.heard[0]["text"]


def test_a_busy_webhook_is_tried_again(hook: Hook) -> None:
    hook.statuses = [503, 429]
    senders()["slack"](FAILED)
    assert len(hook.heard) == 3


@pytest.mark.parametrize(("status", "kind", "attempts"), [(503, TransientError, ATTEMPTS), (404, InputError, 1)])
def test_a_webhook_that_refuses_is_an_error_without_its_address(
    status: int, kind: type[InputError], attempts: int, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [status] * ATTEMPTS
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(InputError, match=f"{WEBHOOK_VARIABLE}: the webhook answered {status}") as c,
    ):
        senders()["slack"](FAILED)
    assert type(c.value) is kind and len(hook.heard) == attempts
    assert MARK not in str(c.value) + caplog.text and c.value.__cause__ is None


def test_a_webhook_that_is_down_is_an_error_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, f"http://127.0.0.1:{_free_port()}/{MARK}")
    with pytest.raises(TransientError, match="the webhook cannot be reached") as caught:
        senders()["slack"](FAILED)
    assert MARK not in str(caught.value) and caught.value.__suppress_context__


def test_a_value_named_like_a_key_is_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", MARK)
    monkeypatch.setenv("SOME_TOKEN", "on")
    assert text_of(FailedRun("pair", "r", f"it said {MARK} and went on")).splitlines()[1] == "it said *** and went on"


def test_a_long_error_is_cut_and_written_on_one_line() -> None:
    told = text_of(FailedRun("pair", "r", "no\nend " * 500)).splitlines()
    assert len(told) == 3 and len(told[1]) == 600 and told[1].endswith("…")


def test_nothing_set_tells_nobody() -> None:
    assert senders() == {}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({WEBHOOK_VARIABLE: f"hooks.slack.com/{MARK}"}, f"{WEBHOOK_VARIABLE}: it is no http"),
        ({SMTP_VARIABLE: f"smtp://ada:{MARK}@host"}, f"{SMTP_VARIABLE}: it holds a user name"),
        ({SMTP_VARIABLE: "mail.example"}, f"{SMTP_VARIABLE}: it is no smtp"),
        ({SMTP_VARIABLE: f"smtp://host:{MARK}"}, f"{SMTP_VARIABLE}: it is no URL"),
        ({SMTP_VARIABLE: "smtp://host"}, f"{FROM_VARIABLE}: it is not set"),
        ({SMTP_VARIABLE: "smtp://host", FROM_VARIABLE: "a@b.example"}, f"{TO_VARIABLE}: it is not set"),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(
    settings: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        senders()
    assert str(caught.value).startswith(fault) and MARK not in str(caught.value)


class Inbox(MessageHandler):
    """Keeps what it is sent, and whether it came over TLS; answers RCPT with ``refusal`` where one is set."""

    def __init__(self) -> None:
        super().__init__(EmailMessage)
        self.messages: list[Message] = []
        self.over_tls: list[bool] = []
        self.users: list[bytes] = []
        self.refusal = ""

    def handle_message(self, message: Message) -> None:
        self.messages.append(message)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if self.refusal:
            return self.refusal
        self.over_tls.append(session.ssl is not None)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.users.append(data.login)
        return AuthResult(success=data.password == MARK.encode(), handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, its own issuer, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def plain_server(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with _serving(inbox, monkeypatch):
        yield


@pytest.fixture
def tls_server(inbox: Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with _serving(inbox, monkeypatch, tls_context=context, authenticator=inbox.authenticate):
        yield


@contextmanager
def _serving(inbox: Inbox, patch: pytest.MonkeyPatch, **options: Any) -> Iterator[None]:
    port = _free_port()  # aiosmtpd cannot take any
    controller = Controller(inbox, hostname="localhost", port=port, **options)
    patch.setenv(SMTP_VARIABLE, f"smtp://localhost:{port}")
    patch.setenv(FROM_VARIABLE, "threadembed@desk.example")
    patch.setenv(TO_VARIABLE, "ada@desk.example, bea@desk.example")
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@pytest.mark.usefixtures("plain_server")
def test_a_mail_server_without_tls_gets_the_mail(inbox: Inbox) -> None:
    senders()["mail"](FAILED)
    [mail] = inbox.messages
    assert mail["Subject"] == "ThreadEmbed: a run of pair, desk failed"
    assert mail["X-RcptTo"] == "ada@desk.example, bea@desk.example" and inbox.over_tls == [False, False]
    assert "step conversations: users.json:1:2: not valid JSON. Export it again" in str(mail.get_payload())


@pytest.mark.usefixtures("plain_server")
def test_no_password_goes_out_without_tls(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USER_VARIABLE, "ada")
    monkeypatch.setenv(PASSWORD_VARIABLE, MARK)
    with pytest.raises(InputError, match="the server offers no TLS") as caught:
        senders()["mail"](FAILED)
    assert MARK not in str(caught.value) and inbox.messages == []


@pytest.mark.usefixtures("tls_server")
def test_tls_is_used_where_it_is_offered_and_the_user_logs_in(
    inbox: Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv(USER_VARIABLE, "ada")
    monkeypatch.setenv(PASSWORD_VARIABLE, MARK)
    senders()["mail"](FAILED)
    assert inbox.over_tls == [True, True] and inbox.users == [b"ada"] and len(inbox.messages) == 1


@pytest.mark.usefixtures("tls_server")
def test_a_wrong_password_is_not_tried_again_and_not_told(
    inbox: Inbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv(USER_VARIABLE, "ada")
    monkeypatch.setenv(PASSWORD_VARIABLE, f"{MARK}x")
    with pytest.raises(InputError, match="the mail server answered 535") as caught:
        senders()["mail"](FAILED)
    assert type(caught.value) is InputError and MARK not in str(caught.value)
    assert inbox.messages == []


@pytest.mark.usefixtures("tls_server")
def test_a_server_whose_certificate_nobody_knows_gets_nothing(inbox: Inbox) -> None:
    with pytest.raises(InputError, match="no safe connection"):
        senders()["mail"](FAILED)
    assert inbox.messages == []


@pytest.mark.usefixtures("plain_server")
def test_a_mail_that_all_are_refused_is_an_error(inbox: Inbox) -> None:
    inbox.refusal = "550 no such user"
    with pytest.raises(InputError, match=r"the mail was not sent \(SMTPRecipientsRefused\)"):
        senders()["mail"](FAILED)


def test_a_mail_server_that_is_down_is_an_error_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SMTP_VARIABLE, f"smtp://127.0.0.1:{_free_port()}")
    monkeypatch.setenv(FROM_VARIABLE, "a@desk.example")
    monkeypatch.setenv(TO_VARIABLE, "b@desk.example")
    with pytest.raises(TransientError, match=r"the mail was not sent \(ConnectionRefusedError\)"):
        senders()["mail"](FAILED)
