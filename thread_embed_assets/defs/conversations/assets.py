"""Cleaned, anonymised, split conversations."""

import dagster as dg

from thread_embed_assets.chat.model import CONVERSATIONS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS, table_metadata, table_schema
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import RawDataset


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    metadata={"dagster/column_schema": table_schema(CONVERSATIONS), "dagster/table_name": "conversations"},
)
def conversations(
    context: dg.AssetExecutionContext, layout: LayoutResource, raw_dataset: RawDataset
) -> dg.MaterializeResult[Normalised]:
    """Cleaned, anonymised English conversations in train, dev and test, with their messages.

    Needs the source's files. About 10,000 messages a second on one core; `counts` says what each filter removed.
    """
    built = build_conversations(CATALOG[context.partition_key], layout.layout())
    return dg.MaterializeResult(
        value=built,
        data_version=dg.DataVersion(f"{built.conversations.fingerprint}-{built.messages.fingerprint}"),
        metadata={**table_metadata(built.conversations), "messages": built.messages.rows, "files": raw_dataset.files},
    )
