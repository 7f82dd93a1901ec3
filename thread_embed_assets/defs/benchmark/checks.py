"""What must hold before results are shown."""

from __future__ import annotations

from thread_embed_assets.benchmark import quality
from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import mixes_scored_on, sources
from thread_embed_assets.release import standing
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, final_checkpoint
from thread_embed_assets.verdict import Verdict


def scored_checkpoints(layout: Layout, source: str) -> dict[str, Checkpoint]:
    """Mix to the checkpoint that is scored, of the mixes that are compared on a source."""
    found = {mix: final_checkpoint(layout, mix) for mix in mixes_scored_on(source)}
    return {mix: checkpoint for mix, checkpoint in found.items() if checkpoint is not None}


def _query_not_in_its_document(layout: Layout, source: str) -> Verdict:
    return quality.query_not_in_its_document(layout.tasks(source))


def _held_out_only(layout: Layout, source: str) -> Verdict:
    return quality.held_out_only(layout.tasks(source), open_normalised(layout.conversations(source)).conversations)


def _metrics_in_range(layout: Layout, source: str) -> Verdict:
    return quality.metrics_in_range(layout.results(source))


def _contamination(layout: Layout, source: str) -> Verdict:
    checkpoints = list(scored_checkpoints(layout, source).values())
    return standing.contamination_with_released({source: layout.tasks(source)}, checkpoints, layout, source)


_query_not_in_its_document.__doc__ = quality.query_not_in_its_document.__doc__
_held_out_only.__doc__ = quality.held_out_only.__doc__
_metrics_in_range.__doc__ = quality.metrics_in_range.__doc__
_contamination.__doc__ = standing.contamination_with_released.__doc__

task_checks = blocking_checks(
    "benchmark_tasks",
    sources,
    {"query_not_in_its_document": _query_not_in_its_document, "held_out_only": _held_out_only},
)
result_checks = blocking_checks(
    "benchmark_results", sources, {"metrics_in_range": _metrics_in_range, "contamination": _contamination}
)
benchmark_checks = [*task_checks, *result_checks]
