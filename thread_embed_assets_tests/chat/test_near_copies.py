from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.near_copies import HeldOutShingles, contained, shingles, similarity
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
