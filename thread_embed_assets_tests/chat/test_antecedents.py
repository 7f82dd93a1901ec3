from __future__ import annotations

import math

import numpy as np
import pytest

from thread_embed_assets.chat.antecedents import CUES, PAIRS, PAUSE, STARTS, WINDOW, Features, Reader
from thread_embed_assets.chat.model import Kind, Message

from .talks import MINUTE, START, said


def read(lines: list[tuple[str, str]], apart: float = 20.0) -> Features:
    return Reader().read(said(lines, apart), [()] * len(lines))


def pair(features: Features, name: str, message: int, candidate: int) -> float:
    return float(features.pairs[list(PAIRS).index(name), message, message - candidate - 1])


def cue(features: Features, name: str, message: int) -> float:
    return float(features.cues[WINDOW + message, list(CUES).index(name)])


def start(features: Features, name: str, message: int) -> float:
    return float(features.starts[message, list(STARTS).index(name)])


def test_who_addresses_whom() -> None:
    features = read(
        [
            ("arvel", "is the printer on?"),
            ("brisca", "arvel: which printer?"),
            ("arvel", "brisca: the big one"),
            ("corvin", "arvel: the big one is broken"),
            ("brisca", "it was on yesterday"),
        ]
    )
    assert pair(features, "addresses", 1, 0) == 1.0
    assert pair(features, "addressed by", 2, 1) == 1.0
    assert pair(features, "addressed by", 2, 0) == 0.0
    assert pair(features, "another to the same", 3, 1) == 1.0
    assert pair(features, "addresses another", 3, 1) == 1.0
    assert pair(features, "same speaker", 2, 0) == 1.0
    assert pair(features, "speaker's latest", 3, 2) == 1.0
    assert pair(features, "speaker's latest", 3, 0) == 0.0
    assert pair(features, "nearest addressed", 3, 2) == 1.0
    assert pair(features, "nearest addressed", 3, 0) == 0.0
    assert pair(features, "answered", 3, 0) == 1.0
    assert pair(features, "answered", 2, 1) == 0.0, "the answer itself does not count"
    assert pair(features, "spoken since", 4, 0) == 1.0
    assert pair(features, "spoken since", 4, 2) == 0.0
    assert [pair(features, "heir", 4, n) for n in range(4)] == [1.0, 0.0, 1.0, 0.0], "brisca talked to arvel before"
    assert pair(features, "nearest heir", 4, 2) == 1.0
    assert [pair(features, "caller", 4, n) for n in range(4)] == [1.0, 0.0, 1.0, 0.0]
    assert [start(features, "addressed, not answered", n) for n in range(5)] == [0.0, 0.0, 1.0, 0.0, 1.0]
    assert [cue(features, "new speaker", n) for n in range(5)] == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert [cue(features, "opens as question", n) for n in range(5)] == [1.0, 1.0, 0.0, 0.0, 0.0], "after the name"


@pytest.mark.parametrize(
    ("author", "text", "named"),
    [
        ("_ivory_", "ivory: yes", True),
        ("Ada Lowe", "Ada Lowe: yes", True),
        ("Ada Lowe", "so what does ada say?", True),
        ("Ada Lowe", "<@Ada Lowe> yes", True),
        ("fenwick", "ask fenwick about it", True),
        ("fenwick", "ask fenwicks about it", False),
        ("bo", "bo: yes", True),
        ("bo", "this is bo", False),
        ("will", "it will work", False),
        ("will", "will, try this", True),
        ("will", "try <@will>", True),
        ("ubuntu", "http://ubuntu: see", False),
    ],
)
def test_names_are_found_in_texts(author: str, text: str, named: bool) -> None:
    features = read([(author, "hello"), ("brisca", text)])
    assert bool(pair(features, "addresses", 1, 0)) == named
    assert bool(cue(features, "addresses somebody", 1)) == named


def test_a_marked_reply_counts_as_addressing() -> None:
    messages = said([("arvel", "hello"), ("brisca", "yes"), ("arvel", "and now?")])
    features = Reader().read(messages, [(), ("arvel",), ("gone",)])
    assert pair(features, "addresses", 1, 0) == 1.0
    assert pair(features, "addressed by", 2, 1) == 1.0
    assert cue(features, "addresses somebody", 2) == 0.0


