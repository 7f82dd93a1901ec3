"""200 invented secrets of 20 kinds, each inside a sentence as people write it; the same in every run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

EACH = 10
_TOKEN = ascii_letters + digits
_LOWER_HEX = digits + "abcdef"


@dataclass(frozen=True)
class Planted:
    """A secret as it stands in a message.

    Attributes:
        secret: as it is written, which may be over several lines.
        sentence: the message it stands in.
    """

    kind: str
    secret: str
    sentence: str

    @property
    def distinctive(self) -> tuple[str, ...]:
        """Pieces by which the secret would be known even where cleaning has changed the spaces and signs between them."""
        pieces = re.split(r"[\s/@()]|://", self.secret)
        return tuple(piece for piece in pieces if len(piece) >= 6 and piece not in _NO_SECRET) or (self.secret,)


_NO_SECRET = ("example", "example.org", "PRIVATE", "-----BEGIN", "KEY-----", "services", "hooks.slack.com", "postgres:")


def _of(draw: Random, alphabet: str, length: int) -> str:
    """Drawn characters, with at least a digit and a letter of each case the alphabet has."""
    while True:
        drawn = "".join(draw.choice(alphabet) for _ in range(length))
        wanted = [set(part) & set(alphabet) for part in (ascii_lowercase, ascii_uppercase, digits)]
        if all(part & set(drawn) for part in wanted if part):
            return drawn


def _word(draw: Random) -> str:
    return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(4))


def _card(draw: Random) -> str:
    start, length = draw.choice([("4", 16), ("51", 16), ("37", 15), ("6011", 16)])
    number = start + _of(draw, digits, length - len(start) - 1)
    number += luhn.calc_check_digit(number)
    groups = [number[:4], number[4:10], number[10:]] if length == 15 else [number[n : n + 4] for n in range(0, 16, 4)]
    return draw.choice(["", " ", "-"]).join(groups)


def _iban(draw: Random) -> str:
    account = _of(draw, digits, 18)
    number = "DE" + mod_97_10.calc_check_digits(account + "DE") + account
    return draw.choice([number, " ".join(number[n : n + 4] for n in range(0, len(number), 4))])


def _international(draw: Random) -> str:
    last = [_of(draw, digits, n) for n in (2, 3, 4)]
    return draw.choice(
        [
            f"+1 212 {last[1][:1]}55 {last[2]}".replace(" 0", " 2").replace(" 1", " 2"),
            f"+4917{draw.randrange(10)}5{last[1]}{last[1]}",
            f"+44 7911 12{last[2]}",
            f"+33 6 {last[0]} {last[2][:2]} {last[2][2:]} {last[0]}",
        ]
    )


def _national(draw: Random) -> str:
    last = _of(draw, digits, 4)
    mobile = f"01{draw.randrange(60, 79)} 4{last}{last[:3]}"
    return draw.choice([f"(415) 555-{last}", f"415-555-{last}", f"020 7946 {last}", mobile])


def _ssn(draw: Random) -> str:
    return f"{draw.randrange(100, 600)}-{draw.randrange(10, 99)}-{draw.randrange(1000, 9999)}"


def _web_token(draw: Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": _of(draw, digits, 10), "name": _word(draw)}]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, _of(draw, _TOKEN + "-_", 43)])


def _key_block(draw: Random) -> str:
    kind = draw.choice(["RSA ", "EC ", "OPENSSH ", ""])
    lines = ["MII" + _of(draw, _TOKEN, 61), *(_of(draw, _TOKEN + "+/", 64) for _ in range(3)), _of(draw, _TOKEN, 22) + "=="]
    end = [] if draw.random() < 0.3 else [f"-----END {kind}PRIVATE KEY-----"]
    return "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, *end])


def _any(*makers: Callable[[Random], str]) -> Callable[[Random], str]:
    return lambda draw: draw.choice(makers)(draw)


# How each kind is written, and the sentences it stands in.
_KINDS: dict[str, tuple[Callable[[Random], str], tuple[str, ...]]] = {
    "email": (
        lambda d: f"{_word(d)}.{_word(d)}{d.randrange(99)}@{_word(d)}.example.org",
        ("send the drawing of the greenhouse to {} please", "{} never answered me about the ladder", "it is <{}>, he said"),
    ),
    "phone_international": (_international, ("call the carpenter at {} after lunch", "his number is {}", "{}")),
    "phone_national": (_national, ("the shop can be reached under {} until five", "please ring {} about the barrel")),
    "ipv4": (
        lambda d: f"{d.randrange(128, 223)}.{d.randrange(10, 255)}.{d.randrange(10, 255)}.{d.randrange(10, 255)}",
        ("the pump listens on {}", "I can ping {}:8080 from the barn", "ssh to {}, then look"),
    ),
    "ipv6": (
        lambda d: f"2a02:{_of(d, _LOWER_HEX, 4)}:{_of(d, _LOWER_HEX, 4)}::{_of(d, _LOWER_HEX, 4)}",
        ("the greenhouse has the address {} now", "who is {}?"),
    ),
    "mac": (
        lambda d: d.choice(":-").join(_of(d, _LOWER_HEX, 2) for _ in range(6)),
        ("the sensor {} is gone from the list", "hardware address: {}"),
    ),
    "card": (_card, ("use the card {} for the new fence", "{} exp 04/29, it is the card of the workshop")),
    "iban": (_iban, ("please pay the wood to {} today", "the account is {}, as always")),
    "social_security": (_ssn, ("they asked for his social security number, {}, twice",)),
    "aws_key": (
        lambda d: "AKIA" + _of(d, ascii_uppercase + digits, 16),
        ("the bucket opens with {} from the barn", "AWS_ACCESS_KEY_ID={}"),
    ),
    "aws_secret": (
        lambda d: _of(d, _TOKEN + "/+", 40),
        ("aws_secret_access_key = {}", "and the other half is {} as far as I know"),
    ),
    "github_token": (
        _any(
            lambda d: d.choice(["ghp_", "gho_", "ghs_"]) + _of(d, _TOKEN, 36),
            lambda d: f"github_pat_{_of(d, _TOKEN, 22)}_{_of(d, _TOKEN, 59)}",
        ),
        ("the robot pushes with {} every night", "use `{}` to clone the plans"),
    ),
    "slack_token": (
        _any(
            lambda d: f"{d.choice(['xoxb', 'xoxp'])}-{_of(d, digits, 12)}-{_of(d, digits, 12)}-{_of(d, _TOKEN, 24)}",
            lambda d: f"https://hooks.slack.com/services/T{_of(d, ascii_uppercase + digits, 8)}/B0/{_of(d, _TOKEN, 24)}",
        ),
        ("the bell in the workshop posts with {} now", "here is the hook {}"),
    ),
    "service_key": (
        _any(
            lambda d: "AIza" + _of(d, _TOKEN + "-_", 35),
            lambda d: "sk_live_" + _of(d, _TOKEN, 24),
            lambda d: "SG." + _of(d, _TOKEN, 22) + "." + _of(d, _TOKEN, 43),
            lambda d: "glpat-" + _of(d, _TOKEN, 20),
        ),
        ("the map of the orchard needs {} to load", "payments go through with {}"),
    ),
    "model_key": (
        _any(
            lambda d: "sk-" + d.choice(["proj-", ""]) + _of(d, _TOKEN, 48),
            lambda d: "sk-ant-api03-" + _of(d, _TOKEN + "-_", 93) + "AA",
            lambda d: "hf_" + _of(d, ascii_letters, 33) + "7",
        ),
        ("the gardener who writes poems runs on {}", "set it to {} and start again"),
    ),
    "package_token": (
        _any(
            lambda d: "npm_" + _of(d, _TOKEN, 36),
            lambda d: "pypi-AgEIcHlwaS5vcmc" + _of(d, _TOKEN + "-_", 80),
        ),
        ("we publish the seeds with {} until march", "//registry.npmjs.org/:_authToken={}"),
    ),
    "bot_token": (
        _any(
            lambda d: f"M{_of(d, _TOKEN, 23)}.{_of(d, _TOKEN, 6)}.{_of(d, _TOKEN + '-_', 27)}",
            lambda d: f"{d.randrange(10**8, 10**9)}:AA{_of(d, _TOKEN + '-_', 33)}",
        ),
        ("the owl in the chat speaks with {} at night", "bot: {}"),
    ),
    "web_token": (_web_token, ("curl -H 'Authorization: Bearer {}' says it is too old", "the session was {} before lunch")),
    "private_key": (_key_block, ("here is the key to the barn: ```\n{}\n``` do not lose it", "{}")),
    "password": (
        lambda d: f"{_word(d).capitalize()}{d.randrange(10, 99)}{d.choice('!#%&_')}{_of(d, _LOWER_HEX, 4)}",
        (
            "password: {}",
            "the wifi password is {} as ever",
            "DB_PASSWORD={} in the file by the door",
            'it is in there: {{"user": "barn", "password": "{}"}}',
            "try postgres://barn:{}@tools.example.org/seeds then",
        ),
    ),
}  # fmt: skip


def planted_secrets(each: int = EACH) -> list[Planted]:
    """``each`` of every kind; no two alike."""
    draw = Random("planted secrets")
    found: dict[str, Planted] = {}
    for kind, (make, sentences) in _KINDS.items():
        count = 0
        while count < each:
            secret = make(draw)
            if secret not in found:
                found[secret] = Planted(kind, secret, sentences[count % len(sentences)].format(secret))
                count += 1
    return list(found.values())
