from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.pairs import thread
from thread_embed_assets_tests.chat.planted import Stored, sentences

from .made import SIZES, as_read, talks


@given(talk=talks(), seed=st.integers())
def test_windows_have_allowed_sizes_and_share_no_message(talk: StoredConversation, seed: int) -> None:
    count = len(talk.messages)
    for candidate in thread.make(talk, SIZES, Random(seed)):
        anchor, positive = list(candidate.anchor), list(candidate.positive)
        assert set(anchor).isdisjoint(positive)
        assert sorted({*anchor, *positive}) == sorted([*anchor, *positive])
        assert anchor == sorted(anchor)
        assert positive == sorted(positive)
        assert min(*anchor, *positive) >= 0
        assert max(*anchor, *positive) < count
        assert len(anchor) in (1, *SIZES)
        assert len(positive) in SIZES


@given(seed=st.integers())
def test_a_long_thread_gives_windows_and_messages(seed: int) -> None:
    found = list(thread.make(as_read(Stored("c", sentences(30, "long"))), SIZES, Random(seed)))
    windows = [c for c in found if len(c.anchor) > 1]
    singles = [c for c in found if len(c.anchor) == 1]
    assert 3 <= len(windows) <= 10
    covered = [i for c in windows for i in c.anchor]
    assert len(covered) == len(set(covered)) >= 28
    assert all(list(c.positive) in [list(w.anchor) for w in windows] for c in windows)
    assert len(singles) == 10
    assert len({c.anchor for c in singles}) == 10
    for c in singles:
        around = [*c.anchor, *c.positive]
        assert max(around) - min(around) <= len(c.positive)


def test_a_message_that_says_little_is_no_anchor() -> None:
    talk = as_read(Stored("c", ["ok then", "yes it is", *sentences(1, "one"), "so", "no", "fine"]))
    singles = {c.anchor for seed in range(20) for c in thread.make(talk, SIZES, Random(seed)) if len(c.anchor) == 1}
    assert singles == {(2,)}


def test_the_shortest_threads() -> None:
    for count, expected in ((1, 0), (2, 0), (3, 0), (4, 1)):
        talk = as_read(Stored("c", sentences(count, "short")))
        assert len(list(thread.make(talk, SIZES, Random(1)))) == expected


def test_the_draw_decides() -> None:
    talk = as_read(Stored("c", sentences(40, "long")))
    one, two, other = (list(thread.make(talk, SIZES, Random(seed))) for seed in (1, 1, 2))
    assert one == two != other
