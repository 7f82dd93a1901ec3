from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Thread
from thread_embed_assets.reranker.entities import rarity
from thread_embed_assets.reranker.features import (
    GOES_ON_SECONDS,
    HALF_LIFE_HOURS,
    NEW_THREAD_TEXT,
    READ,
    candidates_of,
    new_thread_features,
    structured_features,
    thread_text,
)

ANN, BO, CY = (f"p_{number:010x}" for number in (1, 2, 3))
HOUR = 3_600.0


def thread(*texts: str, time: float | None = 0.0, turns_since: int = 0, author: str = BO, title: str = "") -> Thread:
    """Messages a second apart, the last at ``time``."""
    times = [None if time is None else time - (len(texts) - 1 - n) for n in range(len(texts))]
    messages = [Message(f"t{n}", author, text, at) for n, (text, at) in enumerate(zip(texts, times, strict=True))]
    return Thread("t", messages, turns_since, title)


def feature(name: str, message: Message, of: Thread) -> float:
    return float(structured_features(message, of)[FEATURES.index(name)])


def asked(text: str, time: float | None = HOUR, author: str = ANN) -> Message:
    return Message("asked", author, text, time)


def test_features_are_in_their_order() -> None:
    found = structured_features(asked("hello", 24 * HOUR), thread("Norvik", turns_since=1))
    assert found.dtype == np.float32 and found.shape == (len(FEATURES),)
    assert found.tolist() == pytest.approx([0.0, 0.0, 0.25, 0.5, math.log(25)])


@pytest.mark.parametrize(
    ("text", "said", "wanted"),
    [
        ("is Norvik late?", ["the Norvik order"], 1.0),
        ("is norvik late?", ["the Norvik order"], 1.0),
        ("is norvik late?", ["the order"], 0.0),
        ("did Norvik get ABC-12", ["the Norvik order", "fine"], 0.5),
        ("so is it late?", ["the Norvik order"], 0.0),
        ("hollow creek is next", ["we begin", "at Hollow Creek"], 1.0),
    ],
)
def test_entity_overlap(text: str, said: Sequence[str], wanted: float) -> None:
    assert feature("entity_overlap", asked(text), thread(*said)) == pytest.approx(wanted)


def test_keyword_matches_weigh_by_rarity() -> None:
    said = thread("paint the scaffolding", "and the roof")
    share = feature("keyword_matches", asked("the scaffolding broke my ladder"), said)
    rare, other = rarity("scaffolding"), [rarity(word) for word in ("broke", "ladder")]
    assert share == pytest.approx(rare / (rare + sum(other))) and share > 1 / 3
    assert feature("keyword_matches", asked("roofs and paints"), said) == pytest.approx(1.0)
    assert feature("keyword_matches", asked("ok"), said) == 0.0
    assert feature("keyword_matches", asked("thats"), said) == 0.0, "a word as common as words get weighs nothing"


@pytest.mark.parametrize(
    ("text", "author", "seconds", "last", "fits"),
    [
        ("by noon", ANN, HOUR, "when is lunch?", True),  # an answer
        ("by noon", ANN, HOUR, "lunch is late", False),  # nothing to answer
        ("and where?", ANN, HOUR, "when is lunch?", False),  # a question to a question
        ("and where?", ANN, HOUR, f"<@{ANN}> lunch is late", False),  # who was addressed has not spoken
        ("by noon", BO, GOES_ON_SECONDS, "lunch is late", True),  # the same author goes on
        ("by noon", BO, GOES_ON_SECONDS + 1, "lunch is late", False),
        ("by noon", BO, GOES_ON_SECONDS + 1, "when is lunch?", False),  # nobody answers their own question
        (f"<@{BO}> and where?", ANN, HOUR, "lunch is late", True),  # somebody of the thread is addressed
        (f"<@{CY}> and where?", ANN, HOUR, "lunch is late", False),
    ],
)
def test_flow_is_halved_unless_the_turn_fits(text: str, author: str, seconds: float, last: str, fits: bool) -> None:
    for turns in (0, 3):
        found = feature("flow_continuity", asked(text, seconds, author), thread("so", last, turns_since=turns))
        assert found == pytest.approx(0.5**turns * (1.0 if fits else 0.5))


def test_whoever_took_part_may_be_addressed() -> None:
    said = Thread("t", [Message("1", CY, "lunch is late", 0.0), Message("2", BO, "it is", 1.0)])
    assert feature("flow_continuity", asked(f"<@{CY}> and where?"), said) == 1.0


def test_recency_halves_in_each_half_life() -> None:
    for half_lives in (0, 1, 2.5):
        message = asked("hello", half_lives * HALF_LIFE_HOURS * HOUR)
        assert feature("recency_score", message, thread("so")) == pytest.approx(0.5**half_lives)
        assert feature("hours_since_active", message, thread("so")) == pytest.approx(math.log1p(24 * half_lives))


