"""The negatives that the stage 2 model mines for stage 3."""

import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.executors import gpu_tags
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, rows_table, table_metadata, tables
from thread_embed_assets.defs.pairs.checks import pair_checks
from thread_embed_assets.defs.partitions import mixes, source_to_mixes
from thread_embed_assets.defs.resources import PAIR_ASSETS, GpuResource, LayoutResource, many
from thread_embed_assets.defs.retries import KILLED, only_what_passes
from thread_embed_assets.defs.training.assets import PROFILE_VARIABLE
from thread_embed_assets.defs.training.checks import checks_of
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.tables import TableHandle, open_table
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.config import STAGE3, stage_config
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.devices import cpu_products, pick_device
from thread_embed_assets.training.mining import AUDIT, MOST_DOCUMENTS, MiningOptions, mine_with_model

_GATES = keys_of([*conversation_checks, *pair_checks])
_SHOWN = ("strategy", "source", "positive_score", "negative_score", "anchor", "positive", "negative")
_CHARACTERS = 240


class MiningConfig(dg.Config):
    """Which pairs are mined, those that stage 3 of the profile trains on, and how carefully."""

    profile: str = Field(
        os.environ.get(PROFILE_VARIABLE, "quick"), description="quick or hours (2-core CPU), standard or full (one GPU)."
    )
    overrides: dict[str, Any | None] = Field({}, description="What is set otherwise in stage 3's configuration.")
    most_documents: int = Field(0, ge=0, description="Texts looked among; 0 takes the profile's number.")
    relative_margin: float = Field(0.95, gt=0, le=1, description="Highest share of the positive's similarity.")
    minutes: float = Field(30.0, ge=0, description="How far apart two conversations of a channel have to be.")


@dg.asset(
    group_name="training",
    partitions_def=mixes,
    ins={**{name: many(source_to_mixes) for name in (*PAIR_ASSETS, "conversations")}, "stage2_checkpoint": dg.AssetIn()},
    kinds={"pytorch", "duckdb"},
    owners=OWNERS,
    pool="gpu",
    op_tags=gpu_tags(),
    code_version="1",
    retry_policy=KILLED,
    metadata=tables("mined_negatives", {"hard_negatives": HARD_NEGATIVES, "audit": AUDIT}),
)
def mined_negatives(
    context: dg.AssetExecutionContext,
    config: MiningConfig,
    layout: LayoutResource,
    gpu: GpuResource,
    stage2_checkpoint: Checkpoint,
    **tables: dict[str, Any],
) -> dg.MaterializeResult[TableHandle]:
    """Texts that the stage 2 model takes for the positives of stage 3's anchors, and that are none.

    `counts` says what was rejected nearer than the negatives that were kept, and why; `examples` are for reading: where a
    negative would answer its anchor just as well, raise `minutes` or lower `relative_margin`.

    - **Needs** the stage 2 checkpoint, and conversations and pair tables of the mix's sources, with their checks passed.
    - **Takes** minutes: profile `quick` embeds 6,000 texts.
    - **Lies in** `data/pairs/mined/<mix>.duckdb`.
    """
    mix = context.partition_key
    with only_what_passes():
        for source in sorted({source for by_source in tables.values() for source in by_source}):
            present = {name for name, by_source in tables.items() if source in by_source}
            require_passed(context.instance, [key for key in _GATES if key.asset_key.path[-1] in present], source)
        require_passed(context.instance, keys_of(checks_of(stage2_checkpoint)), mix)
        stage = stage_config(config.profile, STAGE3, **config.overrides)
        device = pick_device(gpu.device)
        inputs = [
            PairInput(str(strategy), source, pairs)
            for name, strategy in PAIR_ASSETS.items()
            for source, pairs in tables[name].items()
        ]
        stored: dict[str, Normalised] = tables["conversations"]
        options = MiningOptions(
            per_anchor=stage.negatives,
            most_documents=config.most_documents or MOST_DOCUMENTS[config.profile],
            relative_margin=config.relative_margin,
            minutes=config.minutes,
        )
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(stage2_checkpoint.model), device=device.device, local_files_only=True)
        model.max_seq_length = min(stage.max_tokens, model.max_seq_length or stage.max_tokens)
        with cpu_products(device.precision if device.device == "cpu" else "fp32"):
            handle = mine_with_model(
                model,
                stage,
                inputs,
                {source: one.conversations for source, one in stored.items()},
                options,
                mix,
                layout.layout().mined_negatives(mix),
            )
    return dg.MaterializeResult(
        value=handle,
        data_version=dg.DataVersion(handle.fingerprint),
        metadata={
            **table_metadata(handle),
            "model": stage2_checkpoint.fingerprint,
            "examples": rows_table(_examples(handle), _SHOWN),
        },
    )


def _examples(handle: TableHandle) -> Iterator[dict[str, str]]:
    """The audit table, short enough to read; the UI would leave out what looks like HTML."""
    audit = open_table(handle.path, "audit")
    for row in audit.rows_as_dicts(_SHOWN):
        yield {
            name: f"{value:.2f}" if isinstance(value, float) else value[:_CHARACTERS].replace("<", "&lt;")
            for name, value in row.items()
        }
