"""What must hold before a pair is trained on."""

from __future__ import annotations

from collections.abc import Callable

from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.defs.checks import PartitionCheck, blocking_checks
from thread_embed_assets.defs.partitions import CATALOG, sources
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
        stored = open_normalised(layout.conversations(source))
        paths = [layout.conversations(name) for name in CATALOG if name != source]
        others = [open_normalised(path) for path in paths if path.exists()]
        return quality.no_held_out_text(STORED[asset].open(layout, source), stored, others)

    run.__doc__ = "No pair holds a test or dev text of any source, whole or nearly, and none is of a test conversation."
    return run


def _if_served(asset: str, check: PartitionCheck) -> PartitionCheck:
    """The check, unless the catalogue leaves this strategy out for the source: then there must be no pairs."""

    def run(layout: Layout, source: str) -> Verdict:
        if PAIR_ASSETS[asset] in CATALOG[source].strategies:
            return check(layout, source)
        rows = STORED[asset].open(layout, source).rows
        return Verdict(rows == 0, f"{rows} pairs, where the catalogue leaves this strategy out", {"rows": rows})

    run.__doc__ = check.__doc__
    return run


def _negatives_from_elsewhere(layout: Layout, source: str) -> Verdict:
    pairs = [STORED[asset].open(layout, source) for asset in PAIR_ASSETS]
    return quality.negatives_from_elsewhere(STORED["hard_negatives"].open(layout, source), pairs)


_negatives_from_elsewhere.__doc__ = quality.negatives_from_elsewhere.__doc__

_ON_PAIRS = {
    "non_empty": quality.non_empty,
    "schema": quality.schema,
    "unique_ids": quality.unique_ids,
    "window_sizes": quality.window_sizes,
    "anchor_without_positive": quality.anchor_without_positive,
    "no_private_data": quality.no_private_data,
}

pair_checks = [
    definition
    for asset in PAIR_ASSETS
    for definition in blocking_checks(
        asset,
        sources,
        {
            **{name: _if_served(asset, _on_table(asset, check)) for name, check in _ON_PAIRS.items()},
            "no_held_out_text": _if_served(asset, _no_held_out_text(asset)),
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
