"""From engine checks, which return verdicts, to asset checks, which block."""

import warnings
from collections.abc import Callable, Mapping

import dagster as dg

from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.verdict import Verdict

# Partitioned checks and Pipes readers are in preview, code references in beta: pinned in constraints.txt, and tested.
for _unfinished in (dg.PreviewWarning, dg.BetaWarning):
    warnings.filterwarnings("ignore", category=_unfinished)

PartitionCheck = Callable[[Layout, str], Verdict]
"""(layout, partition key) to a verdict."""


def blocking_checks(
    asset: str, partitions_def: dg.PartitionsDefinition[str] | None, checks: Mapping[str, PartitionCheck]
) -> list[dg.AssetChecksDefinition]:
    """One blocking asset check per entry, run on the partition that was materialised."""
    return [_blocking(asset, partitions_def, name, check) for name, check in checks.items()]


def _blocking(
    asset: str, partitions_def: dg.PartitionsDefinition[str] | None, name: str, check: PartitionCheck
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, blocking=True, partitions_def=partitions_def, description=check.__doc__)
    def run_check(context: dg.AssetCheckExecutionContext, layout: LayoutResource) -> dg.AssetCheckResult:
        verdict = check(layout.layout(), context.partition_key if partitions_def else "")
        return dg.AssetCheckResult(passed=verdict.passed, description=verdict.description, metadata={**verdict.numbers})

    return run_check