@pytest.mark.parametrize(("sent", "last"), [(None, 0.0), (HOUR, None), (None, None)])
def test_without_times_a_turn_is_a_minute(sent: float | None, last: float | None) -> None:
    message = asked("by noon", sent, BO)
    assert feature("hours_since_active", message, thread("so", time=last, turns_since=90)) == pytest.approx(math.log1p(1.5))
    assert feature("flow_continuity", message, thread("so", time=last, turns_since=5)) == 0.5**5
    assert feature("flow_continuity", message, thread("so", time=last, turns_since=6)) == 0.5**7


def test_a_feature_from_the_future_is_refused() -> None:
    assert structured_features(asked("hello", 5.0), thread("so", time=5.0)).all() is not None
    with pytest.raises(ValueError, match="from the future"):
        structured_features(asked("hello", 5.0), thread("so", "well", time=5.5))
    planted = Thread("t", [Message("1", BO, "so", 1.0), Message("2", BO, "leak", 9.0), Message("3", BO, "well", 2.0)])
    with pytest.raises(ValueError, match=r"thread t goes on 4 s after message asked"):
        candidates_of(asked("hello", 5.0), [thread("fine"), planted])
    with pytest.raises(ValueError, match="itself"):
        structured_features(asked("hello", 5.0), Thread("t", [Message("1", BO, "so", 1.0), asked("hello", 5.0)]))


def test_of_a_long_thread_the_first_and_the_last_messages_are_read() -> None:
    names = [f"Norvik{n}" for n in range(READ + 2)]
    long = thread(*(f"about {name}" for name in names))
    found = [feature("entity_overlap", asked(f"and {name}"), long) for name in names]
    assert found == [1.0, 0.0, 0.0, *[1.0] * (READ - 1)]
    short = thread(*(f"about {name}" for name in names[:READ]))
    assert all(feature("entity_overlap", asked(f"and {name}"), short) for name in names[:READ])


def test_a_new_thread_has_the_best_of_the_others() -> None:
    others = [np.array(row, dtype=np.float32) for row in ([0.2, 0.9, 0.5, 0.1, 4.0], [0.3, 0.1, 0.0, 0.7, 0.4])]
    assert new_thread_features(others).tolist() == pytest.approx([0.3, 0.9, 0.5, 0.7, 0.4])
    assert others[0].tolist() == pytest.approx([0.2, 0.9, 0.5, 0.1, 4.0]), "the others have been changed"
    alone = new_thread_features([])
    assert alone.dtype == np.float32 and alone[:4].tolist() == [0.0] * 4 and alone[4] > math.log1p(24 * 300)


def test_candidates_keep_the_order_of_threads_and_end_with_a_new_one() -> None:
    threads = [Thread("b", [Message("1", BO, "the roof", 0.0)]), Thread("a", [Message("2", BO, "Norvik", 1.0)], 1)]
    message = asked("norvik?")
    found = candidates_of(message, threads)
    assert [(c.id, c.text) for c in found] == [("b", "the roof"), ("a", "Norvik"), (NEW_THREAD, NEW_THREAD_TEXT)]
    for candidate, one in zip(found, threads, strict=False):
        assert candidate.features.tolist() == structured_features(message, one).tolist()
    assert found[-1].features.tolist() == new_thread_features([c.features for c in found[:-1]]).tolist()
    assert [c.id for c in candidates_of(message, [])] == [NEW_THREAD]


def test_the_text_is_the_title_the_first_line_and_the_newest_that_fit() -> None:
    said = thread(
        "the roof\nleaks", f"<@{CY}>: since when?", "old news " * 9, "since May", f"thanks <@{CY}>", title=" Roof  job "
    )
    assert thread_text(said) == f"Roof job\nthe roof leaks\nsince when?\n{'old news ' * 8}old news\nsince May\nthanks"
    assert thread_text(said, 60) == "Roof job\nthe roof leaks\nsince May\nthanks"
    assert thread_text(thread("the roof leaks")) == "the roof leaks"
    assert thread_text(thread("a" * 90, "b" * 90), 90) == "a" * 30 + "\n" + "b" * 59


@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=12), st.text(max_size=30), st.integers(9, 120), st.integers(0, 2_000)
)
def test_texts_fit_and_features_stay_in_range(texts: list[str], title: str, characters: int, turns: int) -> None:
    said = thread(*texts, title=title, turns_since=turns)
    assert len(thread_text(said, characters)) <= characters
    found = structured_features(asked(texts[-1]), said)
    assert np.isfinite(found).all() and (found >= 0).all() and (found[:4] <= 1).all()
