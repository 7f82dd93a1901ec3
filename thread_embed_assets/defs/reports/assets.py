"""Pages to look at: one of each source, one of its pairs, and one of the whole corpus."""

from pathlib import Path

import dagster as dg

from thread_embed_assets.chat.corpus_page import Member, corpus_page
from thread_embed_assets.chat.exploration import FIGURES_FILE, SourceFigures, explore, figures_to_json
from thread_embed_assets.chat.exploration_page import day, source_page
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.metadata import OWNERS
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.exploration import explore_pairs
from thread_embed_assets.pairs.exploration_page import pairs_page
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.pages import write_page
from thread_embed_assets.storage.tables import TableHandle


@dg.asset(group_name="reports", partitions_def=sources, kinds={"markdown"}, owners=OWNERS, code_version="1")
def source_report(
    context: dg.AssetExecutionContext, layout: LayoutResource, conversations: Normalised
) -> dg.MaterializeResult[SourceFigures]:
    """A source's page: size, people, lengths, times, languages, what the filters removed, and ten train conversations.

    - **Needs** the source's conversations.
    - **Takes** ten seconds for a million messages.
    - **Lies in** `data/reports/<source>/conversations`: Markdown, pictures and the figures as JSON.
    """
    source = CATALOG[context.partition_key]
    figures = explore(conversations)
    content = figures_to_json(figures)
    folder = layout.layout().source_report(source.name)
    page = write_page(source_page(figures, f"{source.name}: {source.title}"), folder, {FIGURES_FILE: content})
    return dg.MaterializeResult(
        value=figures,
        data_version=dg.DataVersion(of_json(content)),
        metadata={
            "report": dg.MetadataValue.md(page),
            "conversations": figures.conversations,
            "messages": figures.messages,
            "people": figures.people,
            "first_message": day(figures.first) or "no times",
            "last_message": day(figures.last) or "no times",
            "folder": dg.MetadataValue.path(folder),
        },
    )


@dg.asset(group_name="reports", partitions_def=sources, kinds={"markdown"}, owners=OWNERS, code_version="1")
def pairs_report(
    context: dg.AssetExecutionContext,
    layout: LayoutResource,
    thread_pairs: TableHandle,
    response_pairs: TableHandle,
    temporal_pairs: TableHandle,
    summary_pairs: TableHandle,
    hard_negatives: TableHandle,
) -> dg.MaterializeResult[Path]:
    """The page of a source's pairs: per strategy lengths, overlap, times, channels, and examples with their hard negatives.

    - **Needs** the pair tables and the hard negatives.
    - **Takes** seconds.
    - **Lies in** `data/reports/<source>/pairs`: Markdown and pictures.
    """
    handles = {
        Strategy.THREAD: thread_pairs,
        Strategy.RESPONSE: response_pairs,
        Strategy.TEMPORAL: temporal_pairs,
        Strategy.SUMMARY: summary_pairs,
    }
    figures = [explore_pairs(strategy, pairs, hard_negatives) for strategy, pairs in handles.items()]
    folder = layout.layout().pairs_report(context.partition_key)
    page = write_page(pairs_page(context.partition_key, figures), folder)
    return dg.MaterializeResult(
        value=folder,
        data_version=dg.DataVersion(of_json([handle.fingerprint for handle in (*handles.values(), hard_negatives)])),
        metadata={
            "report": dg.MetadataValue.md(page),
            **{f"{strategy}_pairs": pairs.rows for strategy, pairs in handles.items()},
            "folder": dg.MetadataValue.path(folder),
        },
    )


@dg.asset(
    group_name="reports",
    ins={"source_report": many(), "duplicates": many()},
    kinds={"markdown"},
    owners=OWNERS,
    code_version="1",
)
def corpus_report(
    layout: LayoutResource, source_report: dict[str, SourceFigures], duplicates: dict[str, TableHandle]
) -> dg.MaterializeResult[Path]:
    """All sources side by side: size, dates, licence, kind of thread, share of the corpus, and how conversations differ.

    - **Needs** the page of at least one source.
    - **Takes** seconds.
    - **Lies in** `data/reports/corpus/sources`: Markdown and pictures.
    """
    if not source_report:
        raise InputError("corpus_report", "no source has a page yet", "Materialise source_report of a source")
    members = [
        Member(
            figures,
            CATALOG[name].title,
            CATALOG[name].licence,
            tuple(sorted(CATALOG[name].roles)),
            duplicates[name].counts.get("dropped", 0) if name in duplicates else None,
        )
        for name, figures in source_report.items()
    ]
    folder = layout.layout().corpus_report
    page = write_page(corpus_page(members), folder)
    return dg.MaterializeResult(
        value=folder,
        metadata={
            "report": dg.MetadataValue.md(page),
            "sources": len(members),
            "conversations": sum(figures.conversations for figures in source_report.values()),
            "messages": sum(figures.messages for figures in source_report.values()),
            "folder": dg.MetadataValue.path(folder),
        },
    )
