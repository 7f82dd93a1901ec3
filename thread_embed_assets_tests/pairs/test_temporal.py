from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.pairs import temporal
from thread_embed_assets_tests.chat.planted import Stored

from .made import SIZES, as_read, talks


@given(talk=talks(), seed=st.integers())
def test_the_positive_follows_the_anchor_at_once(talk: StoredConversation, seed: int) -> None:
    found = list(temporal.make(talk, SIZES, Random(seed)))
    assert bool(found) == (len(talk.messages) >= 6)
    for c in found:
        assert len(c.anchor) in SIZES
        assert len(c.positive) in SIZES
        both = [*c.anchor, *c.positive]
        assert both == list(range(both[0], both[0] + len(both)))
        assert both[0] >= 0
        assert both[-1] < len(talk.messages)


def test_a_short_thread_is_cut_once_at_any_allowed_place() -> None:
    talk = as_read(Stored("c", [f"line {n}" for n in range(10)]))
    cuts = set()
    for seed in range(60):
        (only,) = temporal.make(talk, SIZES, Random(seed))
        assert len(only.anchor) + len(only.positive) == 10 or 8 in (len(only.anchor), len(only.positive))
        cuts.add(only.positive[0])
    assert cuts == {3, 4, 5, 6, 7}


def test_windows_of_a_long_thread_form_a_chain() -> None:
    talk = as_read(Stored("c", [f"line {n}" for n in range(60)]))
    found = list(temporal.make(talk, SIZES, Random(5)))
    assert len(found) >= 6
    assert all(list(one.positive) == list(two.anchor) for one, two in pairwise(found))
