from __future__ import annotations

import os
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import Bm25, search
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, fetch
from thread_embed_assets.storage.layout import Layout


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get(MIRROR_VARIABLE), reason=f"{MIRROR_VARIABLE} is not set: no real data here")
def test_bm25_on_masked_irc_is_where_a_separate_study_found_it(tmp_path: Path) -> None:
    """Masked, BM25 scores about .43 on thread retrieval of the test split; names left in the texts would give .87."""
    source, layout = load_catalog()["irc_disentangle"], Layout(tmp_path)
    fetch(source, layout)
    built = build_conversations(source, layout)
    build_tasks(source.name, built.conversations, built.messages, {}, layout.tasks(source.name))
    (task,) = (t for t in load_tasks(layout.tasks(source.name)) if (t.name, t.split) == ("thread", "test"))
    assert task.tier == "gold"
    assert 250 <= len(task.query_ids) <= len(task.document_ids) <= 300
    run = search(Bm25(task.query_texts("plain"), task.document_texts("plain")), task.query_ids, task.document_ids)
    assert per_query(run, task.relevant, task.query_ids)["MRR@10"].mean() == pytest.approx(0.44, abs=0.04)
