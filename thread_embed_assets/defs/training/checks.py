"""What must hold before a checkpoint is trained on, scored or released."""

from __future__ import annotations

import dagster as dg

from thread_embed_assets.defs.checks import PartitionCheck, blocking_checks
from thread_embed_assets.defs.partitions import mixes
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, latest_checkpoint, verify
from thread_embed_assets.training.config import STAGES
from thread_embed_assets.verdict import Verdict, no_faults


def _loads_and_is_finite(stage: str) -> PartitionCheck:
    def check(layout: Layout, mix: str) -> Verdict:
        checkpoint = latest_checkpoint(layout, mix, stage)
        return no_faults("faults of the checkpoint", verify(checkpoint) if checkpoint else [], int(checkpoint is not None))

    check.__doc__ = "The model loads, and its embeddings are finite, of the declared size, and differ between texts."
    return check


checkpoint_checks = [
    check
    for stage in STAGES
    for check in blocking_checks(f"{stage}_checkpoint", mixes, {"loads_and_is_finite": _loads_and_is_finite(stage)})
]

CHECKPOINTS = [
    dg.AssetDep(f"{stage}_checkpoint", partition_mapping=dg.AllPartitionMapping()) for stage in STAGES
]  # what reads the latest stage's checkpoint of any mix


def checks_of(checkpoint: Checkpoint) -> list[dg.AssetChecksDefinition]:
    """The checks of the stage that a checkpoint belongs to."""
    name = f"{checkpoint.manifest['stage']}_checkpoint"
    return [check for check in checkpoint_checks if all(key.asset_key.path[-1] == name for key in check.check_keys)]
