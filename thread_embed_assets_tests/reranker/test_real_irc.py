from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.people import Masker, salt
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.reranker.candidates import Candidate, Floats
from thread_embed_assets.reranker.linking import Fusion, measure, read_log
from thread_embed_assets.reranker.real import write_examples
from thread_embed_assets.reranker.replay import log_channel, masked
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, fetch
from thread_embed_assets.sources.irc import annotated_logs
from thread_embed_assets.storage.layout import Layout

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not os.environ.get(MIRROR_VARIABLE), reason=f"{MIRROR_VARIABLE} is not set: no real data here"),
]


def indifferent(text: str, candidates: Sequence[Candidate]) -> Floats:
    return np.zeros(len(candidates), np.float32)


def test_dev_of_annotated_irc(tmp_path: Path) -> None:
    """Links without a reranker are the disentangler's, and texts those of the conversations table."""
    source, layout = load_catalog()["irc_disentangle"], Layout(tmp_path)
    folder = fetch(source, layout).folder
    built = build_conversations(source, layout)
    masker = Masker(source.name, salt(layout), {})
    logs = [(log, masked(log, masker, source.platform)) for log in annotated_logs(folder, Split.DEV)]
    row = measure("alone", [read_log(log, messages) for log, messages in logs], indifferent, Fusion(reranker=0.0))
    assert row.link_f1 == pytest.approx(74.4, abs=0.3)
    channels = (log_channel(log, messages, source.name) for log, messages in logs)
    examples = write_examples(tmp_path / "examples.duckdb", channels)
    assert dict(examples.counts) == {"irc_disentangle/dev": 2313, "irc_disentangle/dev/unreachable": 12}
    texts = {row["group_id"].split("/", 1)[1]: row["message"] for row in examples.rows_as_dicts(("group_id", "message"))}
    stored = [m for c in read_conversations(built.conversations, built.messages, "split = 'dev'") for m in c.messages]
    shared = [(texts[name], FORMATS["plain"].render([m])) for m in stored if (name := f"{m.id}/same_channel") in texts]
    assert len(shared) > 1_900
    assert all(ours == theirs for ours, theirs in shared)
