"""A held-out thread and query of made words, and texts that repeat them in every way that counts."""

from __future__ import annotations

from random import Random

from thread_embed_assets.benchmark.shared_stretches import Kind, Level

_SYLLABLES = ("ba", "de", "fi", "gor", "lu", "mi", "nes", "po", "ra", "su", "tam", "ve")
VOCABULARY = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES]


def message(name: str, words: int = 24) -> str:
    """Words drawn by the name: other names give other messages."""
    return " ".join(Random(name).choices(VOCABULARY, k=words))


THREAD = [message("first"), message("second"), message("third"), message("fourth", 30)]
QUERY = message("query", 26)
STOCK = "thank you very much for your help"


def one_in_six_changed(text: str, first: int = 3) -> str:
    words = text.split(" ")
    return " ".join(f"other{n}" if n % 6 == first % 6 else word for n, word in enumerate(words))


LEAKS: dict[str, tuple[str, Level, Kind]] = {
    "\n".join(THREAD): ("d_0", Level.DOCUMENT, Kind.EXACT),
    "\n".join([message("before"), *THREAD, message("after")]): ("d_0", Level.DOCUMENT, Kind.EXACT),
    " ".join(THREAD): ("d_0", Level.DOCUMENT, Kind.EXACT),
    one_in_six_changed("\n".join(THREAD)): ("d_0", Level.DOCUMENT, Kind.NEAR),
    f"{message('before')} {' '.join(THREAD)} {message('after')}": ("d_0", Level.DOCUMENT, Kind.QUOTED),
    "\n".join(THREAD[1:3]): ("d_0", Level.WINDOW, Kind.EXACT),
    "\n".join(one_in_six_changed(line) for line in THREAD[:3]): ("d_0", Level.WINDOW, Kind.NEAR),
    f"{message('before', 200)} {' '.join(THREAD[2:])} {message('after', 200)}": ("d_0", Level.WINDOW, Kind.QUOTED),
    THREAD[1]: ("d_0", Level.MESSAGE, Kind.EXACT),
    QUERY: ("q_test", Level.MESSAGE, Kind.EXACT),
    "\n".join([message("before"), THREAD[3], message("after")]): ("d_0", Level.MESSAGE, Kind.EXACT),
    f"{message('before', 200)} {THREAD[0]} {message('after', 200)}": ("d_0", Level.MESSAGE, Kind.QUOTED),
    " ".join(THREAD[3].split()[9:21]): ("d_0", Level.MESSAGE, Kind.QUOTED),
    THREAD[1].upper(): ("d_0", Level.MESSAGE, Kind.EXACT),
    THREAD[1].replace(" ", " \t \n "): ("d_0", Level.MESSAGE, Kind.EXACT),
    THREAD[1].replace(" ", "\u00a0\u2003"): ("d_0", Level.MESSAGE, Kind.EXACT),
    THREAD[1].replace("a", "\uff41").replace("e", "e\u200b"): ("d_0", Level.MESSAGE, Kind.EXACT),
    f"speaker_2: @speaker_1 {THREAD[1]}": ("d_0", Level.MESSAGE, Kind.EXACT),
    f"[+5m] <@p_0123456789> {THREAD[1]}": ("d_0", Level.MESSAGE, Kind.EXACT),
    THREAD[1].replace(" ", ", "): ("d_0", Level.MESSAGE, Kind.EXACT),
}

NOT_LONG_ENOUGH: dict[str, str] = {
    "a stock phrase": STOCK,
    "two stock phrases": f"{STOCK} then\nit was nice chatting with all of you",
    "eleven words in a row": " ".join(QUERY.split()[5:16]),
    "eleven and three words": " ".join([*QUERY.split()[:11], "something", "else", *QUERY.split()[20:23]]),
    "the same words in another order": " ".join(sorted(QUERY.split())),
    "a phrase said again and again": " ".join([*THREAD[0].split()[:6]] * 8),
}
