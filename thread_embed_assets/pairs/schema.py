"""What every pair table holds, whichever strategy wrote it."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa


class Strategy(StrEnum):
    """The pair strategies; the value names the folder below ``data/pairs``."""

    THREAD = "thread"
    RESPONSE = "response"
    TEMPORAL = "temporal"
    SUMMARY = "summary"


HARD_NEGATIVES_FOLDER = "hard_negatives"

PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("strategy", pa.string()),
        ("source", pa.string()),
        ("platform", pa.string()),
        ("channel", pa.string()),
        ("conversation_id", pa.string()),
        ("conversation_label", pa.int64()),  # 63-bit hash of (source, conversation_id): one per batch at most
        ("split", pa.string()),  # train or dev; test conversations never make pairs
        ("truth", pa.string()),
        ("text_format", pa.string()),
        ("anchor", pa.string()),
        ("positive", pa.string()),
        ("negative", pa.string()),  # strategy C's same-channel negative, else null
        ("negative_conversation_id", pa.string()),
        ("anchor_ids", pa.list_(pa.string())),  # empty where the anchor is a line about the conversation (strategy D)
        ("positive_ids", pa.list_(pa.string())),
        ("gap_seconds", pa.float64()),  # last anchor message to first positive message; null without times
    ]
)

HARD_NEGATIVES = pa.schema(
    [
        ("pair_id", pa.string()),
        ("strategy", pa.string()),
        ("source", pa.string()),
        ("conversation_id", pa.string()),
        ("kind", pa.string()),  # same_channel, bm25, or mined by a model
        ("rank", pa.int32()),  # 1, 2, ... without gaps, hardest first
        ("score", pa.float32()),  # of BM25, or the model's cosine with the anchor; null for same_channel
        ("negative", pa.string()),
        ("negative_conversation_id", pa.string()),
    ]
)
