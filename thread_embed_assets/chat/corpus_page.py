"""The page of all sources together: how large each is, and how they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thread_embed_assets.chat.exploration import SourceFigures
from thread_embed_assets.chat.exploration_page import DOUBLINGS, day, shares
from thread_embed_assets.storage.charts import Chart, Histogram, percent
from thread_embed_assets.storage.distribution import Distribution
from thread_embed_assets.storage.pages import Cell, Page, Section, Table

_MOST_LANGUAGES = 4
_MESSAGES_PER_CONVERSATION = {edge: name for edge, name in DOUBLINGS.items() if 2 <= edge <= 512}
_WORDS_PER_MESSAGE = {edge: name for edge, name in DOUBLINGS.items() if edge <= 512}


@dataclass(frozen=True)
class Member:
    """A source of the corpus.

    Attributes:
        duplicates: conversations left out of training since they stand in this source or another already; None where nobody
            looked.
    """

    figures: SourceFigures
    title: str
    licence: str
    roles: tuple[str, ...]
    duplicates: int | None = None


def corpus_page(members: Sequence[Member]) -> Page:
    """The sources side by side, in the order given."""
    figures = [member.figures for member in members]
    lead = (
        f"{sum(f.conversations for f in figures):,} conversations with {sum(f.messages for f in figures):,} messages "
        f"from {len(figures)} {'source' if len(figures) == 1 else 'sources'}, after cleaning, masking and filtering. "
        "Languages are those found before filtering."
    )
    return Page(
        "The corpus",
        lead,
        [
            Section("Sources", [_catalogue(members)]),
            Section("Sizes", [_sizes(members)]),
            Section("Shares", [_shares(figures)]),
            Section(
                "Messages per conversation",
                [
                    _multiples(
                        "messages_per_conversation",
                        "messages",
                        "conversations",
                        _MESSAGES_PER_CONVERSATION,
                        {f.source: f.messages_per_conversation for f in figures},
                    )
                ],
            ),
            Section(
                "Words per message",
                [
                    _multiples(
                        "words_per_message",
                        "words",
                        "messages",
                        _WORDS_PER_MESSAGE,
                        {f.source: f.words_per_message for f in figures},
                    )
                ],
            ),
        ],
    )


def _catalogue(members: Sequence[Member]) -> Table:
    rows: list[list[Cell]] = []
    for m in members:
        f = m.figures
        catalogued = [f.source, m.title, f.platform, m.licence, ", ".join(f.truths), ", ".join(m.roles)]
        rows.append([*catalogued, day(f.first), day(f.last), _languages(f)])
    columns = ["source", "title", "platform", "licence", "threads", "role", "first message", "last message", "languages"]
    return Table(columns, rows)


def _sizes(members: Sequence[Member]) -> Table:
    medians = ("median messages per conversation", "median words per message")
    rows: list[list[Cell]] = []
    for m in members:
        f = m.figures
        usual = (f.messages_per_conversation.quantile(0.5), f.words_per_message.quantile(0.5))
        removed = None if f.removed_share is None else percent(f.removed_share, 1)
        rows.append([f.source, f.conversations, f.messages, f.people, *usual, removed, m.duplicates])
    columns = ["source", "conversations", "messages", "people", *medians, "removed by filters", "left out as duplicates"]
    return Table(columns, rows)


def _languages(f: SourceFigures) -> str:
    found = Counter(f.languages)
    most = [f"{code} {percent(count, found.total())}" for code, count in found.most_common(_MOST_LANGUAGES)]
    rest = len(found) - len(most)
    return ", ".join(most) + (f", {rest} more" if rest else "")


def _shares(figures: Sequence[SourceFigures]) -> Chart:
    by: Mapping[str, Callable[[SourceFigures], str]] = {
        "platform": lambda f: f.platform,
        "kind of thread": lambda f: ", ".join(f.truths),
        "source": lambda f: f.source,
    }
    panels = []
    for name, key in by.items():
        messages: Counter[str] = Counter()
        for f in figures:
            messages[key(f)] += f.messages
        panels.append(shares(f"Messages by {name}", "messages", dict(messages.most_common()), messages.total()))
    return Chart("shares", "Share of the messages by platform, kind of thread and source", panels)


def _multiples(name: str, axis: str, counted: str, steps: Mapping[float, str], spreads: Mapping[str, Distribution]) -> Chart:
    shown = {source: [100 * n / spread.n for n in spread.histogram(list(steps))] for source, spread in spreads.items()}
    top = max(share for shares in shown.values() for share in shares)
    edges, ticks = [*steps, 2 * max(steps)], [*steps.values(), "…"]
    panels = [
        Histogram(source, axis, f"% of {counted}", edges, {counted: shares}, ticks, top=top)
        for source, shares in shown.items()
    ]
    return Chart(name, f"{axis.capitalize()} by source", panels, columns=3)
