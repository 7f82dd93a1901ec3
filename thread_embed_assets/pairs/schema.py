"""What every pair table holds, whichever strategy wrote it."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from thread_embed_assets.storage.columns import described


class Strategy(StrEnum):
    """The pair strategies; the value names the folder below ``data/pairs``."""

    THREAD = "thread"
    RESPONSE = "response"
    TEMPORAL = "temporal"
    SUMMARY = "summary"


HARD_NEGATIVES_FOLDER = "hard_negatives"

PAIRS = described(
    [
        ("pair_id", pa.string(), "unique over all sources and strategies"),
        ("strategy", pa.string(), "thread, response, temporal or summary"),
        ("source", pa.string(), "the conversation's source"),
        ("platform", pa.string(), "the source's platform"),
        ("channel", pa.string(), "the room the conversation took place in"),
        ("conversation_id", pa.string(), "the conversation that anchor and positive are of"),
        ("conversation_label", pa.int64(), "63-bit hash of (source, conversation_id): one per batch at most"),
        ("split", pa.string(), "train or dev; test conversations never make pairs"),
        ("truth", pa.string(), "who said what the thread is"),
        ("text_format", pa.string(), "how the texts are written: plain, speakers, times, speakers_times"),
        ("anchor", pa.string(), "a window of messages, a message, or a line about the thread"),
        ("positive", pa.string(), "what the model should place near the anchor"),
        ("negative", pa.string(), "strategy C's same-channel negative, else null"),
        ("negative_conversation_id", pa.string(), "the conversation that the negative is of"),
        ("anchor_ids", pa.list_(pa.string()), "message_ids; empty where the anchor is a line about the conversation"),
        ("positive_ids", pa.list_(pa.string()), "message_ids"),
        ("gap_seconds", pa.float64(), "last anchor message to first positive message; null without times"),
    ]
)

HARD_NEGATIVES = described(
    [
        ("pair_id", pa.string(), "the pair whose anchor it is a negative of"),
        ("strategy", pa.string(), "the pair's strategy"),
        ("source", pa.string(), "the pair's source"),
        ("conversation_id", pa.string(), "the pair's conversation"),
        ("kind", pa.string(), "same_channel, bm25, or mined by a model"),
        ("rank", pa.int32(), "1, 2, ... without gaps, hardest first"),
        ("score", pa.float32(), "of BM25, or the model's cosine with the anchor; null for same_channel"),
        ("negative", pa.string(), "a text of another conversation, which the model should place far away"),
        ("negative_conversation_id", pa.string(), "the conversation it is of"),
    ]
)
