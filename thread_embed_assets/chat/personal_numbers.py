"""Numbers that lead to a person: addresses of machines, phone numbers, cards, accounts. Each finder yields start and end."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumberMatcher
from stdnum import iban, luhn

_ADDRESS = re.compile(r"(?<!\d)(?<!\d\.)(?<!\bv)(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?!\d|\.\d)", re.IGNORECASE)
_ADDRESS_IN_HOST = re.compile(r"(?<!\d)(?<!\d-)(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})(?=\.[a-z])", re.IGNORECASE)
_NOBODYS_NETWORKS = (0, 127, 255)  # unspecified, loopback, netmasks
_LONG_ADDRESS = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{7,39}(?![\w:])")
_HARDWARE_ADDRESS = re.compile(r"(?<![\w:\-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![\w:\-])")
_NOBODYS_HARDWARE = ({"0"}, {"f"})  # unset, broadcast


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """IPv4, also as names of hosts write it: ``203-0-113-9.example.net``. A version number of four parts looks the same."""
    for pattern in (_ADDRESS, _ADDRESS_IN_HOST):
        for match in pattern.finditer(text):
            parts = [int(part) for part in match.groups()]
            if max(parts) < 256 and parts[0] not in _NOBODYS_NETWORKS and "000" not in match.groups():
                yield match.span()


def long_addresses(text: str) -> Iterator[tuple[int, int]]:
    """IPv6; what is shorter than ``fe80::1``, or has no digit or no group of three, is a slice or a name of C++."""
    for match in _LONG_ADDRESS.finditer(text):
        written = match[0] if match[0].endswith("::") else match[0].rstrip(":")
        groups = written.split(":")
        if len(groups) < 3 or (len(groups) < 8 and max(map(len, groups)) < 3) or not re.search(r"\d", written):
            continue
        try:
            address = ipaddress.IPv6Address(written)
        except ValueError:
            continue
        if not (address.is_loopback or address.is_unspecified):
            yield match.start(), match.start() + len(written)


def hardware_addresses(text: str) -> Iterator[tuple[int, int]]:
    """MAC addresses."""
    for match in _HARDWARE_ADDRESS.finditer(text):
        if set(match[0].lower()) - set(":-") not in _NOBODYS_HARDWARE:
            yield match.span()


_GAP = r"[ .\-/()\xa0]"
_INTERNATIONAL = re.compile(rf"(?<![\w.+])\+ ?\(?\d(?:{_GAP}{{0,3}}\d){{6,16}}(?!\d)")
_BUT_THE_LAST_GROUP = re.compile(rf"(.*\d){_GAP}+\d+$")
_MOST_GROUPS = 6
_DIALLED = re.compile(rf"(?<![\w.:+\-])00[1-9](?:{_GAP}{{0,3}}\d){{7,15}}(?!\d)")
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.+\-$#/])(?:1[ .\-])?(?:\(\d{3}\) ?\d{3}[ .\-]?|[2-9]\d\d([ .\-])\d{3}\1)\d{4}(?![\w\-]|\.\d)"
)
_WITH_TRUNK_ZERO = re.compile(r"(?<![\w.:+\-/$#])\(?0\d{1,5}\)?(?:[ \-/.]{1,3}\d{2,8}){1,5}(?![\w:]|\.\d)")
_REGIONS_WITH_TRUNK_ZERO = ("GB", "DE", "FR", "NL", "BE", "CH", "AT", "SE", "AU", "NZ", "IN", "JP", "BR", "ZA", "IE", "TR")
_FEWEST_DIGITS = 10
_WITHOUT_GAPS = re.compile(r"(?<![\w.:+\-/$#])(?:1?[2-9]\d\d[2-9]\d{6}|0\d{9,10})(?![\w\-/]|[.,:]\d)")
_EVERYBODYS_NUMBERS = ("2147483647", "2147483648", "0123456789")  # the largest of 32 bits, all digits
_TOLD = re.compile(
    r"\b(?:phone|telephone|tel|cell|mobile|whats ?app|fax|sms|(?:call|text|ring|reach|dial|page) (?:me|us|him|her|them))\b"
    rf"(?:\W{{1,3}}\w{{1,12}}){{0,3}}?\W{{1,4}}(\+?\(?\d(?:{_GAP}{{0,2}}\d){{6,14}})(?!\d)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d[-/.]?[01]\d[-/.]?[0-3]\d|[0-3]?\d[-/.][0-3]?\d[-/.](?:19|20)\d\d")


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Numbers with a plus or the double zero of calls abroad, of North America, of lands with a trunk zero, and any other
    number that is said to be a phone's."""
    if "+" in text:
        yield from ((match.start, match.end) for match in PhoneNumberMatcher(text, None))
    for match in _INTERNATIONAL.finditer(text):
        if written := _longest_possible(match[0]):
            yield match.start(), match.start() + len(written)
    yield from (match.span() for match in _DIALLED.finditer(text) if _is_valid_in("+" + match[0][2:], (None,)))
    yield from (match.span() for match in _NORTH_AMERICAN.finditer(text) if match[1] != " " or _is_national(match[0]))
    yield from (match.span() for match in _WITH_TRUNK_ZERO.finditer(text) if _is_national(match[0]))
    yield from (match.span() for match in _WITHOUT_GAPS.finditer(text) if _is_national(match[0]))
    yield from (match.span(1) for match in _TOLD.finditer(text) if not _DATE.match(match[1]))


