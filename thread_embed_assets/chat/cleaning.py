"""One message's text, from the platform's notation to plain text."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import ftfy

from thread_embed_assets.chat.zulip_html import html_to_text

LONGEST = 20_000
"""Characters of a message that are read: twenty screens, and far more than a model takes. What follows is cut off."""

_CUT_MARK = " […]"
_FIX = ftfy.TextFixerConfig(unescape_html=False, normalization="NFC")
# Marks that steer the direction of text or nothing visible at all. Between letters they would also hide a name or a secret.
# The joiners U+200C and U+200D stay: Persian and composed emoji are written with them.
_INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_URL = re.compile(
    r"\b(?:(?:https?|ftp)://|www\.[\w-]+\.)[^\s<>|`\x00]*[^\s<>|`\x00.,;:!?'\")\]]",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_PLACE = "\x00"  # stands for a kept piece while the prose around it is cleaned; _CONTROL has removed all others

_IRC_COLOUR = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?")

_SLACK_LINK = re.compile(r"<((?:https?|ftp|mailto|tel)[^<>|\s]*)(?:\|([^<>]*))?>")
_SLACK_CHANNEL = re.compile(r"<#[A-Z0-9]+(?:\|([^<>]*))?>")
_SLACK_SPECIAL = re.compile(r"<!(?:subteam\^)?[\w-]+(?:\^[^<>|]*)?(?:\|([^<>]*))?>")
_SLACK_EMOJI = re.compile(r"(?<![\w:])(?::(?=[^\s:]*[a-z]|[+-]1:|100:)[a-z0-9_+'-]{1,100}:)+(?![\w:])")
# Slack marks emphasis only at word boundaries, which is what keeps snake_case and 2*3*4 whole.
_SLACK_EMPHASIS = re.compile(r"(?<![\w*_~])([*_~])(?=\S)([^*_~\n]*[^\s*_~])\1(?![\w*_~])")

# People call themselves _ada_ and *star*.
_DISCORD_KEPT = re.compile(rf"{_CODE.pattern}|<@(?!&)[^<>|`\n]+>", re.DOTALL)
_DISCORD_TAG = re.compile(r"<a?:\w{1,32}:\d+>|<@&\d+>|<t:-?\d+(?::[A-Za-z])?>|<id:\w+>|(?<!\w)@(?:everyone|here)\b")
_DISCORD_CHANNEL = re.compile(r"<#\d+>")
_DISCORD_COMMAND = re.compile(r"<(/[^<>:\n]{1,100}):\d+>")
_DISCORD_EMOJI = re.compile(r"(?<![\w:])(?::(?=[^\s:]*[A-Za-z])\w{2,32}(?:~\d)?:)+(?![\w:])")
_DISCORD_LINK = re.compile(
    r"\[([^][\n]{1,1000})\]\(<?(?:https?://|mailto:)[^\s<>()\x00]*(?:\([^\s<>()\x00]*\)[^\s<>()\x00]*)?>?\)"
)
_DISCORD_BARE_LINK = re.compile(r"<(https?://[^\s<>]+)>")
_DISCORD_LINE = re.compile(r"^(?:#{1,3}|-#) +", re.MULTILINE)
_DISCORD_ESCAPE = re.compile(r"\\([*_~|>#:<@\[\]()\\-])")
_ESCAPED = 0xE000  # of Unicode's private use area
_UNESCAPE = {_ESCAPED + code: chr(code) for code in range(0x80)}


def _around(mark: str) -> str:
    """What may stand between two marks of emphasis: it touches both of them, and holds no such mark."""
    return rf"([^\s{mark}](?:[^{mark}]*[^\s{mark}])?)"


# As __init__, a || b and 2*3*4 are: lower-case words between __ are Python's, operators have spaces around them.
_DISCORD_EMPHASIS = re.compile(
    rf"\*\*{_around('*')}\*\*"
    rf"|__(?![a-z0-9_]+__){_around('_')}__"
    rf"|~~{_around('~')}~~"
    rf"|\|\|{_around('|')}\|\|"
    rf"|(?<![\w*])\*{_around('*')}\*(?![\w*])"
    rf"|(?<!\w)_{_around('_')}_(?!\w)"
)
_DEEPEST_EMPHASIS = 4


class _Quotes(NamedTuple):
    """How a platform marks quoted lines: each of them, or the rest of the message from a line on."""

    line: re.Pattern[str]
    rest: re.Pattern[str]


# In Slack ">text" is a quote, but ">= 3" and ">:(" are meant as they stand.
_SLACK_QUOTES = _Quotes(re.compile(r">(?=[\s\"'(\[<]|[^\W_]|$)\s?"), re.compile(r">>>\s?"))
_DISCORD_QUOTES = _Quotes(re.compile(r">(?: |$)"), re.compile(r">>>(?: |$)"))


def clean(text: str, platform: str) -> str:
    """Plain text of one message: markup stripped, URLs as ``[URL]``, unicode normalised, whitespace collapsed.

    User mentions ``<@NAME>`` are left as they are for the masker. Code in backticks keeps its characters, and a fenced block
    its lines and their indent. Quoted lines repeat another message: they go, unless there is nothing else. Emoji of Unicode
    are text. A message of more than ``LONGEST`` characters is cut at a space, and marked with ``[…]``.
    """
    steps = _PLATFORMS.get(platform, _PLAIN)
    if len(text) > LONGEST:
        text = _cut(text)
    text = steps.markup(text)
    if not text.isascii():
        text = _INVISIBLE.sub("", ftfy.fix_text(text, _FIX))
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if steps.quotes is not None and (text.startswith(">") or "\n>" in text):
        text = _without_quotes(text, steps.quotes)
    kept: list[str] = []
    if "`" in text or "<@" in text:
        kept = steps.kept.findall(text)
        text = steps.kept.sub(_PLACE, text)
    text = " ".join(_without_urls(steps.prose(text)).split())
    if kept:
        text = _put_back(text, kept)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _cut(text: str) -> str:
    head = text[: LONGEST - len(_CUT_MARK)]
    inside = not text[len(head)].isspace()
    # A word cut in two could be half an address or a key, which nobody would recognise and mask.
    shorter = head.rsplit(maxsplit=1)[0] if inside else head
    return shorter.rstrip() + _CUT_MARK


def _without_urls(text: str) -> str:
    return _URL.sub("[URL]", text) if "://" in text or "www." in text.lower() else text


def _put_back(text: str, kept: list[str]) -> str:
    pieces = text.split(_PLACE)
    for place, piece in enumerate(map(_tidy, kept), start=1):
        pieces[place] = piece + pieces[place]
    return "".join(pieces).strip()


def _tidy(piece: str) -> str:
    piece = _without_urls(piece)
    if piece.startswith("```"):
        return "\n".join(line.rstrip() for line in piece.splitlines())
    return " ".join(piece.split())


def _without_quotes(text: str, quotes: _Quotes) -> str:
    lines = text.split("\n")
    said: list[str] = []
    quoted: list[str] = []
    fenced = False
    # One ">>> " opens a quote to the end; several are a session of Python.
    to_the_end = sum(1 for line in lines if quotes.rest.match(line)) == 1
    for number, line in enumerate(lines):
        if not fenced:
            if to_the_end and (mark := quotes.rest.match(line)):
                quoted += line[mark.end() :], *lines[number + 1 :]
                break
            if mark := quotes.line.match(line):
                quoted.append(line[mark.end() :])
                continue
        said.append(line)
        fenced ^= line.count("```") % 2 == 1
    return "\n".join(said if any(map(str.strip, said)) else quoted)


def _irc(text: str) -> str:
    if not text.isprintable():
        text = _CONTROL.sub("", _IRC_COLOUR.sub("", text))
    return text.replace("<unconvertable>", " ")


def _zulip(text: str) -> str:
    return html_to_text(text) if "<" in text else text


def _slack(text: str) -> str:
    if "<" in text:
        text = _SLACK_LINK.sub("[URL]", text)
        text = _SLACK_CHANNEL.sub(lambda m: f"#{m[1]}" if m[1] else "#channel", text)
        text = _SLACK_SPECIAL.sub(lambda m: (m[1] or "").lstrip("@"), text)
    return html.unescape(text) if "&" in text else text


def _slack_prose(text: str) -> str:
    if ":" in text:
        text = _SLACK_EMOJI.sub(" ", text)
    if "*" in text or "_" in text or "~" in text:
        text = _SLACK_EMPHASIS.sub(r"\2", text)
    return text


def _discord_prose(text: str) -> str:
    escaped = "\\" in text
    if escaped:
        text = _DISCORD_ESCAPE.sub(lambda m: chr(_ESCAPED + ord(m[1])), text)
    if "<" in text or "@" in text:
        text = _DISCORD_TAG.sub(" ", text)
        text = _DISCORD_COMMAND.sub(r"\1", text)
        text = _DISCORD_BARE_LINK.sub(r"\1", text)
    if "<#" in text:
        text = _DISCORD_CHANNEL.sub("#channel", text)
    if "](" in text:
        text = _DISCORD_LINK.sub(r"\1 [URL]", text)
    text = _without_urls(text)
    if ":" in text:
        text = _DISCORD_EMOJI.sub(" ", text)
    if "#" in text:
        text = _DISCORD_LINE.sub("", text)
    if "*" in text or "_" in text or "~~" in text or "||" in text:
        for _ in range(_DEEPEST_EMPHASIS):
            text, found = _DISCORD_EMPHASIS.subn(lambda m: m[m.lastindex or 0], text)
            if not found:
                break
    return text.translate(_UNESCAPE) if escaped else text


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class _Platform:
    """What is a platform's own.

    Attributes:
        markup: what is replaced wherever it stands.
        kept: what stays as it is, such as code.
        prose: what is replaced around that.
    """

    markup: Callable[[str], str] = _as_it_is
    kept: re.Pattern[str] = _CODE
    prose: Callable[[str], str] = _as_it_is
    quotes: _Quotes | None = None


_PLAIN = _Platform()
_PLATFORMS = {
    "irc": _Platform(markup=_irc),
    "slack": _Platform(markup=_slack, prose=_slack_prose, quotes=_SLACK_QUOTES),
    "discord": _Platform(kept=_DISCORD_KEPT, prose=_discord_prose, quotes=_DISCORD_QUOTES),
    "zulip": _Platform(markup=_zulip),
}
