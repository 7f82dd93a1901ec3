"""The front door: everything Dagster knows of, on one screen."""

from __future__ import annotations

import dagster as dg

from thread_embed_assets.defs.ablations import assets as ablations
from thread_embed_assets.defs.ablations.checks import ablation_checks
from thread_embed_assets.defs.automation import jobs
from thread_embed_assets.defs.benchmark import assets as benchmark
from thread_embed_assets.defs.benchmark.checks import benchmark_checks
from thread_embed_assets.defs.conversations import assets as conversations
from thread_embed_assets.defs.conversations.checks import conversation_checks, duplicate_checks, summary_checks
from thread_embed_assets.defs.executors import executor
from thread_embed_assets.defs.failure import run_failure
from thread_embed_assets.defs.pairs import assets as pairs
from thread_embed_assets.defs.pairs.checks import hard_negative_checks, pair_checks
from thread_embed_assets.defs.raw import assets as raw
from thread_embed_assets.defs.release import assets as release
from thread_embed_assets.defs.release.checks import release_checks
from thread_embed_assets.defs.reports import assets as reports
from thread_embed_assets.defs.reranker import assets as reranker
from thread_embed_assets.defs.reranker.checks import reranker_checks
from thread_embed_assets.defs.resources import GpuResource, HandleIOManager, LanguageModelResource, LayoutResource
from thread_embed_assets.defs.retraining import RetrainingResource, schedules, sensors, whole_graph_jobs
from thread_embed_assets.defs.training import assets as training
from thread_embed_assets.defs.training import mining
from thread_embed_assets.defs.training.checks import checkpoint_checks
from thread_embed_assets.defs.training.mining_checks import mined_negative_checks

ASSET_MODULES = [raw, conversations, pairs, reports, training, mining, benchmark, ablations, reranker, release]
CHECKS = [
    *conversation_checks,
    *duplicate_checks,
    *summary_checks,
    *pair_checks,
    *hard_negative_checks,
    *checkpoint_checks,
    *mined_negative_checks,
    *benchmark_checks,
    *ablation_checks,
    *reranker_checks,
    *release_checks,
]


@dg.definitions
def defs() -> dg.Definitions:
    layout = LayoutResource()
    return dg.Definitions(
        assets=dg.with_source_code_references(dg.load_assets_from_modules(ASSET_MODULES)),
        asset_checks=CHECKS,
        jobs=[*jobs, *whole_graph_jobs],
        schedules=schedules,
        sensors=[*sensors, run_failure],
        resources={
            "layout": layout,
            "gpu": GpuResource(),
            "language_model": LanguageModelResource(),
            "retraining": RetrainingResource(),
            "pipes": dg.PipesSubprocessClient(),
            "io_manager": HandleIOManager(layout_resource=layout),
        },
        executor=executor(),
    )


def job_of(name: str) -> dg.JobDefinition:
    """A job by its name, for processes on other machines, which build it anew."""
    return defs().resolve_job_def(name)
