"""Training pairs, one asset per strategy, and the hard negatives of them all."""

import dagster as dg
from pydantic import Field

from thread_embed_assets.chat.duplicates import dropped_ids, held_out_shingles
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS, rows_table, table_metadata, tables
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.candidates import DEFAULT_WINDOWS, WINDOWS
from thread_embed_assets.pairs.hard_negatives import HardNegativeOptions, mine
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, HARD_NEGATIVES_FOLDER, PAIRS, Strategy
from thread_embed_assets.pairs.volume import MOST_PER_CONVERSATION, most_pairs
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.tables import TableHandle

_EXAMPLES = 5


class PairConfig(dg.Config):
    """How the windows of a pair table are cut and written, and how many pairs are kept."""

    text_format: str = Field(DEFAULT_FORMAT, description="plain, speakers, times or speakers_times (chat/formats.py).")
    windows: str = Field(DEFAULT_WINDOWS, description="Messages in a window: 3, 5, 8, or random (3 to 8).")
    keep_share: float = Field(1.0, gt=0, le=1, description="Share of conversations that make pairs, drawn by id.")
    most_pairs: int = Field(0, ge=0, description="Pairs kept, a uniform sample; 0 takes the catalogue's number.")
    most_per_conversation: int = Field(MOST_PER_CONVERSATION, ge=1, description="Pairs kept of a conversation.")

    def options(self, strategy: Strategy, source: Source) -> PairOptions:
        if self.windows not in WINDOWS:
            raise InputError("windows", f"there is no choice {self.windows!r}", f"Choose one of {', '.join(WINDOWS)}")
        most = self.most_pairs or most_pairs(strategy, source.most_pairs)
        return PairOptions(self.text_format, WINDOWS[self.windows], self.keep_share, most, self.most_per_conversation)


class HardNegativeConfig(dg.Config):
    """What is mined for each anchor."""

    per_anchor: int = Field(1, ge=1, description="Negatives of each kind kept per anchor.")
    retrieved: int = Field(24, ge=1, description="BM25 candidates looked at per anchor.")


_PAGE = """{holds}

Train and dev only, and nothing that any source holds out. Of more pairs than the catalogue allows, a uniform sample is kept.

- **Needs** the source's conversations and duplicates{needs}.
- **Takes** a second of one core for some 10,000 pairs.
- **Lies in** `data/pairs/{strategy}/<source>.duckdb`.
"""


def _pairs_asset(strategy: Strategy, holds: str) -> dg.AssetsDefinition:
    of_summaries = strategy is Strategy.SUMMARY

    @dg.asset(
        name=f"{strategy}_pairs",
        group_name="pairs",
        partitions_def=sources,
        ins={"summaries": dg.AssetIn("conversation_summaries")} if of_summaries else {},
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="4",
        description=_PAGE.format(holds=holds, needs=", and their summaries" if of_summaries else "", strategy=strategy),
        metadata=tables(f"{strategy}_pairs", {"pairs": PAIRS}),
    )
    def pairs(
        context: dg.AssetExecutionContext,
        config: PairConfig,
        layout: LayoutResource,
        conversations: Normalised,
        duplicates: TableHandle,
        **also: TableHandle,
    ) -> dg.MaterializeResult[TableHandle]:
        source = CATALOG[context.partition_key]
        handle = build_pairs(
            strategy,
            source.name,
            conversations.conversations,
            conversations.messages,
            config.options(strategy, source),
            layout.layout().pairs(strategy, source.name),
            allowed=source.strategies,
            dropped=dropped_ids(duplicates),
            held_out=held_out_shingles(duplicates),
            summaries=also.get("summaries"),
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
summary_pairs = _pairs_asset(
    Strategy.SUMMARY,
    "Strategy D: a summary, a title or a search question about a thread, and the thread or its best fitting window.",
)


@dg.asset(
    group_name="pairs",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    metadata=tables("hard_negatives", {"hard_negatives": HARD_NEGATIVES}),
)
def hard_negatives(
    context: dg.AssetExecutionContext,
    config: HardNegativeConfig,
    layout: LayoutResource,
    thread_pairs: TableHandle,
    response_pairs: TableHandle,
    temporal_pairs: TableHandle,
    summary_pairs: TableHandle,
) -> dg.MaterializeResult[TableHandle]:
    """Same-channel and BM25 negatives for the train anchors of all strategies.

    `counts` says what was rejected and why.

    - **Needs** the pair tables.
    - **Takes** a second of one core for some 1,500 anchors, for 650 where a source fills whole blocks of 100,000 texts.
    - **Lies in** `data/pairs/hard_negatives/<source>.duckdb`.
    """
    path = layout.layout().pairs(HARD_NEGATIVES_FOLDER, context.partition_key)
    options = HardNegativeOptions(config.per_anchor, config.retrieved)
    handle = mine([thread_pairs, response_pairs, temporal_pairs, summary_pairs], options, path)
    return _materialized(handle, ("kind", "score", "negative"))
