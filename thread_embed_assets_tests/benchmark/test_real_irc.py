from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import Bm25, search
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.benchmark.views import intact, names_only, read_names
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, fetch
from thread_embed_assets.storage.layout import Layout


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get(MIRROR_VARIABLE), reason=f"{MIRROR_VARIABLE} is not set: no real data here")
def test_bm25_on_masked_irc_is_where_a_separate_study_found_it(tmp_path: Path) -> None:
    """Masked, BM25 scores about .43 on thread retrieval of the test split; with names left in the texts it scores .87."""
    source, layout = load_catalog()["irc_disentangle"], Layout(tmp_path)
    fetch(source, layout)
    built = build_conversations(source, layout)
    build_tasks(source.name, built.conversations, built.messages, {}, layout.tasks(source.name))
    (task,) = (t for t in load_tasks(layout.tasks(source.name)) if (t.name, t.split) == ("thread", "test"))
    assert task.tier == "gold"
    assert 250 <= len(task.query_ids) <= len(task.document_ids) <= 300

    def mrr(show: Callable[[str], str], column: str) -> float:
        queries, documents = ([show(t) for t in texts] for texts in (task.query_texts(column), task.document_texts(column)))
        run = search(Bm25(queries, documents), task.query_ids, task.document_ids)
        return float(per_query(run, task.relevant, task.query_ids)["MRR@10"].mean())

    names = read_names(layout.people(source.name))
    assert mrr(str, "plain") == pytest.approx(0.44, abs=0.04)
    assert mrr(lambda text: intact(text, names), "people") == pytest.approx(0.87, abs=0.05)
    assert mrr(lambda text: names_only(text, names), "people") > 0.7
