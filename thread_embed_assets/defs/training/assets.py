"""Checkpoints, one per mix and stage; training runs in a process of its own."""

import multiprocessing
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from pydantic import Field

from thread_embed_assets.defs.conversations.checks import conversation_checks, summary_checks
from thread_embed_assets.defs.executors import gpu_tags
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, WEEKLY, counts_table, picture
from thread_embed_assets.defs.pairs.checks import hard_negative_checks, pair_checks
from thread_embed_assets.defs.partitions import mixes, source_to_mixes
from thread_embed_assets.defs.resources import PAIR_ASSETS, GpuResource, LayoutResource, many
from thread_embed_assets.defs.retries import KILLED, only_what_passes
from thread_embed_assets.defs.training.checks import checkpoint_checks
from thread_embed_assets.defs.training.mining_checks import mined_negative_checks
from thread_embed_assets.defs.training.process import BUSY, TRAINS_FOR
from thread_embed_assets.storage.atomic import temporary_folder
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets.training.checkpoint import Checkpoint, open_checkpoint
from thread_embed_assets.training.config import STAGE1, STAGE2, STAGE3, StageConfig, stage_config
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.job import Job
from thread_embed_assets.training.loss_curve import loss_curve

PROFILE_VARIABLE = "THREAD_EMBED_PROFILE"

# By a signal, since memory ran out or a spot machine went away; or another process is in its folder.
_PASSES = re.compile(rf"code (?:-\d+|137|143|{BUSY})$")
_MINED = "mined_negatives"
_SOURCE_GATES = keys_of([*conversation_checks, *summary_checks, *pair_checks, *hard_negative_checks])
_MIX_GATES = keys_of([*checkpoint_checks, *mined_negative_checks])


class StageRunConfig(dg.Config):
    """Which profile trains, and what is set otherwise."""

    profile: str = Field(
        os.environ.get(PROFILE_VARIABLE, "quick"), description="quick or hours (2-core CPU), standard or full (one GPU)."
    )
    overrides: dict[str, Any | None] = Field({}, description="Fields of StageConfig (training/config.py) to set otherwise.")


_PAGE = """{holds}

Dev pairs of all strategies decide when it stops, which of its weights are kept, and how much of the base is averaged into
them. A killed run goes on from its last checkpoint when it is materialised again, and a run that is already there is not
repeated: its folder is named by a fingerprint of data, configuration and versions.

- **Needs** the pair tables and hard negatives of at least one source of the mix, with their checks passed{needs}; the base
  model; a slot of the pool `gpu`.
- **Takes** minutes on two cores with profile `quick`; with `hours`, {takes} (README, Training). Profiles `standard` and
  `full` are for a GPU.
- **Lies in** `models/checkpoints/<mix>/{stage}`, a folder for each fingerprint.
"""


def _checkpoint_asset(
    stage: str, holds: str, needs: str, takes: str, after: str = "", mined: bool = False
) -> dg.AssetsDefinition:
    """The checkpoint of a stage; it starts from the mix's checkpoint of the stage ``after``, else from the base model."""
    tables = {name: many(source_to_mixes) for name in (*PAIR_ASSETS, "hard_negatives")}
    of_the_mix = {name: dg.AssetIn() for name in (f"{after}_checkpoint" if after else "", _MINED if mined else "") if name}

    @dg.asset(
        name=f"{stage}_checkpoint",
        group_name="training",
        partitions_def=mixes,
        ins={**tables, **of_the_mix},
        kinds={"pytorch", "huggingface"},
        owners=OWNERS,
        pool="gpu",
        op_tags=gpu_tags(),
        code_version="2",
        freshness_policy=WEEKLY,
        retry_policy=KILLED,
        description=_PAGE.format(holds=holds, needs=needs, takes=takes, stage=stage),
    )
    def checkpoint(
        context: dg.AssetExecutionContext,
        config: StageRunConfig,
        layout: LayoutResource,
        gpu: GpuResource,
        pipes: dg.PipesSubprocessClient,
        **upstream: Any,
    ) -> dg.MaterializeResult[Checkpoint]:
        mix, place = context.partition_key, layout.layout()
        before = upstream.get(f"{after}_checkpoint")
        with only_what_passes():
            _require_passed(context.instance, mix, upstream)
            chosen = _stage_config(stage, config, before)
            inputs = _pair_inputs(upstream, chosen)
            checkpoints = place.checkpoints(mix, chosen.stage)
            return _materialized(
                checkpoints, run_job(context, pipes, Job.of(chosen, inputs, place, mix, gpu.device), checkpoints)
            )

    return checkpoint


