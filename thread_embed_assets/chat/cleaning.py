"""One message's text, from the platform's notation to plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import ftfy

_FIX = ftfy.TextFixerConfig(unescape_html=False, normalization="NFC")
_URL = re.compile(
    r"\b(?:https?|ftp)://[^\s<>|]*[^\s<>|.,;:!?'\")\]]|\bwww\.[\w-]+\.[^\s<>|]*[^\s<>|.,;:!?'\")\]]", re.IGNORECASE
)
_SPACES = re.compile(r"\s+")
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)

_IRC_CONTROL = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|[\x00-\x08\x0b-\x1f\x7f]")
_SLACK_LINK = re.compile(r"<((?:https?|ftp|mailto|tel)[^>|\s]*)(?:\|([^>]*))?>")
_SLACK_CHANNEL = re.compile(r"<#[A-Z0-9]+(?:\|([^>]*))?>")
_SLACK_SPECIAL = re.compile(r"<!(?:subteam\^)?[\w-]+(?:\^[^>|]*)?(?:\|([^>]*))?>")
_SLACK_EMOJI = re.compile(r"(?<![\w:])(?::(?:[+-]1|100|[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*):)+(?![\w:])")
# Slack marks emphasis only at word boundaries, which is what keeps snake_case and 2*3*4 whole.
_SLACK_EMPHASIS = re.compile(r"(?<![\w*_~])([*_~])(?=\S)([^*_~\n]*[^\s*_~])\1(?![\w*_~])")


def clean(text: str, platform: str) -> str:
    """Plain text of one message: markup stripped, URLs as ``[URL]``, unicode normalised, whitespace collapsed.

    User mentions ``<@NAME>`` are left as they are for the masker. Code in backticks keeps its characters, and a fenced block
    its lines and their indent.
    """
    if not text.isascii():
        text = ftfy.fix_text(text, _FIX)
    text = _PLATFORMS.get(platform, _no_markup)(text)
    if "://" in text or "www." in text.lower():
        text = _URL.sub("[URL]", text)
    return _collapse(text)


def _no_markup(text: str) -> str:
    return text


def _irc(text: str) -> str:
    return _IRC_CONTROL.sub("", text).replace("<unconvertable>", " ")


def _slack(text: str) -> str:
    if "<" in text:
        text = _SLACK_LINK.sub("[URL]", text)
        text = _SLACK_CHANNEL.sub(lambda m: f"#{m[1]}" if m[1] else "#channel", text)
        text = _SLACK_SPECIAL.sub(lambda m: (m[1] or "").lstrip("@"), text)
    if "&" in text:
        text = html.unescape(text)
    if "`" not in text:
        return _slack_prose(text)
    pieces = _CODE.split(text)
    pieces[::2] = [_slack_prose(piece) for piece in pieces[::2]]
    return "".join(pieces)


def _slack_prose(text: str) -> str:
    if ":" in text:
        text = _SLACK_EMOJI.sub(" ", text)
    if "*" in text or "_" in text or "~" in text:
        text = _SLACK_EMPHASIS.sub(r"\2", text)
    return text


def _collapse(text: str) -> str:
    if "```" not in text:
        return " ".join(text.split())
    pieces = _CODE.split(text)
    for position, piece in enumerate(pieces):
        if piece.startswith("```"):
            pieces[position] = "\n".join(line.rstrip() for line in piece.splitlines())
        else:
            pieces[position] = _SPACES.sub(" ", piece)
    return "".join(pieces).strip()


_PLATFORMS: dict[str, Callable[[str], str]] = {"irc": _irc, "slack": _slack}
