from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.near_copies import (
    NEAR_SPAN,
    NEAR_WORDS,
    RUN_WORDS,
    HeldOutShingles,
    Marked,
    contained,
    one_line,
    shingled,
    shingles,
    similarity,
)
from thread_embed_assets.chat.windows import cut

from .planted import sentences

LINES = sentences(30, "held out")
FRESH = sentences(30, "fresh")
PEOPLE = ["p_00000000aa", "p_00000000bb", "p_00000000cc"]


def test_a_text_is_a_copy_of_itself_and_of_nothing_else() -> None:
    held_out = HeldOutShingles(LINES)
    assert [held_out.containment(line) for line in LINES] == [1.0] * 30
    assert not any(held_out.is_near_copy(line) for line in FRESH)


def test_a_quote_from_a_long_text_is_found_where_jaccard_finds_nothing() -> None:
    long = " ".join(LINES)
    quote = " ".join(long.split()[40:60])
    assert HeldOutShingles([long]).is_near_copy(quote)
    assert similarity(quote, long) < 0.3


def test_a_long_text_with_a_quote_inside_is_no_near_copy() -> None:
    held_out = HeldOutShingles(LINES[:1])
    assert not held_out.is_near_copy(" ".join([*FRESH[:5], LINES[0]]))


def test_small_changes_are_still_near_copies() -> None:
    text = " ".join(LINES[:3])
    words = text.split()
    words[20] = "changed"
    assert HeldOutShingles([text]).is_near_copy(" ".join(words).upper() + "!!")
    words[5::10] = ["changed"] * len(words[5::10])
    assert not HeldOutShingles([text]).is_near_copy(" ".join(words))


@given(words=st.lists(st.sampled_from(["what", "version", "are", "you", "on", "now"]), max_size=7))
def test_short_texts_are_never_near_copies(words: list[str]) -> None:
    text = " ".join(words)
    held_out = HeldOutShingles([text, *LINES])
    assert held_out.containment(text) == 0.0
    assert not held_out.is_near_copy(text)


def test_eight_words_are_enough() -> None:
    text = " ".join(LINES[0].split()[:8])
    assert len(shingles(text)) == 4
    assert HeldOutShingles(LINES).is_near_copy(text)


@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_shingles_are_the_same_whatever_the_window_and_the_format(seed: int, count: int) -> None:
    draw = Random(seed)
    said = [
        Message(str(n), draw.choice(PEOPLE), f"<@{draw.choice(PEOPLE)}>: {line} <@{PEOPLE[0]}> ok", 600.0 * n * n)
        for n, line in enumerate(LINES[:count])
    ]
    whole = sorted(h for m in said for h in shingles(m.text))
    assert len(whole) > 4 * count
    for text_format in FORMATS.values():
        assert sorted(shingles(text_format.render(said))) == whole
        pieces = [text_format.render(said[window.start : window.stop]) for window in cut(count, (1, 2, 3), draw)]
        assert sorted(h for piece in pieces for h in shingles(piece)) == whole


def test_a_label_inside_a_line_is_text() -> None:
    assert len(shingles("he wrote speaker_1: and then left again soon")) == 4


def test_a_conversation_leaks_by_half_of_it_or_by_one_message() -> None:
    held_out = HeldOutShingles(LINES[:6])
    assert held_out.leaks_conversation([LINES[0], FRESH[0], FRESH[1], FRESH[2]])
    assert not held_out.leaks_conversation(FRESH[:4])
    half = [" ".join([*line.split()[:9], *other.split()[:7]]) for line, other in zip(LINES[:6], FRESH, strict=False)]
    assert not any(map(held_out.is_near_copy, half))
    assert not held_out.leaks_conversation(half)
    more = [" ".join([*line.split()[:12], *other.split()[:5]]) for line, other in zip(LINES[:6], FRESH, strict=False)]
    assert not any(map(held_out.is_near_copy, more))
    assert held_out.leaks_conversation(more)


def test_nothing_held_out() -> None:
    empty = HeldOutShingles([])
    assert len(empty) == 0
    assert empty.hits(LINES[0]) == (0, len(shingles(LINES[0])))
    assert not empty.leaks_conversation(LINES[:3])
    assert HeldOutShingles(["a b"]).hits("") == (0, 0)


def test_a_union_holds_both() -> None:
    left, right = HeldOutShingles(LINES[:3]), HeldOutShingles(LINES[2:5])
    both = left | right
    assert all(both.is_near_copy(line) for line in LINES[:5])
    assert len(both) == len(HeldOutShingles(LINES[:5])) > len(left)
    assert not left.is_near_copy(LINES[4])


