"""The page of one source's pairs: a section for each strategy."""

from __future__ import annotations

from collections.abc import Sequence

from thread_embed_assets.chat.exploration import cut
from thread_embed_assets.chat.exploration_page import DOUBLINGS, SECONDS, duration, resolution, spreads_table
from thread_embed_assets.pairs.exploration import SAMPLE, PairExample, PairFigures
from thread_embed_assets.storage.charts import Bars, Chart, Panel, histogram, percent, stepped
from thread_embed_assets.storage.pages import Cell, Page, Part, Section, Table

EXAMPLE_CHARACTERS = 400
_NEGATIVES = {"same_channel": "same-channel negative", "bm25": "BM25 negative", "own": "own negative"}


def pairs_page(source: str, strategies: Sequence[PairFigures]) -> Page:
    """Every strategy's pairs; one without any says so."""
    lead = (
        "Test conversations never make pairs. Lengths and overlap are of the texts as they are written for the model, from "
        f"a seeded sample of at most {SAMPLE:,} pairs of each strategy."
    )
    return Page(
        f"Pairs of {source}",
        lead,
        [
            Section("Strategies", [_overview(strategies)]),
            *(Section(f"Strategy {figures.strategy}", _strategy(figures)) for figures in strategies),
        ],
    )


def _overview(strategies: Sequence[PairFigures]) -> Table:
    rows: list[list[Cell]] = [
        [
            f.strategy,
            f.pairs,
            f.splits.get("train", 0),
            f.splits.get("dev", 0),
            f.conversations,
            f.channels,
            percent(max(f.largest_channels.values(), default=0), f.pairs),
            None if f.overlap_percent is None else f.overlap_percent.quantile(0.5),
            percent(f.with_negative, f.pairs),
            *(percent(f.with_mined.get(kind, 0), f.splits.get("train", 0)) for kind in ("same_channel", "bm25")),
        ]
        for f in strategies
    ]
    columns = ["strategy", "pairs", "train", "dev", "conversations", "channels", "of the largest channel"]
    negatives = ["with own negative", "train with same-channel negative", "train with BM25 negative"]
    return Table([*columns, "median overlap, percent", *negatives], rows)


def _strategy(f: PairFigures) -> list[Part]:
    counts = Table(["count", "value"], sorted(f.counts.items()))
    if not f.pairs:
        return ["There are no pairs of this strategy.", counts]
    numbers = spreads_table(
        {
            "words of the anchor": f.anchor_words,
            "words of the positive": f.positive_words,
            "shared words of anchor and positive, percent": f.overlap_percent,
            "time between anchor and positive": f.gap_seconds,
        }
    )
    alt = "Length of anchor and positive, the words they share, the time between them, and the channels they come from"
    sampled = f"Lengths and overlap: n = {f.sampled:,} of {f.pairs:,} pairs."
    built = "What building them kept and dropped:"
    return [Chart(f"{f.strategy}_pairs", alt, _panels(f)), sampled, numbers, built, counts, *_examples(f)]


def _panels(f: PairFigures) -> list[Panel]:
    words = {"anchor": f.anchor_words, "positive": f.positive_words}
    panels: list[Panel] = [stepped("Length of anchor and positive", "words", "pairs", DOUBLINGS, words)]
    if f.overlap_percent is not None:
        title = "Words that anchor and positive share (Jaccard)"
        panels.append(histogram(title, "percent of the words of both", "pairs", f.overlap_percent))
    if f.gap_seconds is not None:
        title, gaps = "Time between anchor and positive", f.gap_seconds
        panels.append(stepped(title, "time", "pairs", SECONDS, {"pairs": gaps}, resolution(gaps)))
    if f.channels > 1:
        few = f"Largest {len(f.largest_channels)} of {f.channels:,}" if f.channels > len(f.largest_channels) else "All"
        panels.append(Bars(f"{few} channels", "pairs", f.largest_channels))
    return panels


def _examples(f: PairFigures) -> list[Part]:
    if not f.examples:
        return ["There are no pairs to train on."]
    lead = f"{len(f.examples)} train pairs, drawn by hash, with their negatives: up to {EXAMPLE_CHARACTERS} characters each."
    return [lead, *(_example(number, example) for number, example in enumerate(f.examples, 1))]


def _example(number: int, e: PairExample) -> Table:
    texts = {"anchor": e.anchor, "positive": e.positive}
    texts |= {_NEGATIVES.get(kind, kind): text for kind, text in e.negatives.items()}
    facts = f"{e.channel}; {_when(e.gap_seconds)}{e.overlap}% of the words of anchor and positive are in both"
    return Table(
        [f"pair {number}", "text"],
        [["from", facts], *([name, cut(text, EXAMPLE_CHARACTERS)] for name, text in texts.items())],
    )


def _when(gap: float | None) -> str:
    if gap is None:
        return ""
    return f"the positive begins {duration(abs(gap))} {'before' if gap < 0 else 'after'} the anchor's end; "
