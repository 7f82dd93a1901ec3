"""Tokens of a text without its tokenizer, rather too many than too few."""

from __future__ import annotations

import re
from math import ceil

_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]{1,3}|\s+|.", re.DOTALL)
_LONGEST_WORD = 16  # letters; longer runs are no words, and tokenizers cut them small


def estimate_tokens(text: str) -> int:
    """Tokens of a text without its tokenizer, rather too many than too few.

    A word counts a token for each three letters (two where they are capitals), a long run of letters one a letter, three
    digits one, any other ASCII character one, and others one for each UTF-8 byte: byte-level tokenizers never make more.
    """
    return sum(_tokens(piece[0]) for piece in _PIECE.finditer(text))


def _tokens(piece: str) -> int:
    if piece == " ":
        return 0  # goes with the word after it
    if piece.isspace():
        return 1 + len(piece) // 8
    if not piece.isascii():
        return len(piece.encode("utf-8", "replace"))
    if piece.isalpha():
        return ceil(len(piece) / (2 if piece.isupper() else 3)) if len(piece) <= _LONGEST_WORD else len(piece)
    return 1


def cut_to(text: str, most: int) -> str:
    """The start of a text that :func:`estimate_tokens` puts at ``most`` tokens or fewer."""
    if len(text.encode("utf-8", "replace")) <= most:
        return text
    left = most
    for piece in _PIECE.finditer(text):
        size = _tokens(piece[0])
        if size > left:
            long_run = len(piece[0]) == size > _LONGEST_WORD
            return text[: piece.start() + (left if long_run else 0)]
        left -= size
    return text
