"""Cleaned, anonymised, split conversations, what they have in common with those of other sources, and lines about them."""

import dagster as dg
from pydantic import Field

from thread_embed_assets.chat.duplicates import DUPLICATES, HELD_OUT_SHINGLES, dropped_ids, find_duplicates
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS, WEEKLY, rows_table, table_metadata, tables
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LanguageModelResource, LayoutResource, many
from thread_embed_assets.defs.retries import NETWORK, only_what_passes
from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.choose import WriterName
from thread_embed_assets.language_models.summaries import SUMMARIES, SummaryOptions, build_summaries
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import RawDataset
from thread_embed_assets.storage.tables import TableHandle, open_table

_SHOWN = 10


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="3",
    freshness_policy=WEEKLY,
    metadata=tables("conversations", {"conversations": CONVERSATIONS, "messages": MESSAGES}),
)
def conversations(
    context: dg.AssetExecutionContext, layout: LayoutResource, raw_dataset: RawDataset
) -> dg.MaterializeResult[Normalised]:
    """Cleaned, anonymised English conversations in train, dev and test, with their messages.

    `counts` says what each filter removed. Real names go to a private table, which no training reads.

    - **Needs** the source's files.
    - **Takes** a second of one core for some 12,000 messages, and more where threads have to be guessed.
    - **Lies in** `data/conversations/<source>.duckdb`.
    """
    built = build_conversations(CATALOG[context.partition_key], layout.layout())
    return dg.MaterializeResult(
        value=built,
        data_version=dg.DataVersion(f"{built.conversations.fingerprint}-{built.messages.fingerprint}"),
        metadata={**table_metadata(built.conversations), "messages": built.messages.rows, "files": raw_dataset.files},
    )


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    ins={"conversations": many(dg.AllPartitionMapping())},
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    metadata=tables("duplicates", {"duplicates": DUPLICATES, "held_out_shingles": HELD_OUT_SHINGLES}),
)
def duplicates(
    context: dg.AssetExecutionContext, layout: LayoutResource, conversations: dict[str, Normalised]
) -> dg.MaterializeResult[TableHandle]:
    """Conversations that stand elsewhere, whole, nearly or in a quotation: in this source or any other.

    What any source holds out is not trained on here, and of two copies to train on only the first stays.

    - **Needs** the conversations of this source; it is compared with every source that is materialised.
    - **Takes** seconds for the sample.
    - **Lies in** `data/duplicates/<source>.duckdb`.
    """
    place, source = layout.layout(), context.partition_key
    if source not in conversations:
        raise InputError(f"source {source!r}", "it has no conversations yet", "Materialise its conversations first")
    others = {name: stored for name, stored in conversations.items() if name != source}
    path = place.duplicates(source)
    found = find_duplicates(source, conversations[source], others, list(CATALOG), path, place.sketch_cache)
    shown = [name for name in DUPLICATES.names if name != "conversation_id"]
    some = (row for row, _ in zip(found.rows_as_dicts(shown), range(_SHOWN), strict=False))
    return dg.MaterializeResult(
        value=found,
        data_version=dg.DataVersion(f"{found.fingerprint}-{open_table(path, 'held_out_shingles').fingerprint}"),
        metadata={**table_metadata(found), "compared_with": sorted(others), "some": rows_table(some, shown)},
    )


class SummaryConfig(dg.Config):
    """What is written about conversations, by whom, and for how much."""

    writer: WriterName = Field(
        "auto", description="anthropic, anthropic_batch, openai_compatible, extractive, or auto: what the resource says."
    )
    model: str = Field("", description="The writer's model; empty means the resource's, else its default.")
    budget_usd: float = Field(5.0, ge=0, description="A run that may cost more is refused before anything is sent.")
    limit: int = Field(20_000, ge=1, description="Conversations of the source at most, drawn by id.")
    fewest_messages: int = Field(3, ge=2, description="Shorter conversations are left out.")

    def options(self, resource: LanguageModelResource) -> SummaryOptions:
        return SummaryOptions(
            writer=resource.writer if self.writer == "auto" else self.writer,
            model=self.model or resource.model,
            url=resource.url,
            at_once=resource.at_once,
            budget_usd=self.budget_usd,
            limit=self.limit,
            fewest_messages=self.fewest_messages,
        )


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    kinds={"duckdb", "anthropic"},
    owners=OWNERS,
    code_version="1",
    retry_policy=NETWORK,
    metadata=tables("conversation_summaries", {"summaries": SUMMARIES}),
)
def conversation_summaries(
    context: dg.AssetExecutionContext,
    config: SummaryConfig,
    layout: LayoutResource,
    language_model: LanguageModelResource,
    conversations: Normalised,
    duplicates: TableHandle,
) -> dg.MaterializeResult[TableHandle]:
    """A summary, a title and search questions for train and dev conversations; `written_by` says who wrote them.

    A language model gets masked text only; its answers are paid for once and kept by content. Without a named writer an
    offline stand-in makes them from the thread's own words.

    - **Needs** the source's conversations and duplicates; for a language model, its key in the environment.
    - **Takes** a second for some 500 threads with the stand-in.
    - **Lies in** `data/summaries/<source>.duckdb`.
    """
    source, place = CATALOG[context.partition_key], layout.layout()
    with only_what_passes():
        handle = build_summaries(
            source.name,
            conversations,
            config.options(language_model),
            place.summaries(source.name),
            place.answer_cache(source.name),
            served=Strategy.SUMMARY in source.strategies,
            dropped=dropped_ids(duplicates),
        )
    shown = ["written_by", "summary", "title", "questions"]
    some = (row for row, _ in zip(handle.rows_as_dicts(shown, "split = 'train'"), range(_SHOWN), strict=False))
    return dg.MaterializeResult(
        value=handle,
        data_version=dg.DataVersion(handle.fingerprint),
        metadata={**table_metadata(handle), "examples": rows_table(some, shown)},
    )
