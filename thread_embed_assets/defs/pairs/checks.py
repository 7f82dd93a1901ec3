"""What must hold before a pair is trained on."""

from __future__ import annotations

from collections.abc import Callable

from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.defs.checks import PartitionCheck, blocking_checks
from thread_embed_assets.defs.partitions import sources
from thread_embed_assets.defs.resources import PAIR_ASSETS, STORED
from thread_embed_assets.pairs import quality
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.verdict import Verdict


def _on_table(asset: str, check: Callable[[TableHandle], Verdict]) -> PartitionCheck:
    def run(layout: Layout, source: str) -> Verdict:
        return check(STORED[asset].open(layout, source))

    run.__doc__ = check.__doc__
    return run


def _no_held_out_text(asset: str) -> PartitionCheck:
    def run(layout: Layout, source: str) -> Verdict:
        return quality.no_held_out_text(STORED[asset].open(layout, source), open_normalised(layout.conversations(source)))

    run.__doc__ = quality.no_held_out_text.__doc__
    return run


def _negatives_from_elsewhere(layout: Layout, source: str) -> Verdict:
    pairs = [STORED[asset].open(layout, source) for asset in PAIR_ASSETS]
    return quality.negatives_from_elsewhere(STORED["hard_negatives"].open(layout, source), pairs)


_negatives_from_elsewhere.__doc__ = quality.negatives_from_elsewhere.__doc__

pair_checks = [
    definition
    for asset in PAIR_ASSETS
    for definition in blocking_checks(
        asset,
        sources,
        {
            "non_empty": _on_table(asset, quality.non_empty),
            "schema": _on_table(asset, quality.schema),
            "unique_ids": _on_table(asset, quality.unique_ids),
            "window_sizes": _on_table(asset, quality.window_sizes),
            "anchor_without_positive": _on_table(asset, quality.anchor_without_positive),
            "no_held_out_text": _no_held_out_text(asset),
        },
    )
]

hard_negative_checks = blocking_checks(
    "hard_negatives",
    sources,
    {
        "schema": _on_table("hard_negatives", quality.negatives_schema),
        "negatives_from_elsewhere": _negatives_from_elsewhere,
    },
)