def test_shared_words_weigh_more_the_rarer_they_are() -> None:
    features = read(
        [
            ("arvel", "spooler cartridge"),
            ("brisca", "spooler"),
            ("corvin", "the weather"),
            ("dellwyn", "cartridge spooler, the weather"),
        ]
    )
    once, twice = (math.log2(1 + WINDOW / said) / 7 for said in (1, 2))
    assert pair(features, "rare shared words", 3, 0) == pytest.approx(once + twice)
    assert pair(features, "rare shared words", 3, 1) == pytest.approx(twice)
    assert pair(features, "rare shared words", 3, 2) == pytest.approx(once), "common words such as 'the' do not count"
    assert pair(features, "share of shared words", 3, 0) == pytest.approx((once + twice) / math.sqrt(2 * 3))
    assert pair(features, "rare shared words", 2, 0) == 0.0
    far = read([("arvel", "spooler"), *[("brisca", "hm")] * WINDOW, ("corvin", "spooler")])
    assert start(far, "most shared words", WINDOW + 1) == 0.0


def test_candidates_are_as_many_as_there_are_and_none_before_a_pause() -> None:
    lines = [("arvel", f"w{n}") for n in range(WINDOW + 20)]
    features = read(lines)
    assert features.near.sum(axis=1).tolist() == [min(n, WINDOW) for n in range(len(lines))]
    assert not features.pairs[:, ~features.near].any()
    messages = said(lines)
    for message in messages[30:]:
        message.time = (message.time or 0.0) + PAUSE
    late = Reader().read(messages, [()] * len(messages))
    assert late.near.sum(axis=1)[[29, 30, 31]].tolist() == [29, 0, 1]
    assert start(late, "nothing before", 30) == 1.0


def test_times_count_in_whole_minutes_from_the_clock() -> None:
    features = read([("arvel", "a"), ("brisca", "b"), ("corvin", "c")], apart=MINUTE / 2)
    assert START % MINUTE == 40.0
    assert [pair(features, "same minute", 1, 0), pair(features, "same minute", 2, 1)] == [0.0, 1.0]
    assert pair(features, "time", 2, 0) == pytest.approx(1 / 7), "log2(1 + 1 minute) / 7"


def test_blocks_do_not_show() -> None:
    lines = [(f"n{n % 5}ce", f"n{(n + 2) % 5}ce: word{n % 11} is it?") for n in range(90)]
    whole = read(lines)
    reader, messages = Reader(), said(lines)
    parts = [reader.read(messages[n : n + 13], [()] * len(messages[n : n + 13])) for n in range(0, 90, 13)]
    assert np.array_equal(np.concatenate([part.pairs for part in parts], axis=1), whole.pairs)
    assert np.array_equal(np.concatenate([part.starts for part in parts]), whole.starts)
    assert np.array_equal(np.concatenate([part.cues[WINDOW:] for part in parts]), whole.cues[WINDOW:])
    assert np.array_equal(parts[1].cues[:WINDOW], np.concatenate([parts[0].cues, parts[1].cues[WINDOW:]])[13 : WINDOW + 13])


def test_bots_and_commands() -> None:
    messages = said([("arvel", "!paper"), ("helpful", "Paper is in the tray")])
    messages[1].kind = Kind.BOT
    features = Reader().read(messages, [(), ()])
    assert [cue(features, "bot", n) for n in (0, 1)] == [0.0, 1.0]
    assert pair(features, "nearest command", 1, 0) == 1.0


def test_hostile_texts_are_read() -> None:
    texts = [
        "",
        " ",
        ":",
        ",,,",
        "@",
        "<@>",
        "<@a",
        "`" * 300,
        "a" * 50_000 + ":",
        "\x00\x03",
        "😀",
        "שלום: עולם",
        "@ " * 2_000,
    ]
    messages = [Message(str(n), text[:20], text, None) for n, text in enumerate(texts * 2)]
    features = Reader().read(messages, [()] * len(messages))
    assert np.isfinite(features.pairs).all()
    assert np.isfinite(features.cues).all()
    assert np.isfinite(features.starts).all()
