"""Files as downloaded."""

from datetime import UTC, datetime

import dagster as dg

from thread_embed_assets.defs.metadata import OWNERS
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.defs.retries import NETWORK, only_what_passes
from thread_embed_assets.sources.fetch import RawDataset, Survey, fetch


@dg.asset(group_name="raw", partitions_def=sources, kinds={"file"}, owners=OWNERS, code_version="1", retry_policy=NETWORK)
def raw_dataset(context: dg.AssetExecutionContext, layout: LayoutResource) -> dg.MaterializeResult[RawDataset]:
    """A source's files as downloaded: checksummed, with revision and licence.

    - **Needs** the mirror (`THREAD_EMBED_MIRROR`), the download cache or the network; the sample and a team's own
      export need none of them.
    - **Takes** a second for the sample; for others as long as the download.
    - **Lies in** `data/raw/<source>`; the manifest has the checksum of each file.
    """
    source = CATALOG[context.partition_key]
    with only_what_passes():
        raw = fetch(source, layout.layout())
    return dg.MaterializeResult(
        value=raw,
        data_version=dg.DataVersion(raw.sha256[:16]),
        metadata={
            "title": source.title,
            "licence": source.licence,
            "redistribute": source.redistribute,
            "revision": source.revision,
            "fetched_from": "kept" if raw.reused else raw.fetched_from,
            "files": raw.files,
            "bytes": raw.bytes,
            "sha256": raw.sha256,
            "dagster/uri": raw.folder.as_uri(),
            **(_counts(raw.survey) if raw.survey else {}),
        },
    )


def _counts(found: Survey) -> dict[str, int | str]:
    return {
        "conversations": found.conversations,
        "messages": found.messages,
        "first_message": _day(found.first),
        "last_message": _day(found.last),
    }


def _day(time: float | None) -> str:
    return "no times" if time is None else datetime.fromtimestamp(time, UTC).date().isoformat()
