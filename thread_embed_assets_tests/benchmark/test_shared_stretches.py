from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thread_embed_assets.benchmark.shared_stretches import Kind, Level, StretchIndex, matches, shingled_texts
from thread_embed_assets_tests.benchmark.leaks import (
    LEAKS,
    NOT_LONG_ENOUGH,
    QUERY,
    STOCK,
    THREAD,
    VOCABULARY,
    message,
    one_in_six_changed,
)


def index(texts: Sequence[str]) -> StretchIndex:
    return StretchIndex.of([texts])


def matched(held_out: Sequence[str], training: Sequence[str]) -> set[tuple[int, int]]:
    return {(here, there) for here, there, _, _ in matches(shingled_texts(training), index(held_out))}


@pytest.mark.parametrize("text", LEAKS)
def test_one_planted_leak_is_enough(text: str) -> None:
    name, level, kind = LEAKS[text]
    expected = {("\n".join(THREAD), QUERY).index(QUERY if name == "q_test" else "\n".join(THREAD))}
    hits = list(matches(shingled_texts([message("clean", 60), text]), index(["\n".join(THREAD), QUERY])))
    assert {(here, level, kind) for here, _, level, kind in hits} == {(1, level, kind)}
    assert {there for _, there, _, _ in hits} == expected


@pytest.mark.parametrize("phase", range(6))
def test_one_word_in_six_changed_is_caught_wherever_it_falls(phase: int) -> None:
    text = f"{message('before', 100)}\n{one_in_six_changed(THREAD[1], phase)}\n{message('after', 100)}"
    hits = matches(shingled_texts([text]), index(["\n".join(THREAD)]))
    assert list(hits) == [(0, 0, Level.MESSAGE, Kind.NEAR)]


def test_a_training_text_that_is_nearly_a_part_of_a_long_message_is_caught() -> None:
    long = message("long", 300)
    assert matched([long], [one_in_six_changed(" ".join(long.split()[100:130]))]) == {(0, 0)}


@pytest.mark.parametrize("what", NOT_LONG_ENOUGH)
def test_short_phrases_do_not_count(what: str) -> None:
    others = [f"{message('x')}\n{STOCK}\n{message('y', 9)} it was nice chatting with all of you", STOCK]
    text = f"{message('around', 12)} {NOT_LONG_ENOUGH[what]} {message('it', 12)}"
    assert matched(["\n".join(THREAD), QUERY, *others], [text]) == set()


def test_a_whole_message_of_eight_words_counts_and_one_of_seven_does_not() -> None:
    eight, seven = message("eight", 8), message("seven", 7)
    held_out = [f"{message('x')}\n{eight}\n{seven}\n{message('y')}"]
    assert matched(held_out, [f"{message('around')}\n{eight}\n{message('it')}\n{seven}"]) == {(0, 0)}
    assert matched(held_out, [f"{message('around')}\n{seven}\n{message('it')}"]) == set()
    assert matched(held_out, [f"{message('around')} {eight} {message('it')}"]) == set()


def test_chinese_is_compared_by_its_characters() -> None:
    line = "".join(chr(0x4E00 + 7 * n) for n in range(40))
    assert matched([line], [f"\u4f60\u597d{line[4:16]}\u518d\u89c1"]) == {(0, 0)}
    assert matched([line], [f"\u4f60\u597d{line[4:15]}\u518d\u89c1"]) == set()


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_run_of_twelve_words_is_caught_in_any_training_text(data: st.DataObject) -> None:
    words = st.sampled_from([*VOCABULARY[:4], "Straße", "naïve", "ﬁne", "don't", "x_1", "한국어", "İstanbul", "Σίσυφος"])
    lines = st.lists(st.lists(words, max_size=30).map(" ".join), max_size=6).map("\n".join)
    said = data.draw(st.lists(words, min_size=12, max_size=60))
    start = data.draw(st.integers(0, len(said) - 12))
    before, after = data.draw(lines), data.draw(lines)
    between = data.draw(st.sampled_from([" ", "\n", "  ", " \t", "\u00a0", ", "]))
    change = data.draw(st.sampled_from(["lower", "upper", "swapcase", "casefold"]))
    copy = between.join(getattr(word, change)() for word in said[start : start + 12])
    texts = data.draw(st.lists(lines, max_size=3))
    held_out = index([*data.draw(st.lists(lines, max_size=3)), f"{data.draw(lines)}\n{' '.join(said)}\n{data.draw(lines)}"])
    training = [*texts, f"{before}\n{copy} {after}"]
    hits = matches(shingled_texts(training), held_out)
    last = len(held_out.texts.ends) - 1
    assert (len(texts), last) in {(here, there) for here, there, _, _ in hits}


def test_texts_of_a_batch_do_not_run_into_one_another() -> None:
    long = message("long", 40).split()
    assert matched([" ".join(long)], ["", " ".join(long[:8]), " ".join(long[8:16]), "..."]) == set()
    assert matched([" ".join(long[:8]), "", " ".join(long[8:16])], [" ".join(long)]) == set()
    assert matched(["", "!", " ".join(long)], ["", " ".join(long[:12])]) == {(1, 2)}


def test_a_text_of_one_word_again_and_again_costs_little_memory() -> None:
    spam = "ha " * 20_000
    tracemalloc.start()
    assert matched([spam, message("a")], [spam, message("b")]) == {(0, 0)}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20
