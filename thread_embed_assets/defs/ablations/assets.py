"""Ablations: an arm for each level of each open choice, trained on a small budget and scored on dev, and their table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from thread_embed_assets.benchmark.ablation_plan import load_plan
from thread_embed_assets.benchmark.ablation_scores import DevSource
from thread_embed_assets.benchmark.ablation_table import write_table
from thread_embed_assets.benchmark.ablations import SCHEMAS, Material, run_arm
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.defs.ablations.checks import ablation_checks
from thread_embed_assets.defs.benchmark.checks import task_checks
from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.executors import gpu_tags
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, rows_table, tables
from thread_embed_assets.defs.pairs.checks import hard_negative_checks, pair_checks
from thread_embed_assets.defs.partitions import CATALOG, MIXES, arms
from thread_embed_assets.defs.resources import PAIR_ASSETS, GpuResource, LayoutResource, many
from thread_embed_assets.defs.retries import KILLED, only_what_passes
from thread_embed_assets.defs.training.assets import run_job
from thread_embed_assets.defs.training.mining_checks import mined_negative_checks
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, connect_read_only, open_table
from thread_embed_assets.training.checkpoint import Checkpoint, open_checkpoint
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.job import Job

_BY_SOURCE = (*PAIR_ASSETS, "hard_negatives", "benchmark_tasks")
_GATES = keys_of([*conversation_checks, *pair_checks, *hard_negative_checks, *task_checks])


class AblationConfig(dg.Config):
    """What all arms have in common. Arms are compared only where they were run with the same."""

    mix: str = Field("all", description="The mix of sources that the arms train on.")
    seeds: list[int] = Field([], description="Each arm is trained with each; none: those of ablations.yaml.")
    overrides: dict[str, Any | None] = Field(
        {}, description="Fields of StageConfig to set otherwise for the reference, such as a larger max_pairs."
    )


@dg.asset(
    group_name="ablations",
    partitions_def=arms,
    ins={name: many(dg.AllPartitionMapping()) for name in (*_BY_SOURCE, "mined_negatives")},
    deps=[dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping()) for name in ("conversations", "duplicates")],
    kinds={"pytorch", "duckdb"},
    owners=OWNERS,
    pool="gpu",
    op_tags=gpu_tags(),
    code_version="1",
    metadata=tables("ablation", SCHEMAS),
    retry_policy=KILLED,
)
def ablation(
    context: dg.AssetExecutionContext,
    config: AblationConfig,
    layout: LayoutResource,
    gpu: GpuResource,
    pipes: dg.PipesSubprocessClient,
    **upstream: Any,
) -> dg.MaterializeResult[Path]:
    """One arm of benchmark/ablations.yaml: the reference but for one choice, trained with each seed, scored on dev alone.

    Arms that want other windows or another format build pairs of their own. A killed arm goes on where it stopped.

    - **Needs** pair tables, and the tasks of at least one benchmark source; some arms need summaries or mined negatives.
    - **Takes** some 250,000 tokens of training for each seed, and embeds the dev tasks once for each seed.
    - **Lies in** `data/ablations/<arm>/scores.duckdb`.
    """
    arm, place = context.partition_key, layout.layout()
    with only_what_passes():
        plan = load_plan().changed(config.overrides, config.seeds)
        wants_mined = plan.config(arm, plan.seeds[0]).hard_negatives == "mined"
        material = _material(context.instance, place, config.mix, upstream, wants_mined)
        path = run_arm(plan, arm, material, gpu.device, lambda job: _trained(context, pipes, job))
    scores = open_table(path, "scores")
    with connect_read_only([scores]) as connection:
        means = connection.execute(
            f'SELECT source, task, seed, count(*), round(avg("{HEADLINE}"), 3) FROM scores GROUP BY ALL ORDER BY ALL'
        ).fetchall()
    columns = ("source", "task", "seed", "queries", HEADLINE)
    runs = open_table(path, "runs")
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(scores.fingerprint),
        metadata={
            "dagster/partition_row_count": scores.rows,
            "scores": rows_table((dict(zip(columns, row, strict=True)) for row in means), columns),
            "runs": rows_table(runs.rows_as_dicts(order_by="seed"), runs.schema.names),
            "dagster/uri": path.as_uri(),
        },
    )


def _material(
    instance: dg.DagsterInstance, layout: Layout, mix: str, upstream: Mapping[str, Any], wants_mined: bool
) -> Material:
    """The tables that are there, of the mix's sources and of those with tasks, once their checks have passed.

    Mined negatives, which are made anew while the mix trains, hold up only an arm that wants them.
    """
    if mix not in MIXES:
        raise InputError(f"mix {mix!r}", "there is no such mix", f"Use one of {', '.join(MIXES)}")
    wanted = {name: {s: h for s, h in upstream[name].items() if s in MIXES[mix]} for name in PAIR_ASSETS}
    tables = {**wanted, "benchmark_tasks": upstream["benchmark_tasks"]}
    for source in sorted({source for by_source in tables.values() for source in by_source}):
        read = {"conversations", "hard_negatives", *(name for name, by_source in tables.items() if source in by_source)}
        if source not in upstream["hard_negatives"]:
            read.remove("hard_negatives")
        require_passed(instance, [key for key in _GATES if key.asset_key.path[-1] in read], source)
    mined: TableHandle | None = upstream["mined_negatives"].get(mix) if wants_mined else None
    if mined is not None:
        require_passed(instance, keys_of(mined_negative_checks), mix)
    return Material(
        layout,
        CATALOG,
        [
            PairInput(strategy, source, pairs, upstream["hard_negatives"].get(source))
            for name, strategy in PAIR_ASSETS.items()
            for source, pairs in wanted[name].items()
        ],
        [
            DevSource(source, path, open_normalised(layout.conversations(source)))
            for source, path in upstream["benchmark_tasks"].items()
        ],
        mined,
    )


def _trained(context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient, job: Job) -> Checkpoint:
    """Train in a process of its own."""
    folder = Layout(job.root).checkpoints(job.mix, job.config.stage)
    messages = run_job(context, pipes, job, folder)
    checkpoint = open_checkpoint(folder / messages[-1]["fingerprint"]) if messages else None
    if checkpoint is None:
        raise dg.Failure(f"the training process ended without leaving a checkpoint in {folder}")
    return checkpoint


@dg.asset(group_name="ablations", ins={"ablation": many()}, kinds={"markdown"}, owners=OWNERS, code_version="1")
def ablation_table(
    context: dg.AssetExecutionContext, layout: LayoutResource, ablation: dict[str, Path]
) -> dg.MaterializeResult[Path]:
    """The arms that are there beside the reference: dev scores, paired differences with intervals, cost; the rest NOT RUN.

    People read it and set the defaults; nothing does so by itself.

    - **Needs** the reference, and the arms to compare with it.
    - **Takes** seconds.
    - **Lies in** `data/ablations`.
    """
    for arm in ablation:
        require_passed(context.instance, keys_of(ablation_checks), arm)
    written = write_table(load_plan(), layout.layout())
    return dg.MaterializeResult(
        value=written.folder,
        metadata={
            "table": dg.MetadataValue.md(written.page),
            "arms": len(ablation),
            "folder": dg.MetadataValue.path(written.folder),
        },
    )
