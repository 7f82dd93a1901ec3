"""Cleaned, anonymised, split conversations, and what they have in common with those of other sources."""

import dagster as dg

from thread_embed_assets.chat.duplicates import DUPLICATES, find_duplicates
from thread_embed_assets.chat.model import CONVERSATIONS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS, rows_table, table_metadata, table_schema
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import RawDataset
from thread_embed_assets.storage.tables import TableHandle, open_table

_SHOWN = 10


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="2",
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


@dg.asset(
    group_name="conversations",
    partitions_def=sources,
    ins={"conversations": many(dg.AllPartitionMapping())},
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="1",
    metadata={"dagster/column_schema": table_schema(DUPLICATES), "dagster/table_name": "duplicates"},
)
def duplicates(
    context: dg.AssetExecutionContext, layout: LayoutResource, conversations: dict[str, Normalised]
) -> dg.MaterializeResult[TableHandle]:
    """Conversations that stand elsewhere, whole, nearly or in a quotation: in this source or any other.

    Needs the conversations of this source, and compares with every source that is materialised. What any source holds out is
    not trained on here, and of two copies to train on only the first stays.
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
