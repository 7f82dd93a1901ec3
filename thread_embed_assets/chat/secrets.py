"""Personal and secret strings in text: found by their form, and replaced by a mark that says what stood there.

A detector runs only where a cheap sign of it is in the text (an @, seven digits, a long run of letters and digits, a word
such as "password"), so an ordinary line costs about three microseconds. All are linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter

from thread_embed_assets.chat import credentials, personal_numbers

MENTION = re.compile(r"<@([^<>|\s][^<>|]*)(?:\|[^<>]*)?>")
"""A person as parsers mark one in a text: ``<@NAME>``, or Slack's ``<@NAME|label>``."""


class Kind(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    IP = "ip"
    MAC = "mac"
    CARD = "card"
    IBAN = "iban"
    SSN = "ssn"
    USER = "user"
    SECRET = "secret"  # noqa: S105  (a password, token or key)

    @property
    def mark(self) -> str:
        """What stands in the text instead, such as ``[EMAIL]``."""
        return f"[{self.upper()}]"


@dataclass(frozen=True)
class Found:
    """One personal or secret string, as it is written."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class _Detector:
    kind: Kind
    find: Callable[[str], Iterator[tuple[int, int]]]  # text to start and end of each


def mask_secrets(text: str) -> str:
    """The text with every personal or secret string replaced by its mark; masking twice is masking once."""
    while (due := _due(text)) and (found := _spans(text, due)):
        pieces: list[str] = []
        done = 0
        for start, end, kind in found:
            pieces += text[done:start], kind.mark
            done = end
        text = "".join([*pieces, text[done:]])
    return text


def find_secrets(text: str) -> list[Found]:
    """What :func:`mask_secrets` would replace, in the order of the text."""
    return [Found(kind, text[start:end]) for start, end, kind in _spans(text, _due(text))]


def _spans(text: str, detectors: Iterable[_Detector]) -> list[tuple[int, int, Kind]]:
    """Where something is found: in order, and merged where finds overlap, so that nothing of either is left.

    What a marked mention says is a name, whatever it looks like: the masker of names replaces it.
    """
    found = sorted((start, -end, detector.kind) for detector in detectors for start, end in detector.find(text))
    mentions = [mention.span() for mention in MENTION.finditer(text)] if found and "<@" in text else []
    merged: list[tuple[int, int, Kind]] = []
    for start, minus_end, kind in found:
        if mentions and _inside(mentions, start, -minus_end):
            continue
        if not merged or start >= merged[-1][1]:
            merged.append((start, -minus_end, kind))
        elif -minus_end > merged[-1][1]:
            merged[-1] = merged[-1][0], -minus_end, merged[-1][2]
    return merged


def _inside(spans: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    place = bisect_right(spans, start, key=itemgetter(0)) - 1
    return place >= 0 and end <= spans[place][1]


_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]+\.)+[^\W\d_]{2,}")
_AT, _DOT = r"\s?[\[({]\s?at\s?[\])}]\s?", r"(?:\s?[\[({]\s?dot\s?[\])}]\s?|\.|\sdot\s)"
_SPELLED_EMAIL = re.compile(
    rf"(?<![\w.%+\-])[\w.%+\-]{{1,64}}(?:{_AT}[\w\-]{{1,63}}(?:{_DOT}[\w\-]{{1,63}}){{1,4}}"
    r"|\sat\s(?:gmail|googlemail|hotmail|yahoo|outlook|aol|gmx|web|proton\w*|icloud|qq)\sdot\s[\w\-]{2,63}(?:\sdot\s\w{2,3})?)",
    re.IGNORECASE,
)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text))


def _spelled_emails(text: str) -> Iterator[tuple[int, int]]:
    """``name (at) host (dot) org``; without brackets only at the large hosts of mail, since much is at some dot com."""
    return (match.span() for match in _SPELLED_EMAIL.finditer(text))


_ACCOUNT = r"[^\W\d_][\w.\-]*"
_HOME = re.compile(
    r"(?<![\w.\])}\\/])(?:[\\/]+(?:home|Users)[\\/]+|(?i:[a-z]:[\\/]+(?:users|documents and settings)[\\/]+)"
    rf"|~(?={_ACCOUNT}[\\/]))({_ACCOUNT}\w)"
)
# Accounts of machines and of examples: nobody's name.
_NOBODY = re.compile(
    r"admin(?:istrator)?|default|guest|jenkins|me|name|pi|public|root|runner|shared|travis|ubuntu|vagrant|you"
    r"|(?:your[-_]?)?(?:user|username|name)",
    re.IGNORECASE,
)


def _home_folders(text: str) -> Iterator[tuple[int, int]]:
    """The account in the path of a home folder: ``/home/NAME``, ``C:\\Users\\NAME``, ``~NAME/``."""
    return (match.span(1) for match in _HOME.finditer(text) if not _NOBODY.fullmatch(match[1]))


_IBANS = _Detector(Kind.IBAN, personal_numbers.ibans)
_BY_AT_SIGN = (_Detector(Kind.EMAIL, _emails), _Detector(Kind.SECRET, credentials.in_urls))
_BY_SPELLED_SIGN = (_Detector(Kind.EMAIL, _spelled_emails),)
_BY_DIGITS = (
    _Detector(Kind.IP, personal_numbers.addresses),
    _Detector(Kind.PHONE, personal_numbers.phones),
    _Detector(Kind.CARD, personal_numbers.cards),
    _Detector(Kind.SSN, personal_numbers.social_security_numbers),
    _IBANS,
)
_BY_COLONS = (
    _Detector(Kind.IP, personal_numbers.long_addresses),
    _Detector(Kind.MAC, personal_numbers.hardware_addresses),
)
_BY_LENGTH = (_Detector(Kind.SECRET, credentials.tokens), _Detector(Kind.SECRET, credentials.opaque_strings), _IBANS)
_BY_WORD = (
    _Detector(Kind.SECRET, credentials.named_values),
    _Detector(Kind.SECRET, credentials.option_values),
    _Detector(Kind.SECRET, credentials.authorisations),
    _Detector(Kind.SECRET, credentials.key_blocks),
)
_BY_HOME = (_Detector(Kind.USER, _home_folders),)
_BY_DOLLAR = (_Detector(Kind.SECRET, credentials.password_hashes),)

_FEW_DIGITS = re.compile(r"\d(?:\.\d{1,3}\.\d{1,3}\.\d|(?:[\s().+/:\-]{0,3}\d){6})")
_LONG_RUN = re.compile(r"[A-Za-z0-9_+/=\-]{20}")


def _due(text: str) -> tuple[_Detector, ...]:
    """The detectors whose sign is in the text; written out, since it runs on every message."""
    due: tuple[_Detector, ...] = ()
    low = text.lower()
    if "@" in text:
        due += _BY_AT_SIGN
    if _FEW_DIGITS.search(text):
        due += _BY_DIGITS
    if text.count(":") > 1 or text.count("-") > 4:
        due += _BY_COLONS
    if _LONG_RUN.search(text):
        due += _BY_LENGTH
    if (
        "pass" in low or "key" in low or "token" in low or "secret" in low or "pwd" in low or " -u " in low
        or "bearer" in low or "authoriz" in low
    ):  # fmt: skip
        due += _BY_WORD
    if "(at)" in low or "[at]" in low or " dot " in low:
        due += _BY_SPELLED_SIGN
    if "~" in text or "home/" in low or "users/" in low or "users\\" in low or "settings\\" in low:
        due += _BY_HOME
    if "$" in text:
        due += _BY_DOLLAR
    return due