@lru_cache(maxsize=10_000)
def _is_national(written: str) -> bool:
    if sum(map(str.isdigit, written)) < _FEWEST_DIGITS or written in _EVERYBODYS_NUMBERS:
        return False
    return _is_valid_in(written, _REGIONS_WITH_TRUNK_ZERO if written.lstrip("(").startswith("0") else ("US",))


@lru_cache(maxsize=10_000)
def _longest_possible(written: str) -> str:
    """As much of a number with a plus as could be dialled, cut between its groups."""
    for _ in range(_MOST_GROUPS):
        try:
            if phonenumbers.is_possible_number(phonenumbers.parse(written, None)):
                return written
        except phonenumbers.NumberParseException:
            return ""
        shorter = _BUT_THE_LAST_GROUP.match(written)
        if shorter is None:
            break
        written = shorter[1]
    return ""


def _is_valid_in(written: str, regions: Iterable[str | None]) -> bool:
    """Whether a region has such numbers; None asks for a number with its country's code."""
    for region in regions:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(written, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


# First digits and lengths by network: https://en.wikipedia.org/wiki/Payment_card_number.
_CARD = re.compile(
    r"(?<![\w.\-])(?:"
    r"(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6\d{3}|35\d\d)([ .\-]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?"
    r"|3[47]\d\d([ .\-]?)\d{6}\2\d{5}|3[0689]\d\d([ .\-]?)\d{6}\3\d{4}|4\d{12}"
    r")(?![\w\-]|\.\d)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ \-]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_SHORTEST_IBAN = 15
_SOCIAL_SECURITY = re.compile(r"(?<![\w\-.])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w\-]|\.\d)")


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Card numbers whose check digit is right."""
    return (match.span() for match in _CARD.finditer(text) if luhn.is_valid(re.sub(r"\D", "", match[0])))


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Accounts whose check digits are right, in one piece or in groups."""
    for match in _IBAN.finditer(text):
        written = match[0]
        while len(written) >= _SHORTEST_IBAN and not iban.is_valid(written):
            written = written.rpartition(" ")[0]
        if len(written) >= _SHORTEST_IBAN:
            yield match.start(), match.start() + len(written)


def social_security_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Of the United States; https://www.ssa.gov/employer/randomization.html says which are never given."""
    return (match.span() for match in _SOCIAL_SECURITY.finditer(text))
