from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from thread_embed_assets.chat.exploration import ChannelSize, SourceFigures, explore
from thread_embed_assets.chat.exploration_page import duration, losses, resolution, source_page, spreads_table
from thread_embed_assets.storage.charts import Bars, Chart, HeatMap, Histogram, Panel, Timeline, Waterfall
from thread_embed_assets.storage.distribution import distribution_of
from thread_embed_assets.storage.pages import Listing, Page, write_page
from thread_embed_assets_tests.chat.planted import DAY, NOON, Stored, sentences, store

COUNTS = {
    "parsed_conversations": 60,
    "dropped_not_english": 5,
    "dropped_too_few_messages": 15,
    "kept_conversations": 40,
    "parsed_messages": 400,
    "removed_bot_messages": 30,
    "kept_messages": 300,
    "language_en": 40,
    "language_de": 5,
}
PEOPLE = [f"p_{number:010x}" for number in range(12)]


def _conversations(count: int, **fields: object) -> list[Stored]:
    return [
        Stored(
            f"c{n:02}",
            sentences(3 + n % 5, n),
            channel=f"room{n % 3}",
            start=NOON + n * DAY,
            people=PEOPLE[n % 4 : n % 4 + 2 + n % 3],
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> SourceFigures:
    path = tmp_path_factory.mktemp("stored") / "made.duckdb"
    return explore(store(path, _conversations(40), COUNTS))


def _panels(page: Page, section: str) -> list[Panel]:
    [found] = [s for s in page.sections if s.title == section]
    return [panel for part in found.parts if isinstance(part, Chart) for panel in part.panels]


def _text(page: Page) -> str:
    return page.markdown(lambda chart: f"{chart.name}.png")


def test_the_page_shows_every_theme(figures: SourceFigures) -> None:
    page = source_page(figures, "made: a source")
    assert [section.title for section in page.sections] == [
        "Splits",
        "Size",
        "People",
        "Text",
        "Time",
        "Filters",
        "In numbers",
        "Examples",
    ]
    kinds = {
        title: [type(panel) for panel in _panels(page, title)] for title in ("Size", "People", "Text", "Time", "Filters")
    }
    assert kinds == {
        "Size": [Histogram, Bars],
        "People": [Histogram, Histogram],
        "Text": [Histogram, Histogram, Bars],
        "Time": [Timeline, HeatMap, Histogram, Histogram],
        "Filters": [Waterfall, Waterfall, Bars],
    }
    assert page.lead.startswith(
        "40 conversations (threads: explicit) with 200 messages by 7 people in 3 channels, from 2020-09-13 to"
    )
    examples = page.sections[-1].parts
    assert sum(isinstance(part, Listing) for part in examples) == 10


def test_it_is_small_enough_to_lie_in_the_run_history(figures: SourceFigures, tmp_path: Path) -> None:
    assert len(write_page(source_page(figures, "made"), tmp_path / "page")) < 1_000_000


def test_the_waterfalls_account_for_everything(figures: SourceFigures) -> None:
    conversations, messages, _ = _panels(source_page(figures, "made"), "Filters")
    assert isinstance(conversations, Waterfall) and isinstance(messages, Waterfall)
    assert conversations.start == ("parsed", 60)
    assert conversations.losses == {"too few messages": 15, "not english": 5}
    assert messages.losses == {"bot messages": 30, "in dropped conversations": 70}
    short = replace(figures, counts={**COUNTS, "dropped_not_english": 2})
    unexplained, *_ = _panels(source_page(short, "made"), "Filters")
    assert isinstance(unexplained, Waterfall)
    assert unexplained.losses == {"too few messages": 15, "not english": 2, "for another reason": 3}


def test_losses_are_put_into_words_the_largest_first() -> None:
    counts = {"dropped_a_b": 1, "dropped_c": 3, "dropped_none": 0, "removed_d": 9}
    assert list(losses(counts, "dropped_").items()) == [("c", 3), ("a b", 1)]


def test_without_times_the_page_says_so(tmp_path: Path) -> None:
    conversations = [replace(stored, start=None) for stored in _conversations(5)]
    page = source_page(explore(store(tmp_path / "made.duckdb", conversations)), "made")
    assert _panels(page, "Time") == []
    assert "This source has no times." in _text(page) and ", without times." in page.lead
    assert "time between messages" not in _text(page)


def test_a_panel_of_a_single_value_is_left_out(tmp_path: Path) -> None:
    alike = [Stored(f"c{n}", ["one two", "one two"], start=None) for n in range(3)]
    page = source_page(explore(store(tmp_path / "made.duckdb", alike)), "made")
    assert [section.title for section in page.sections] == ["Splits", "Text", "Time", "Filters", "In numbers", "Examples"]
    assert [type(panel) for panel in _panels(page, "Text")] == [Bars]
    assert "in 1 channel, without times" in page.lead
    assert "Apart from people, nothing was masked." in _text(page)


def test_one_conversation_makes_a_page(tmp_path: Path) -> None:
    page = source_page(explore(store(tmp_path / "made.duckdb", [Stored("c1", ["hello"], split="test")])), "made")
    assert "held-out ones are not shown" in write_page(page, tmp_path / "page")


def test_names_and_texts_cannot_break_the_page(tmp_path: Path) -> None:
    odd = "a|b $x_{ <b>"
    said = [odd, "[link](http://a.example)", "# head"]
    stored = store(tmp_path / "made.duckdb", [Stored("c1", said, channel=odd), Stored("c2", said, channel="other")])
    inline = write_page(source_page(explore(stored), odd), tmp_path / "page")
    assert r"a\|b \$x\_\{ &lt;b&gt;" in inline and odd not in inline
    assert r"speaker_2: \[link\](http://a.example)" in inline


def test_many_channels_are_called_the_largest(figures: SourceFigures) -> None:
    page = source_page(replace(figures, channels=30), "made")
    assert _panels(page, "Size")[1].title == "Largest 3 of 30 channels"
    one = replace(figures, channels=1, largest_channels=(ChannelSize("only", 40, 200),))
    assert [type(panel) for panel in _panels(source_page(one, "made"), "Size")] == [Histogram]


def test_durations_take_the_unit_they_fill() -> None:
    times = [0, 59, 90, 5_400, 86_400, 63_115_200]
    assert [duration(seconds) for seconds in times] == ["0 s", "59 s", "1.5 min", "1.5 h", "1 d", "2 years"]


def test_quantiles_of_times_are_durations_and_what_is_unknown_is_left_out() -> None:
    table = spreads_table({"words": distribution_of([1, 2, 3]), "time to reply": distribution_of([90]), "nothing": None})
    assert table.rows == [
        ["words", 3, 2.0, 1, 1, 2, 3, 3, 3],
        ["time to reply", 1, *["1.5 min"] * 7],
    ]


def test_times_to_the_minute_are_noted() -> None:
    minutes, seconds = distribution_of([0, 60, 1_234_560]), distribution_of([0, 61])
    assert minutes is not None and seconds is not None
    assert (resolution(minutes), resolution(seconds)) == ("to the minute", "")
