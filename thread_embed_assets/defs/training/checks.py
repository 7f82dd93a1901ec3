"""What must hold before a checkpoint is scored or released."""

from __future__ import annotations

from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import mixes
from thread_embed_assets.defs.resources import STAGE1
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import latest_checkpoint, verify
from thread_embed_assets.verdict import Verdict, no_faults


def _loads_and_is_finite(layout: Layout, mix: str) -> Verdict:
    """The model loads, and its embeddings are finite, of the declared size, and differ between texts."""
    checkpoint = latest_checkpoint(layout, mix, STAGE1)
    return no_faults("faults of the checkpoint", verify(checkpoint) if checkpoint else [], int(checkpoint is not None))


checkpoint_checks = blocking_checks("stage1_checkpoint", mixes, {"loads_and_is_finite": _loads_and_is_finite})
