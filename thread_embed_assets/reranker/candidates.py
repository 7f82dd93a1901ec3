"""A new message, the threads that it may continue, and the examples that teach which one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thread_embed_assets.chat.model import Message
from thread_embed_assets.storage.columns import described

Floats = npt.NDArray[np.float32]
Tier = Literal["easy", "medium", "hard", "random", "same_channel", "mined"]

FEATURES = ("entity_overlap", "keyword_matches", "flow_continuity", "recency_score", "hours_since_active")
NEW_THREAD = "new"  # the candidate that stands for starting a thread


@dataclass(frozen=True)
class Thread:
    """A thread as the log knows it before a message; nothing in it was written at or after that message's time.

    Attributes:
        id: unique within its channel's log.
        messages: in time order; at least one.
        turns_since: messages of other threads of the channel since this thread's last one; 0 if that was the channel's last.
        title: what the owner calls it; may be empty.
    """

    id: str
    messages: Sequence[Message]
    turns_since: int = 0
    title: str = ""


@dataclass(frozen=True)
class Candidate:
    """A thread that a message may continue, or ``NEW_THREAD``, as the model is given it.

    Attributes:
        id: of the thread, or ``NEW_THREAD``.
        text: what the model reads of the thread; of ``NEW_THREAD`` a fixed text.
        features: float32 [len(FEATURES)], not normalised.
    """

    id: str
    text: str
    features: Floats = field(repr=False)


# An example is one (message, candidate); those of the same ``group_id`` are the candidates of one message, of which exactly
# one has the label 1.
EXAMPLES = described(
    [
        ("group_id", pa.string(), "of the message: its candidates share it"),
        ("candidate_id", pa.string(), "of the thread, or of a new one"),
        ("split", pa.string(), "train, dev or test"),
        ("origin", pa.string(), "synthetic, or the name of a source"),
        ("tier", pa.string(), "how hard: of the message where it is synthetic, of the candidates where it is real"),
        ("domain", pa.string(), "of the profile; the channel of a real message"),
        ("profile", pa.string(), "the simulated user; empty of a real message"),
        ("template", pa.string(), "the wording that the message was made from; empty of a real message"),
        ("message", pa.string(), "the message that goes on somewhere"),
        ("thread", pa.string(), "the candidate as the model reads it"),
        *((name, pa.float32(), "what the log knows of the two (reranker/features.py)") for name in FEATURES),
        ("label", pa.int8(), "1: the right candidate, one of each group; 0: the others"),
        ("sent_at", pa.timestamp("us", tz="UTC"), "of the message"),
        ("known_until", pa.timestamp("us", tz="UTC"), "the last time that text and features of the candidate rest on"),
    ]
)