def test_containment_from_counts() -> None:
    assert [contained(3, 3), contained(4, 4), contained(1, 4), contained(0, 0)] == [0.0, 1.0, 0.25, 0.0]


@given(left=st.text(max_size=20), right=st.text(max_size=20))
def test_similarity_is_symmetric_and_bounded(left: str, right: str) -> None:
    assert 0 <= similarity(left, right) == similarity(right, left) <= 1
    assert similarity(left, left.upper().lower()) == 1.0 or left.lower() != left.upper().lower()


def test_similarity_counts_words() -> None:
    assert similarity("the red kettle", "Red kettle, the!") == 1.0
    assert similarity("a b c d", "a b x y") == 2 / 6
    assert similarity("a b", "c d") == 0.0


def _five_words(text: str) -> list[tuple[str, ...]]:
    """What is hashed, written plainly."""
    lines = (re.findall(r"\w+", line) for line in text.lower().split("\n"))
    return [tuple(words[n : n + 5]) for words in lines for n in range(len(words) - 4)]


_WORDS = ["one", "two", "One", "ünter", "ΣΑΣ", "naïve", "3rd", "_x"]
_PIECES = st.sampled_from([*_WORDS, " ", " ", " ", "\n", ", ", "\x00", "\xff", "🎉", "\ud800"])
_TEXTS = st.lists(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=60), max_size=12)


@given(texts=_TEXTS)
def test_texts_hashed_together_give_what_each_gives_alone(texts: list[str]) -> None:
    hashed = shingled(texts)
    for kind, ends in ((hashed.shingles, hashed.ends), (hashed.words, hashed.word_ends)):
        assert len(ends) == len(texts)
        assert len(kind) == (ends[-1] if texts else 0)
    pieces = [hashed.shingles[start:end].tolist() for start, end in pairwise([0, *hashed.ends.tolist()])]
    assert pieces == [shingles(text) for text in texts]
    words = [len(re.findall(r"\w+", text.lower())) for text in texts]
    assert np.diff(hashed.word_ends, prepend=0).tolist() == words


@given(texts=_TEXTS)
def test_equal_hashes_are_equal_words_in_equal_order(texts: list[str]) -> None:
    said = [five for text in texts for five in _five_words(text)]
    hashes = shingled(texts).shingles.tolist()
    assert len(hashes) == len(said)
    assert len(set(zip(hashes, said, strict=True))) == len(set(hashes)) == len(set(said))


@given(words=st.permutations(["the", "kettle", "is", "not", "here"]))
def test_word_order_matters(words: list[str]) -> None:
    text = " ".join(words)
    assert (shingles(text) == shingles("the kettle is not here")) == (text == "the kettle is not here")


@given(seed=st.integers(0, 200))
def test_a_shuffled_text_is_no_near_copy(seed: int) -> None:
    words = " ".join(LINES).split()
    Random(seed).shuffle(words)
    assert HeldOutShingles(LINES).containment(" ".join(words)) < 0.1


@given(seed=st.integers(0, 1000))
def test_any_cut_of_held_out_messages_is_contained_whole(seed: int) -> None:
    draw = Random(seed)
    held_out = HeldOutShingles(["\n".join(LINES)])
    for window in cut(len(LINES), (1, 2, 3, 5), draw):
        assert held_out.containment("\n".join(LINES[window.start : window.stop])) == 1.0


def test_a_text_longer_than_the_powers_that_are_kept() -> None:
    lines = sentences(8_000, "long")
    assert sum(map(len, lines)) > 1 << 19
    assert shingles("\n".join(lines)) == shingled(lines).shingles.tolist()


def test_hashes_are_the_same_in_every_process_and_every_version() -> None:
    text = "The naïve kettle, is NOT here today"
    code = f"from thread_embed_assets.chat.near_copies import shingles; print(shingles({text!r}))"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert json.loads(done.stdout) == shingles(text)
    assert shingles(text) == [14267155852421928876, 15426399715803750191, 5514137927269995239]


