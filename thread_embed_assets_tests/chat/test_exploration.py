from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from thread_embed_assets.chat.exploration import (
    EXAMPLE_CHARACTERS,
    EXAMPLE_MESSAGES,
    EXAMPLES,
    FIGURES_FILE,
    ChannelSize,
    SourceFigures,
    SplitSize,
    cut,
    explore,
    figures_to_json,
    read_figures,
)
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets_tests.chat.planted import DAY, NOON, Stored, sentences, store

ADA, BO, CY = "p_00000000aa", "p_00000000bb", "p_00000000cc"
LANGUAGES = {"language_en": 5, "language_de": 1}
COUNTS = {"parsed_conversations": 8, "dropped_too_few_messages": 4, "kept_conversations": 4, **LANGUAGES}


@pytest.fixture
def stored(tmp_path: Path) -> Normalised:
    """Three timed conversations in two rooms and one without times, all of known size."""
    texts = ["one two three", f"<@{ADA}> yes", "four"]
    links = ["see [URL] and [URL]", "mail [EMAIL] or [PHONE], not [SIC]"]
    code = ["run `make` now", "```\na\nb\n```", "so ` it is"]
    conversations = [
        Stored("c1", texts, people=[ADA, BO], parents=[[], [0], [0, 1]], channel="attic"),
        Stored("c2", links, start=NOON + DAY, step=3_600.0, people=[CY]),
        Stored("c3", code, split="test", start=NOON + 2 * DAY, people=[BO, CY]),
        Stored("c4", ["x" * 1_234, "a [EMAIL]"], split="dev", start=None, people=[ADA, BO]),
    ]
    return store(tmp_path / "made.duckdb", conversations, COUNTS)


@pytest.fixture
def figures(stored: Normalised) -> SourceFigures:
    return explore(stored)


def test_what_is_there_is_counted(figures: SourceFigures) -> None:
    assert (figures.source, figures.platform) == ("made", "slack")
    assert (figures.conversations, figures.messages, figures.people, figures.channels) == (4, 10, 3, 2)
    assert figures.truths == {"explicit": 4}
    assert figures.splits == (
        SplitSize("train", 2, 5, 3, 2),
        SplitSize("dev", 1, 2, 2, 1),
        SplitSize("test", 1, 3, 2, 1),
    )
    assert figures.largest_channels == (ChannelSize("general", 3, 7), ChannelSize("attic", 1, 3))
    assert figures.counts == COUNTS and figures.removed_share == 0.5


def test_sizes_and_lengths_are_spread_as_they_are(figures: SourceFigures) -> None:
    assert (figures.messages_per_conversation.values, figures.messages_per_conversation.counts) == ((2, 3), (2, 2))
    assert (figures.people_per_conversation.values, figures.people_per_conversation.counts) == ((1, 2), (1, 3))
    assert (figures.messages_per_person.values, figures.messages_per_person.counts) == ((3, 4), (2, 1))
    words = figures.words_per_message
    assert dict(zip(words.values, words.counts, strict=True)) == {1: 2, 2: 2, 3: 2, 4: 3, 6: 1}
    characters = figures.characters_per_message
    assert (characters.values[0], characters.values[-1], characters.largest) == (4, 1_230, 1_234.0)
    assert 5 in characters.values, "a mention is one character"


def test_contents_are_found(figures: SourceFigures) -> None:
    assert (figures.with_parent, figures.with_code, figures.with_url, figures.with_mention) == (2, 2, 1, 1)
    assert figures.masks == {"[EMAIL]": 2, "[PHONE]": 1}


def test_times_are_told_apart_from_their_absence(figures: SourceFigures) -> None:
    assert figures.first == datetime.fromtimestamp(NOON, UTC)
    assert figures.last == datetime.fromtimestamp(NOON + 2 * DAY + 120, UTC)
    gaps, spans = figures.gap_seconds, figures.conversation_seconds
    assert gaps is not None and spans is not None
    assert (gaps.values, gaps.counts) == ((60, 3_600), (4, 1))
    assert (spans.values, spans.counts) == ((120, 3_600), (2, 1))
    assert figures.timeline_days == 1
    assert figures.timeline == {date(2020, 9, 13): 3, date(2020, 9, 14): 2, date(2020, 9, 15): 3}
    assert [sum(hours) for hours in figures.week] == [2, 3, 0, 0, 0, 0, 3], "a Sunday, a Monday and a Tuesday"
    assert figures.week[0][12:14] == (1, 1) and figures.week[6][12] == 3


