from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import Bm25, search
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.benchmark.written_queries import FOLDER, WrittenQuery, written_queries
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, fetch
from thread_embed_assets.storage.layout import Layout

FILES = sorted(FOLDER.glob("*.jsonl"))


def test_there_are_enough_and_each_is_a_sentence_in_two_wordings() -> None:
    entries = [json.loads(line) for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(entries) >= 300
    for entry in entries:
        assert set(entry) == {"conversation_id", "query", "paraphrase"}
        for wording in ("query", "paraphrase"):
            assert 6 <= len(entry[wording].split()) <= 35, entry
            assert not re.search(r"https?:|www\.|@|speaker_?\d", entry[wording]), entry
        first, second = (set(re.findall(r"\w{4,}", entry[k].lower())) for k in ("query", "paraphrase"))
        assert len(first & second) <= max(len(first), len(second)) / 2, entry


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_is_of_a_source_that_is_scored(path: Path) -> None:
    assert "benchmark" in load_catalog()[path.stem].roles


@pytest.fixture
def source() -> Source:
    return load_catalog()["sample_workspace"]


def test_lines_become_queries_and_bad_lines_are_named(tmp_path: Path, source: Source) -> None:
    path = tmp_path / f"{source.name}.jsonl"
    path.write_text('{"conversation_id": "c1", "query": "who took it", "paraphrase": "the thief"}\n')
    assert written_queries(tmp_path, source, tmp_path) == {"c1": WrittenQuery("who took it", "the thief")}
    path.write_text('{"conversation_id": "c1", "query": "who took it", "paraphrase": ""}\n' * 2)
    with pytest.raises(InputError, match=rf"{path.name}:2.*twice"):
        written_queries(tmp_path, source, tmp_path)
    for broken in ('{"conversation_id": "c1", "query": "x"}', "[1]", "{"):
        path.write_text(broken)
        with pytest.raises(InputError, match=rf"{path.name}:1"):
            written_queries(tmp_path, source, tmp_path)


def test_without_a_file_the_summaries_of_the_export_are_taken(tmp_path: Path, source: Source) -> None:
    (tmp_path / "threads.jsonl").write_text('{"channel": "ops", "thread_ts": "1.5", "summary": "keys are lost"}\n')
    assert written_queries(tmp_path, source, tmp_path / "none") == {"ops:1.5": WrittenQuery("keys are lost")}


def _mrr(queries: Mapping[str, str], layout: Layout, name: str) -> float:
    scores = []
    for task in load_tasks(layout.tasks(name)):
        if task.name == "summary":
            texts = [queries[query] for query in task.query_ids]
            run = search(Bm25(texts, task.document_texts("plain")), task.query_ids, task.document_ids)
            scores.append(per_query(run, task.relevant, task.query_ids)["MRR@10"])
    return float(np.concatenate(scores).mean())


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get(MIRROR_VARIABLE), reason=f"{MIRROR_VARIABLE} is not set: no real data here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_has_its_held_out_thread_and_shared_words_do_not_find_it(path: Path, tmp_path: Path) -> None:
    """BM25 finds IRC messages' threads at .43 MRR@10; of sentences in other words it finds fewer."""
    source, layout = load_catalog()[path.stem], Layout(tmp_path)
    raw = fetch(source, layout)
    built = build_conversations(source, layout)
    written = written_queries(raw.folder, source)
    tables = build_tasks(source.name, built.conversations, built.messages, written, layout.tasks(source.name))
    counts = tables["queries"].counts
    assert counts["written_queries_without_conversation"] == 0
    assert counts["summary_test_queries"] + counts["summary_dev_queries"] == len(written)
    rows = list(tables["queries"].rows_as_dicts(where="task = 'summary'"))
    for wording in ("text_plain", "paraphrase"):
        assert _mrr({row["query_id"]: row[wording] for row in rows}, layout, source.name) < 0.40
    assert np.mean([row["word_overlap"] for row in rows]) < 0.40