@given(known=st.lists(st.integers(0, 2**64 - 1), max_size=50), others=st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_found_is_membership(known: list[int], others: list[int]) -> None:
    held_out = HeldOutShingles()
    held_out.add_hashes(np.array(known, dtype=np.uint64))
    asked = [*others, *known, *(k ^ 1 for k in known)]
    assert held_out.found(np.array(asked, dtype=np.uint64)).tolist() == [hash_ in set(known) for hash_ in asked]
    assert len(held_out) == len(set(known))


def test_no_stranger_passes_the_filter_of_a_large_set() -> None:
    draw = np.random.default_rng(1)
    known, strangers = draw.integers(0, 2**64, (2, 100_000), dtype=np.uint64)
    held_out = HeldOutShingles()
    for part in np.split(known, 10):
        held_out.add_hashes(part)
    assert held_out.found(known).all()
    assert not held_out.found(strangers).any()


def test_what_is_saved_is_shared_by_name(tmp_path: Path) -> None:
    held_out = HeldOutShingles(LINES)
    counts = held_out.hits_of_each([*LINES, *FRESH])
    held_out.save(tmp_path / "held_out.npy")
    loaded = HeldOutShingles.load(tmp_path / "held_out.npy")
    assert not loaded._known.flags.writeable  # mapped, not read
    pickled = pickle.dumps(loaded)
    assert len(pickled) < 300 > len(pickle.dumps(held_out))
    for same in (loaded, pickle.loads(pickled), HeldOutShingles.load(tmp_path / "held_out.npy", mmap=False)):
        assert same.hits_of_each([*LINES, *FRESH]) == counts
    loaded.add(FRESH)
    changed = pickle.loads(pickle.dumps(loaded))
    assert all(changed.is_near_copy(line) for line in [*LINES, *FRESH])
    assert not HeldOutShingles.load(tmp_path / "held_out.npy").is_near_copy(FRESH[0])


def test_nothing_held_out_can_be_saved(tmp_path: Path) -> None:
    HeldOutShingles().save(tmp_path / "empty.npy")
    assert HeldOutShingles.load(tmp_path / "empty.npy").hits(LINES[0]) == (0, len(shingles(LINES[0])))


def _words(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def _mark(held_out: str, *messages: str) -> Marked | None:
    (marked,) = HeldOutShingles([held_out]).mark_each([messages])
    return marked


HELD = _words("held", 40)
OWN = _words("own", 60)


def test_a_run_of_twelve_words_makes_a_copy_and_eleven_do_not() -> None:
    for count, copied in ((RUN_WORDS, True), (RUN_WORDS - 1, False)):
        marked = _mark(" ".join(HELD), " ".join([*OWN[:20], *HELD[7 : 7 + count], *OWN[20:40]]))
        assert marked is not None
        assert marked.copies([0]) is copied


def test_a_run_that_crosses_messages_and_lines_is_seen() -> None:
    held_out = one_line([" ".join(HELD[:20]), " ".join(HELD[20:])])
    messages = [" ".join(OWN[:9]), " ".join(HELD[14:18]) + "\n" + " ".join(HELD[18:22]), " ".join(HELD[22:26])]
    marked = _mark(held_out, *messages)
    assert marked is not None
    assert marked.copies([0, 1, 2])
    assert marked.copies([1, 2])
    assert not marked.copies([0])
    assert not marked.copies([2])


def test_stretches_close_together_add_up_and_far_apart_they_do_not() -> None:
    stretches = [HELD[n : n + 5] for n in (0, 10, 20)]
    assert sum(map(len, stretches)) == NEAR_WORDS
    for gap, copied in ((3, True), (NEAR_SPAN, False)):
        fillers = iter(_words("filler", 3 * gap))
        text = [word for stretch in stretches for word in (*stretch, *(next(fillers) for _ in range(gap)))]
        marked = _mark(" ".join(HELD), " ".join([*OWN, *text, *OWN]))
        assert marked is not None
        assert marked.copies([0]) is copied


def test_a_short_message_copied_whole_counts_and_a_shorter_one_does_not() -> None:
    for count, copied in ((8, True), (7, False)):
        marked = _mark(" ".join(HELD), " ".join(OWN), " ".join(HELD[:count]), " ".join(OWN[::-1]))
        assert marked is not None
        assert marked.copies([0, 1, 2]) is copied


def test_a_conversation_that_says_nothing_held_out_has_no_mark() -> None:
    assert _mark(" ".join(HELD), " ".join(OWN), " ".join(HELD[:4])) is None
    assert HeldOutShingles().mark_each([[" ".join(OWN)], []]) == [None, None]


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_conversations_marked_together_are_as_each_is_alone(seed: int, count: int) -> None:
    draw = Random(seed)
    held_out = HeldOutShingles(LINES)
    conversations = [
        [draw.choice((LINES, FRESH))[draw.randrange(30)] for _ in range(draw.randrange(5))] for _ in range(count)
    ]
    together = held_out.mark_each(conversations)
    for marked, texts in zip(together, conversations, strict=True):
        (alone,) = held_out.mark_each([texts])
        assert (marked is None) == (alone is None)
        if marked is not None and alone is not None:
            assert marked.held_out.tolist() == alone.held_out.tolist()
            assert marked.ends.tolist() == alone.ends.tolist()
            assert [marked.copies([n]) for n in range(len(texts))] == [text in LINES for text in texts]
