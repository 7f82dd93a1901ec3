"""Training pairs, one asset per strategy, and the hard negatives of them all."""

import dagster as dg
from pydantic import Field

from thread_embed_assets.chat.duplicates import dropped_ids, held_out_shingles
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS, rows_table, table_metadata, table_schema
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.candidates import WINDOW_SIZES
from thread_embed_assets.pairs.hard_negatives import HardNegativeOptions, mine
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, HARD_NEGATIVES_FOLDER, PAIRS, Strategy
from thread_embed_assets.storage.tables import TableHandle

_EXAMPLES = 5


class PairConfig(dg.Config):
    """How the windows of a pair table are cut and written."""

    text_format: str = Field(DEFAULT_FORMAT, description="plain, speakers, times or speakers_times (chat/formats.py).")
    window_sizes: list[int] = Field(list(WINDOW_SIZES), description="Allowed messages in a window, ascending.")
    keep_share: float = Field(1.0, gt=0, le=1, description="Share of conversations that make pairs, drawn by id.")

    def options(self) -> PairOptions:
        return PairOptions(self.text_format, tuple(self.window_sizes), self.keep_share)


class HardNegativeConfig(dg.Config):
    """What is mined for each anchor."""

    per_anchor: int = Field(1, ge=1, description="Negatives of each kind kept per anchor.")
    retrieved: int = Field(24, ge=1, description="BM25 candidates looked at per anchor.")


def _pairs_asset(strategy: Strategy, holds: str) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"{strategy}_pairs",
        group_name="pairs",
        partitions_def=sources,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="3",
        description=f"{holds}\n\nNeeds the source's conversations and duplicates. About 10,000 pairs a second on one core.",
        metadata={"dagster/column_schema": table_schema(PAIRS), "dagster/table_name": "pairs"},
    )
    def pairs(
        context: dg.AssetExecutionContext,
        config: PairConfig,
        layout: LayoutResource,
        conversations: Normalised,
        duplicates: TableHandle,
    ) -> dg.MaterializeResult[TableHandle]:
        source = CATALOG[context.partition_key]
        handle = build_pairs(
            strategy,
            source.name,
            conversations.conversations,
            conversations.messages,
            config.options(),
            layout.layout().pairs(strategy, source.name),
            allowed=source.strategies,
            dropped=dropped_ids(duplicates),
            held_out=held_out_shingles(duplicates),
        )
        return _materialized(handle, ("anchor", "positive", "gap_seconds"), "split = 'train'")

    return pairs


def _materialized(handle: TableHandle, shown: tuple[str, ...], where: str = "") -> dg.MaterializeResult[TableHandle]:
    some = (row for row, _ in zip(handle.rows_as_dicts(shown, where), range(_EXAMPLES), strict=False))
    return dg.MaterializeResult(
        value=handle,
        data_version=dg.DataVersion(handle.fingerprint),
        metadata={**table_metadata(handle), "examples": rows_table(some, shown)},
    )


thread_pairs = _pairs_asset(
    Strategy.THREAD, "Strategy A: two pieces of one thread, windows of 3-8 messages or a message and the window around it."
)
response_pairs = _pairs_asset(Strategy.RESPONSE, "Strategy B: a question and its reply, by reply links where they exist.")
temporal_pairs = _pairs_asset(
    Strategy.TEMPORAL,
    "Strategy C: a window and the next one, with a window of the same channel at another time as negative.",
)


@dg.asset(
    group_name="pairs",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    metadata={"dagster/column_schema": table_schema(HARD_NEGATIVES), "dagster/table_name": "hard_negatives"},
)
def hard_negatives(
    context: dg.AssetExecutionContext,
    config: HardNegativeConfig,
    layout: LayoutResource,
    thread_pairs: TableHandle,
    response_pairs: TableHandle,
    temporal_pairs: TableHandle,
) -> dg.MaterializeResult[TableHandle]:
    """Same-channel and BM25 negatives for the train anchors of all strategies.

    Needs the pair tables. About 1,500 anchors a second on one core; `counts` says what was rejected and why.
    """
    path = layout.layout().pairs(HARD_NEGATIVES_FOLDER, context.partition_key)
    options = HardNegativeOptions(config.per_anchor, config.retrieved)
    handle = mine([thread_pairs, response_pairs, temporal_pairs], options, path)
    return _materialized(handle, ("kind", "score", "negative"))
