"""Checkpoints, one per mix and stage; training runs in a process of its own."""

import os
import re
import sys
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from pydantic import Field

from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, counts_table, picture
from thread_embed_assets.defs.pairs.checks import hard_negative_checks, pair_checks
from thread_embed_assets.defs.partitions import mixes, source_to_mixes
from thread_embed_assets.defs.resources import STAGE1, GpuResource, LayoutResource, many
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.training.checkpoint import Checkpoint, open_checkpoint
from thread_embed_assets.training.config import stage_config
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.loss_curve import loss_curve

PROFILE_VARIABLE = "THREAD_EMBED_PROFILE"

_KILLED = re.compile(r"code (?:-\d+|137|143)$")  # by a signal: memory ran out, or a spot machine went away
_GATING = {"conversations", "thread_pairs", "temporal_pairs", "hard_negatives"}
_GATES = [
    key for key in keys_of([*conversation_checks, *pair_checks, *hard_negative_checks]) if key.asset_key.path[-1] in _GATING
]


class StageRunConfig(dg.Config):
    """Which profile trains, and what is set otherwise."""

    profile: str = Field(
        os.environ.get(PROFILE_VARIABLE, "quick"), description="quick (2-core CPU), standard or full (one GPU)."
    )
    overrides: dict[str, Any] = Field({}, description="Fields of StageConfig (training/config.py) to set otherwise.")


@dg.asset(
    group_name="training",
    partitions_def=mixes,
    ins={
        "thread_pairs": many(source_to_mixes),
        "temporal_pairs": many(source_to_mixes),
        "hard_negatives": many(source_to_mixes),
    },
    kinds={"pytorch", "huggingface"},
    owners=OWNERS,
    pool="gpu",
    code_version="1",
    retry_policy=dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL),
)
def stage1_checkpoint(
    context: dg.AssetExecutionContext,
    config: StageRunConfig,
    layout: LayoutResource,
    gpu: GpuResource,
    pipes: dg.PipesSubprocessClient,
    thread_pairs: dict[str, TableHandle],
    temporal_pairs: dict[str, TableHandle],
    hard_negatives: dict[str, TableHandle],
) -> dg.MaterializeResult[Checkpoint]:
    """Stage 1: the base model tuned on strategies A and C of the mix's materialised sources.

    Needs their pair tables. Profile `quick` takes minutes on two cores. A killed run goes on from its last checkpoint when
    it is materialised again, and a run that is already there is not repeated: its folder is named by a fingerprint of
    data, configuration and versions.
    """
    mix = context.partition_key
    try:
        for source in sorted(thread_pairs.keys() | temporal_pairs.keys()):
            require_passed(context.instance, _GATES, source)
        stage = stage_config(config.profile, **{"stage": STAGE1, **config.overrides})
    except InputError as error:  # which no retry mends
        raise dg.Failure(str(error), allow_retries=False) from error
    tables = {Strategy.THREAD: thread_pairs, Strategy.TEMPORAL: temporal_pairs}
    inputs = [
        PairInput(strategy, source, pairs, hard_negatives.get(source))
        for strategy, by_source in tables.items()
        for source, pairs in by_source.items()
    ]
    place = layout.layout()
    job_file = place.checkpoints(mix, STAGE1) / f"job-{context.run.run_id}.json"
    Job.of(stage, inputs, place, mix, gpu.device).save(job_file)
    try:
        run = pipes.run(
            context=context,
            command=[sys.executable, "-m", "thread_embed_assets.defs.training.process"],
            extras={"job": str(job_file)},
        )
    except DagsterPipesExecutionError as error:
        if _KILLED.search(str(error)):
            raise  # the retry goes on from the last checkpoint
        raise dg.Failure(f"the training process gave up, and says why above ({error})", allow_retries=False) from error
    finally:
        job_file.unlink(missing_ok=True)
    return _materialized(place.checkpoints(mix, STAGE1), run.get_custom_messages())


def _materialized(folder: Any, messages: Any) -> dg.MaterializeResult[Checkpoint]:
    """Pipes reports success even of a child that never opened it, so the manifest must be there."""
    checkpoint = open_checkpoint(folder / messages[-1]["fingerprint"]) if messages else None
    if checkpoint is None:
        raise dg.Failure(f"the training process ended without leaving a checkpoint in {folder}")
    manifest = checkpoint.manifest
    history = checkpoint.loss_history()
    return dg.MaterializeResult(
        value=checkpoint,
        data_version=dg.DataVersion(checkpoint.fingerprint),
        metadata={
            "loss_curve": picture(loss_curve(history), "loss over steps"),
            "dagster/uri": checkpoint.model.as_uri(),
            "fingerprint": checkpoint.fingerprint,
            "reused": bool(messages[-1]["reused"]),
            "rows_used": counts_table({f"{i['strategy']} {i['source']}": i["rows_used"] for i in manifest["inputs"]}),
            "manifest": dg.MetadataValue.json(dict(manifest)),
        },
    )
