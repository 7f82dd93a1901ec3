from __future__ import annotations

import pytest

from thread_embed_assets.benchmark.by_window import placed_windows, windows
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.search.matches import Line, in_context, lines_of, nearest

ADA, BO = "p_00000000aa", "p_00000000bb"
SHOWN = {ADA: "Ada", BO: "Bo"}


def said(*texts: str) -> list[Message]:
    return [Message(f"m{n}", (ADA, BO)[n % 2], text, 60.0 * n) for n, text in enumerate(texts)]


def matching(lines: tuple[Line, ...]) -> list[int]:
    return [place for place, line in enumerate(lines) if line.matches]


def test_lines_with_the_words_that_are_worth_most_match_and_the_words_are_marked() -> None:
    messages = said("the deploy is slow", f"<@{ADA}> Deploy-lock held by migration", "ok", "deploy", "migration deploy")
    lines = lines_of(messages, SHOWN, {"deploy": 0.5, "migration": 3.0}, frozenset())
    assert matching(lines) == [1, 4]
    assert matching(lines_of(messages, SHOWN, {"deploy": 0.5, "migration": 3.0}, frozenset({0, 1}))) == [1, 4]
    assert matching(lines_of(messages, SHOWN, {"deploy": 0.5, "migration": 3.0}, frozenset({2, 3}))) == [1, 2, 3, 4]
    assert [lines[1].text[start:end] for start, end in lines[1].marks] == ["Deploy", "migration"]
    assert lines[1].text.startswith("@Ada Deploy-lock") and lines[1].author == "Bo"
    assert lines[2].marks == ()


def test_without_any_word_only_what_is_near_in_meaning_matches() -> None:
    assert matching(lines_of(said("one", "two", "three"), SHOWN, {}, frozenset({2}))) == [2]


def test_a_word_that_says_little_of_the_query_makes_no_match() -> None:
    assert matching(lines_of(said("last week", "no"), SHOWN, {"last": 0.5, "migration": 3.0}, frozenset({1}))) == [1]


def test_somebody_unknown_is_shown_as_somebody_and_never_by_an_id() -> None:
    [line] = lines_of([Message("m", "p_0000000000", "<@p_1234567890> hi")], {}, {}, frozenset())
    assert (line.author, line.text, line.sent_at) == ("somebody", "@somebody hi", None)


@pytest.mark.parametrize("text_format", FORMATS)
def test_a_window_leads_back_to_the_messages_that_stand_in_it(text_format: str) -> None:
    written = FORMATS[text_format]
    messages = said(*(f"message {n} says " + "word " * n + (f"\nand more of {n}." if n % 3 == 0 else "") for n in range(24)))
    text = written.render(messages)
    found = placed_windows(text)
    assert [window.text for window in found] == windows(text)
    assert len(found) > 10
    for number, window in enumerate(found):
        expected = {n for n in range(24) if f"message {n} says" in window.text or f"more of {n}." in window.text}
        assert nearest(messages, written, number) == expected


def test_a_blank_text_is_one_window() -> None:
    assert windows("") == [""] and windows(" " * 500) == [""]


def test_what_matches_is_shown_with_the_first_line_and_its_neighbours() -> None:
    lines = [Line(str(n), "Ada", None, f"line {n}", n in (5, 9)) for n in range(12)]
    assert [x if isinstance(x, int) else int(x.message_id) for x in in_context(lines, 7)] == [0, 3, 4, 5, 6, 1, 8, 9, 10, 1]
    shown = list(in_context(lines, 7))
    assert sum(isinstance(x, Line) for x in shown) == 7
    assert sum(1 if isinstance(x, Line) else x for x in shown) == 12
    assert [x.message_id for x in in_context(lines, 1) if isinstance(x, Line)] == ["5"]
    assert list(in_context(lines, 99)) == lines
    assert list(in_context([], 5)) == []