def test_a_source_without_times_has_none(tmp_path: Path) -> None:
    figures = explore(store(tmp_path / "made.duckdb", [Stored("c1", sentences(3, "a"), start=None)]))
    assert figures.first is figures.last is figures.gap_seconds is figures.conversation_seconds is None
    assert figures.timeline == {} and figures.week == ()
    assert figures.removed_share is None


@pytest.mark.parametrize(("days", "width", "starts"), [(90, 1, 3), (300, 7, 3), (3_000, 28, 3)])
def test_the_longer_the_time_the_coarser_the_timeline(tmp_path: Path, days: int, width: int, starts: int) -> None:
    conversations = [Stored(f"c{n}", sentences(2, n), start=NOON + n * days * DAY / 2) for n in range(starts)]
    figures = explore(store(tmp_path / "made.duckdb", conversations))
    assert figures.timeline_days == width
    assert list(figures.timeline.values()) == [2, 2, 2]
    first = min(figures.timeline)
    assert first == {1: date(2020, 9, 13), 7: date(2020, 9, 7), 28: date(2020, 9, 1)}[width]


def test_a_clock_that_runs_backwards_gives_no_negative_gap(tmp_path: Path) -> None:
    figures = explore(store(tmp_path / "made.duckdb", [Stored("c1", sentences(3, "a"), step=-60.0)]))
    assert figures.gap_seconds is not None and figures.gap_seconds.values == (0,)


def test_languages_are_those_before_filtering_where_they_were_counted(figures: SourceFigures, tmp_path: Path) -> None:
    assert figures.languages == {"en": 5, "de": 1}
    uncounted = explore(store(tmp_path / "made.duckdb", [Stored("c1", sentences(3, "a")), Stored("c2", sentences(3, "b"))]))
    assert uncounted.languages == {"en": 2}
    assert (uncounted.language_percent.values, uncounted.language_percent.counts) == ((90,), (2,))


def test_examples_are_cut_numbered_and_never_held_out(tmp_path: Path) -> None:
    long = [f"<@{BO}> {'word ' * 100}", "two\nlines", *sentences(10, "more")]
    train = [Stored("t0", long, people=[ADA, BO], channel="attic")]
    train += [Stored(f"t{n}", sentences(4, f"t{n}")) for n in range(1, 30)]
    held_out = [Stored(f"h{n}", ["a held-out secret"] * 3, split=split) for n in range(90) for split in ("dev", "test")]
    held_out = [replace(stored, id=f"{stored.id}-{stored.split}") for stored in held_out]
    stored = store(tmp_path / "made.duckdb", [*held_out, *train])
    examples = explore(stored).examples
    assert len(examples) == EXAMPLES
    assert "secret" not in "".join(line for example in examples for line in example.lines)
    assert explore(stored).examples == examples
    only = explore(store(tmp_path / "one.duckdb", [*held_out, train[0]])).examples
    assert len(only) == 1 and (only[0].channel, only[0].messages, only[0].people) == ("attic", 12, 2)
    assert only[0].day == "2020-09-13" and len(only[0].lines) == EXAMPLE_MESSAGES
    assert only[0].lines[0].startswith("speaker_1: @speaker_2 word word") and len(only[0].lines[0]) <= EXAMPLE_CHARACTERS
    assert only[0].lines[1] == "speaker_2: two lines"


def test_other_conversations_are_drawn_than_the_first(tmp_path: Path) -> None:
    stored = store(tmp_path / "made.duckdb", [Stored(f"t{n:03}", [f"conversation {n}"] * 3) for n in range(100)])
    drawn = [example.lines[0] for example in explore(stored).examples]
    assert len(set(drawn)) == EXAMPLES
    assert not set(drawn) <= {f"speaker_1: conversation {n}" for n in range(30)}


def test_figures_come_back_from_their_file(figures: SourceFigures, tmp_path: Path) -> None:
    (tmp_path / FIGURES_FILE).write_text(figures_to_json(figures), encoding="utf-8")
    assert read_figures(tmp_path) == figures


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "there is no such report yet"), ("{}", "the figures are damaged"), ("{", "the figures are damaged")],
)
def test_figures_that_cannot_be_read_name_their_file(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / FIGURES_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as caught:
        read_figures(tmp_path)
    assert str(tmp_path / FIGURES_FILE) in str(caught.value) and "source_report" in str(caught.value)


def test_a_text_is_cut_at_its_end() -> None:
    assert cut("12345", 5) == "12345"
    assert cut("123 56", 5) == "123…"