def _stage_config(stage: str, config: StageRunConfig, before: Checkpoint | None) -> StageConfig:
    start = {"base_model": str(before.model)} if before else {}
    return stage_config(config.profile, stage, **{**start, **config.overrides, "stage": stage})


def _pair_inputs(upstream: Mapping[str, Any], config: StageConfig) -> list[PairInput]:
    by_source: dict[str, TableHandle] = upstream["hard_negatives"]
    mined: TableHandle | None = upstream.get(_MINED) if config.hard_negatives == "mined" else None
    return [
        PairInput(strategy, source, pairs, mined or by_source.get(source))
        for name, strategy in PAIR_ASSETS.items()
        for source, pairs in upstream[name].items()
    ]


def _require_passed(instance: dg.DagsterInstance, mix: str, upstream: Mapping[str, Any]) -> None:
    """Every blocking check of what is read: of the tables that are there, and of what this mix has trained before."""
    present: dict[str, set[str]] = {}
    for name in (*PAIR_ASSETS, "hard_negatives"):
        for source in upstream[name]:
            present.setdefault(source, {"conversations"}).add(name)
    for source in upstream["summary_pairs"]:
        present[source].add("conversation_summaries")
    for source in sorted(present):
        require_passed(instance, _keys(_SOURCE_GATES, present[source]), source)
    require_passed(instance, _keys(_MIX_GATES, upstream.keys()), mix)


def _keys(checks: Iterable[dg.AssetCheckKey], assets: Iterable[str]) -> list[dg.AssetCheckKey]:
    wanted = set(assets)
    return [key for key in checks if key.asset_key.path[-1] in wanted]


def run_job(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient, job: Job, folder: Path) -> Any:
    """Run the job in a process of its own, which ends with this step and its run; the messages that it sent."""
    run_worker = multiprocessing.parent_process()
    trains_for = [os.getpid(), *([run_worker.pid] if run_worker else [])]
    with temporary_folder(folder / "job") as part:
        job_file = part / "job.json"
        job.save(job_file)
        try:
            run = pipes.run(
                context=context,
                command=[sys.executable, "-m", "thread_embed_assets.defs.training.process"],
                env={TRAINS_FOR: ",".join(map(str, trains_for))},
                extras={"job": str(job_file)},
            )
        except DagsterPipesExecutionError as error:
            if _PASSES.search(str(error)):
                raise  # the retry goes on from the last checkpoint
            raise dg.Failure(f"the training process gave up, and says why above ({error})", allow_retries=False) from error
    return run.get_custom_messages()


def _materialized(folder: Any, messages: Any) -> dg.MaterializeResult[Checkpoint]:
    """Pipes reports success even of a child that never opened it, so the manifest must be there."""
    checkpoint = open_checkpoint(folder / messages[-1]["fingerprint"]) if messages else None
    if checkpoint is None:
        raise dg.Failure(f"the training process ended without leaving a checkpoint in {folder}")
    manifest = checkpoint.manifest
    curve = loss_curve(checkpoint.loss_history(), checkpoint.dev_history())
    return dg.MaterializeResult(
        value=checkpoint,
        data_version=dg.DataVersion(checkpoint.fingerprint),
        metadata={
            "loss_curve": picture(curve, "loss over steps"),
            "dagster/uri": checkpoint.model.as_uri(),
            "fingerprint": checkpoint.fingerprint,
            "reused": bool(messages[-1]["reused"]),
            "pairs": sum(given["rows_used"] for given in manifest["inputs"]),
            **{name: manifest[name] for name in ("steps", "tokens", "seconds", "loss_last")},
            "rows_used": counts_table({f"{i['strategy']} {i['source']}": i["rows_used"] for i in manifest["inputs"]}),
            "manifest": dg.MetadataValue.json(dict(manifest)),
        },
    )


stage1_checkpoint = _checkpoint_asset(
    STAGE1,
    "Stage 1: the base model tuned on strategies A and C, pieces of a thread and windows that follow each other, of the "
    "mix's materialised sources.",
    needs="",
    takes="1,916 s on one core for 24,000 pairs",
)
stage2_checkpoint = _checkpoint_asset(
    STAGE2,
    "Stage 2: the stage 1 model tuned at a lower rate on strategies B and D, replies and summaries, with a guide that "
    "leaves likely false negatives out.",
    needs=", and the stage 1 checkpoint",
    takes="832 s on one core for 10,000 pairs",
    after=STAGE1,
)
stage3_checkpoint = _checkpoint_asset(
    STAGE3,
    "Stage 3: the stage 2 model tuned on all strategies against the negatives that it took for positives itself.",
    needs=", the stage 2 checkpoint and what it mined",
    takes="659 s on one core for 5,000 pairs",
    after=STAGE2,
    mined=True,
)
