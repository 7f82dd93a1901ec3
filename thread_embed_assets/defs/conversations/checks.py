"""What must hold before a conversation goes on."""

from __future__ import annotations

from collections.abc import Callable

from thread_embed_assets.chat import quality
from thread_embed_assets.chat.duplicates import DUPLICATES
from thread_embed_assets.chat.normalise import Normalised, open_normalised
from thread_embed_assets.defs.checks import PartitionCheck, blocking_checks
from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.language_models import quality as summary_quality
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.quality import has_schema
from thread_embed_assets.storage.tables import TableHandle, open_table
from thread_embed_assets.verdict import Verdict


def _on_stored(check: Callable[[Normalised], Verdict]) -> PartitionCheck:
    def run(layout: Layout, source: str) -> Verdict:
        return check(open_normalised(layout.conversations(source)))

    run.__doc__ = check.__doc__
    return run


def _speaker_names_gone(layout: Layout, source: str) -> Verdict:
    return quality.speaker_names_gone(open_normalised(layout.conversations(source)), layout.people(source))


def _filter_rates(layout: Layout, source: str) -> Verdict:
    return quality.filter_rates(open_normalised(layout.conversations(source)), CATALOG[source].filter_bounds)


_speaker_names_gone.__doc__ = quality.speaker_names_gone.__doc__
_filter_rates.__doc__ = quality.filter_rates.__doc__


def _duplicates_schema(layout: Layout, source: str) -> Verdict:
    """The table has the declared columns."""
    return has_schema(open_table(layout.duplicates(source), "duplicates"), DUPLICATES)


def _on_summaries(check: Callable[[TableHandle], Verdict]) -> PartitionCheck:
    def run(layout: Layout, source: str) -> Verdict:
        return _if_written(source, STORED["conversation_summaries"].open(layout, source), check)

    run.__doc__ = check.__doc__
    return run


def _on_summaries_and_stored(check: Callable[[TableHandle, Normalised], Verdict]) -> PartitionCheck:
    def run(layout: Layout, source: str) -> Verdict:
        stored = open_normalised(layout.conversations(source))
        summaries = STORED["conversation_summaries"].open(layout, source)
        return _if_written(source, summaries, lambda handle: check(handle, stored))

    run.__doc__ = check.__doc__
    return run


def _if_written(source: str, summaries: TableHandle, check: Callable[[TableHandle], Verdict]) -> Verdict:
    """The check, unless the catalogue leaves strategy D out for the source: then there must be no summaries."""
    if Strategy.SUMMARY in CATALOG[source].strategies:
        return check(summaries)
    rows = summaries.rows
    return Verdict(rows == 0, f"{rows} summaries, where the catalogue leaves strategy D out", {"rows": rows})


conversation_checks = blocking_checks(
    "conversations",
    sources,
    {
        "non_empty": _on_stored(quality.non_empty),
        "schema": _on_stored(quality.schema),
        "unique_ids": _on_stored(quality.unique_ids),
        "language_share": _on_stored(quality.language_share),
        "speaker_names_gone": _speaker_names_gone,
        "no_private_data": _on_stored(quality.no_private_data),
        "filter_rates": _filter_rates,
    },
)
duplicate_checks = blocking_checks("duplicates", sources, {"schema": _duplicates_schema})
summary_checks = blocking_checks(
    "conversation_summaries",
    sources,
    {
        "schema": _on_summaries(summary_quality.schema),
        "unique_ids": _on_summaries(summary_quality.unique_ids),
        "coverage": _on_summaries(summary_quality.coverage),
        "no_private_data": _on_summaries(summary_quality.no_private_data),
        "no_held_out_conversation": _on_summaries_and_stored(summary_quality.no_held_out_conversation),
        "not_copied": _on_summaries_and_stored(summary_quality.not_copied),
    },
)
