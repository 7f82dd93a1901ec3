"""Which column comes from which: told on the columns of an asset's page, and as lineage for a UI that draws it.

Only what a name does not tell: ids, texts, and what decides about them.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

_TEXT = "conversations/messages.text"
_CONVERSATION = "conversations/conversations.conversation_id"
_STRATEGIES = ("thread", "response", "temporal", "summary")

_PAIRS = {
    "conversation_id": (_CONVERSATION,),
    "channel": ("conversations/conversations.channel",),
    "split": ("conversations/conversations.split",),
    "truth": ("conversations/conversations.truth",),
    "anchor": (_TEXT,),
    "positive": (_TEXT,),
    "anchor_ids": ("conversations/messages.message_id",),
    "positive_ids": ("conversations/messages.message_id",),
    "gap_seconds": ("conversations/messages.sent_at",),
}


def _of_pairs(column: str) -> tuple[str, ...]:
    return tuple(f"{strategy}_pairs/{column}" for strategy in _STRATEGIES)


_NEGATIVES = {
    "pair_id": _of_pairs("pair_id"),
    "negative": _of_pairs("positive"),
    "negative_conversation_id": _of_pairs("conversation_id"),
}

LINEAGE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "duplicates": {
        "duplicates.conversation_id": (_CONVERSATION,),
        "duplicates.of_conversation_id": (_CONVERSATION,),
        "duplicates.containment": (_TEXT,),
        "held_out_shingles.hash": (_TEXT, "conversations/conversations.split"),
    },
    "conversation_summaries": {
        "conversation_id": (_CONVERSATION,),
        "split": ("conversations/conversations.split",),
        "summary": (_TEXT,),
        "title": (_TEXT,),
        "questions": (_TEXT,),
    },
    "thread_pairs": _PAIRS,
    "response_pairs": {**_PAIRS, "positive": (_TEXT, "conversations/messages.parents")},
    "temporal_pairs": {**_PAIRS, "negative": (_TEXT,), "negative_conversation_id": (_CONVERSATION,)},
    "summary_pairs": {
        **_PAIRS,
        "anchor": tuple(f"conversation_summaries/{column}" for column in ("summary", "title", "questions")),
    },
    "hard_negatives": _NEGATIVES,
    "mined_negatives": {f"hard_negatives.{column}": origins for column, origins in _NEGATIVES.items()},
    "benchmark_tasks": {
        "queries.conversation_id": (_CONVERSATION,),
        "queries.split": ("conversations/conversations.split",),
        "queries.tier": ("conversations/conversations.truth",),
        "queries.asked_at": ("conversations/messages.sent_at",),
        "queries.message_ids": ("conversations/messages.message_id",),
        "queries.text_plain": (_TEXT,),
        "corpus.conversation_id": (_CONVERSATION,),
        "corpus.message_ids": ("conversations/messages.message_id",),
        "corpus.text_plain": (_TEXT,),
        "qrels.grade": ("conversations/messages.parents",),
    },
    "benchmark_results": {
        "per_query.query_id": ("benchmark_tasks/queries.query_id",),
        "per_query.MRR@10": ("benchmark_tasks/qrels.grade",),
        "summary.tier": ("benchmark_tasks/queries.tier",),
    },
}
"""Asset to its columns that come from others', each named ``asset/column``."""


def column_lineage(asset: str) -> dg.TableColumnLineage | None:
    """The lineage of a materialisation; None where none is declared."""
    declared = LINEAGE.get(asset)
    if declared is None:
        return None
    return dg.TableColumnLineage(
        {column: [_dependency(origin) for origin in origins] for column, origins in declared.items()}
    )


def _dependency(origin: str) -> dg.TableColumnDep:
    asset, _, column = origin.partition("/")
    return dg.TableColumnDep(dg.AssetKey(asset), column)
