"""What must hold before a model trains on the negatives that its predecessor mined."""

from __future__ import annotations

from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import MIXES, mixes
from thread_embed_assets.defs.resources import PAIR_ASSETS, STORED
from thread_embed_assets.pairs import quality
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.verdict import Verdict


def _schema(layout: Layout, mix: str) -> Verdict:
    return quality.negatives_schema(STORED["mined_negatives"].open(layout, mix))


def _negatives_from_elsewhere(layout: Layout, mix: str) -> Verdict:
    present = [
        STORED[asset].open(layout, source)
        for asset in PAIR_ASSETS
        for source in MIXES[mix]
        if STORED[asset].path(layout, source).exists()
    ]
    return quality.negatives_from_elsewhere(STORED["mined_negatives"].open(layout, mix), present)


_schema.__doc__ = quality.negatives_schema.__doc__
_negatives_from_elsewhere.__doc__ = quality.negatives_from_elsewhere.__doc__

mined_negative_checks = blocking_checks(
    "mined_negatives", mixes, {"schema": _schema, "negatives_from_elsewhere": _negatives_from_elsewhere}
)
