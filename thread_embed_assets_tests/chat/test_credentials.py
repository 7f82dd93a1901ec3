from __future__ import annotations

import re

import pytest

from thread_embed_assets.chat.secrets import mask_secrets

RUN = "q7Wd0ZrT4xKp9LmA2bVc"  # twenty characters as keys have them
KEY_LINES = [f"{RUN}{RUN[::-1]}{n}{RUN}yz" for n in range(3)]
BEGIN, END = "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "[SECRET]"),
        ("aws key 'da39a3ee5e6b4b0d3255bfef95601890afd80709'", "aws key '[SECRET]'"),
        (f"`sk_live_{RUN}{RUN}{RUN}`", "`[SECRET]`"),
        (f"sk-proj-{RUN}", "[SECRET]"),
        (f"hooks.slack.com/services/T00000000/B00000000/{RUN}", "[SECRET]"),
        (f"110201543:AAHdq-{RUN}{RUN}", "[SECRET]"),
        ("postgres://zorkle:x1@db.example.org:5432/s", "postgres://[SECRET]:5432/s"),
        ("redis://:hunter2@localhost", "redis://[SECRET]@localhost"),
        ("password=hunter2", "password=[SECRET]"),
        ("Password: T3A7-F8U9 ok", "Password: [SECRET] ok"),
        ("my password is hunter2, ok", "my password is [SECRET], ok"),
        ("the password is: hunter2", "the password is: [SECRET]"),
        ("pass: swordfish", "pass: [SECRET]"),
        ("dbPass=swordfish apikey=abc123def456", "dbPass=[SECRET] apikey=[SECRET]"),
        ('DB_PASSWORD = "correct horse"', 'DB_PASSWORD = "[SECRET]"'),
        ("api_key: 1234567890abcdef1234567890abcdef", "api_key: [SECRET]"),
        ("export TOKEN=9f86d081884c7d65", "export TOKEN=[SECRET]"),
        ("password: <@zorkle> hunter2", "password: <@zorkle> [SECRET]"),
        ("Authorization: Basic YWRhOmh1bnRlcjI=", "Authorization: Basic [SECRET]"),
        ("curl -u zorkle:hunter2 x", "curl -u zorkle:[SECRET] x"),
        ("sshpass -p hunter2 ssh", "sshpass -p [SECRET] ssh"),
        ("run --password=hunter2", "run --password=[SECRET]"),
        ("root:$6$rounds=5000$saltsalt$D4IrlXatmP7rx3P3:1", "root:[SECRET]:1"),
    ],
)
def test_forms_of_credentials(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b, tree d41d8cd98f00b204e9800998ecf8427e",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "/usr/share/doc/package-name/README.gz /dev/disk/by-id/usb-Some_Stick_20060876901194B1427D-0",
        "a_long_identifier_in_snake_case AndOneThatIsWrittenInCamelCaseWithDigits2and3",
        "forgot my password: any ideas? the password is wrong, password reset, pass: yes",
        "password = getpass.getpass() token = lexer.next_token() api_key=os.environ['KEY'] --password-file x",
        "password: **** secret: none token: str key: value keys: ctrl+alt+F1 NOPASSWD: /sbin/reboot",
        "MonkeyDust: cl-base64 or compass: north123",
        "the key is under the mat, an API key is required, the auth token expired, the basic idea",
    ],
)
def test_what_only_looks_like_a_credential_stays(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize(
    "lines",
    [
        [BEGIN, *KEY_LINES, "QyNTUxOQ==", END],
        [BEGIN, "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0A1B2C", "", *KEY_LINES, END],
        [BEGIN, *KEY_LINES, "QyNTUxOQ=="],
        [*KEY_LINES, "QyNTUxOQ==", END],
        [KEY_LINES[1]],
        [BEGIN, *KEY_LINES, BEGIN, *KEY_LINES, END],
    ],
)
@pytest.mark.parametrize("end", ["\n", " ", "\\n", "\r\n"])
def test_private_keys_go_whole_or_cut(lines: list[str], end: str) -> None:
    text = mask_secrets(f"it is {end.join(lines)} that is all I have")
    assert re.sub(r"\s+", " ", text.replace("[SECRET] [SECRET]", "[SECRET]")) in (
        "it is [SECRET] that is all I have",
        "it is [SECRET] [SECRET] that is all I have",
    )
