from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from thread_embed_assets.chat.corpus_page import Member, corpus_page
from thread_embed_assets.chat.exploration import SourceFigures, explore
from thread_embed_assets.storage.charts import Bars, Chart, Histogram
from thread_embed_assets.storage.pages import Page, Table, write_page
from thread_embed_assets_tests.chat.planted import Stored, sentences, store


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> SourceFigures:
    path = tmp_path_factory.mktemp("stored") / "made.duckdb"
    conversations = [Stored(f"c{n}", sentences(3 + n, n)) for n in range(4)]
    return explore(store(path, conversations, {"parsed_conversations": 5, "kept_conversations": 4}))


@pytest.fixture(scope="module")
def members(figures: SourceFigures) -> list[Member]:
    irc = replace(
        figures,
        source="old_logs",
        platform="irc",
        truths={"guessed": 4},
        messages=54,
        first=None,
        last=None,
        counts={},
        languages={"en": 90, "de": 5, "fr": 2, "nl": 1, "pl": 1, "sv": 1},
    )
    return [
        Member(figures, "A made-up team", "none", ("benchmark", "train"), duplicates=7),
        Member(irc, "Old logs", "CC0", ("train",)),
    ]


def _tables(page: Page) -> list[Table]:
    return [part for section in page.sections for part in section.parts if isinstance(part, Table)]


def _charts(page: Page) -> dict[str, Chart]:
    return {part.name: part for section in page.sections for part in section.parts if isinstance(part, Chart)}


def test_sources_stand_side_by_side(members: list[Member]) -> None:
    page = corpus_page(members)
    catalogue, sizes = _tables(page)
    assert list(map(list, catalogue.rows)) == [
        ["made", "A made-up team", "slack", "none", "explicit", "benchmark, train", "2020-09-13", "2020-09-13", "en 100.0%"],
        ["old_logs", "Old logs", "irc", "CC0", "guessed", "train", "", "", "en 90.0%, de 5.0%, fr 2.0%, nl 1.0%, 2 more"],
    ]
    assert list(map(list, sizes.rows)) == [
        ["made", 4, 18, 2, 4, members[0].figures.words_per_message.quantile(0.5), "20.0%", 7],
        ["old_logs", 4, 54, 2, 4, members[1].figures.words_per_message.quantile(0.5), None, None],
    ]
    assert page.lead.startswith("8 conversations with 72 messages from 2 sources,")


def test_shares_add_up_to_the_whole(members: list[Member]) -> None:
    panels = _charts(corpus_page([*members, members[0]]))["shares"].panels
    assert [panel.title for panel in panels] == ["Messages by platform", "Messages by kind of thread", "Messages by source"]
    for panel in panels:
        assert isinstance(panel, Bars) and sum(panel.bars.values()) == pytest.approx(100)
    platforms = panels[0]
    assert isinstance(platforms, Bars)
    assert platforms.bars == {"irc": pytest.approx(60), "slack": pytest.approx(40)}
    assert platforms.written == {"irc": "60.0% (54)", "slack": "40.0% (36)"}


def test_sources_are_drawn_alike_to_be_compared(members: list[Member]) -> None:
    for name in ("messages_per_conversation", "words_per_message"):
        panels = _charts(corpus_page(members))[name].panels
        assert [panel.title for panel in panels] == ["made", "old_logs"]
        for panel in panels:
            assert isinstance(panel, Histogram)
            assert [sum(shares) for shares in panel.series.values()] == [pytest.approx(100)]
        assert len({(tuple(panel.edges), panel.top) for panel in panels if isinstance(panel, Histogram)}) == 1


def test_one_source_or_several_make_a_page_that_fits(members: list[Member], tmp_path: Path) -> None:
    assert "from 1 source," in write_page(corpus_page(members[:1]), tmp_path / "one")
    many = [replace(members[0], figures=replace(members[0].figures, source=f"source_{n}")) for n in range(6)]
    assert len(write_page(corpus_page(many), tmp_path / "many")) < 450_000  # 20 sources are to stay below 1.5 MB
