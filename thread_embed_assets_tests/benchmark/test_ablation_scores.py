from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from thread_embed_assets.benchmark.ablation_scores import DevSource, dev_queries_only, only_dev, score_dev
from thread_embed_assets.benchmark.ablations import SCHEMAS
from thread_embed_assets.benchmark.by_window import ByWindow
from thread_embed_assets.benchmark.embeddings import EmbeddingCache
from thread_embed_assets.benchmark.message_windows import messages_of_split, window_texts
from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import Dense, search
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talks, write_conversations

NAMES = ("thread", "response")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> DevSource:
    folder = tmp_path_factory.mktemp("scores")
    tables = Normalised(*write_conversations(folder / "conversations.duckdb", talks(45, dev=20)))
    build_tasks("made", tables.conversations, tables.messages, {}, folder / "tasks.duckdb")
    return DevSource("made", folder / "tasks.duckdb", tables)


@pytest.fixture
def spoilt(stored: DevSource, tmp_path: Path) -> DevSource:
    """A copy, to plant faults in."""
    shutil.copy(stored.tasks, tmp_path / "tasks.duckdb")
    return replace(stored, tasks=tmp_path / "tasks.duckdb")


def plant(path: Path, statement: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(statement)


def test_scores_are_those_of_dev_queries_over_the_whole_dev_index(stored: DevSource, tmp_path: Path) -> None:
    encoder = HashEncoder(size=32)
    found = list(score_dev([stored], NAMES, encoder, EmbeddingCache(tmp_path), "times"))
    assert [(one.source, one.task) for one in found] == [("made", "thread"), ("made", "response")]
    dev = {task.name: task for task in load_tasks(stored.tasks) if task.split == "dev"}
    for one in found:
        task = dev[one.task]
        cache = EmbeddingCache(tmp_path / "again")
        vectors = (cache.embed(encoder, texts) for texts in (task.query_texts("times"), task.document_texts("times")))
        run = search(Dense(*vectors), task.query_ids, task.document_ids)
        assert one.values == pytest.approx(per_query(run, task.relevant, task.query_ids)["MRR@10"])
        assert list(one.query_ids) == task.query_ids and list(one.clusters) == task.clusters
    assert 0 < np.mean([one.values.mean() for one in found]) < 1


def test_windows_count_best_or_together_with_the_whole(stored: DevSource, tmp_path: Path) -> None:
    dev = next(t for t in load_tasks(stored.tasks) if (t.split, t.name) == ("dev", "thread"))
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder(size=32)
    texts = window_texts(dev, messages_of_split(stored.stored, "dev"), "plain", 3)
    queries, parts, documents = (
        cache.embed(encoder, t)
        for t in (dev.query_texts("plain"), [w for d in texts for w in d], dev.document_texts("plain"))
    )
    counts = list(map(len, texts))
    for together, scorer in (
        (False, ByWindow(queries, parts, counts, concentration=np.inf)),
        (True, ByWindow(queries, parts, counts, documents)),
    ):
        [found] = score_dev([stored], ["thread"], encoder, cache, "plain", 3, together)
        values = per_query(search(scorer, dev.query_ids, dev.document_ids), dev.relevant, dev.query_ids)["MRR@10"]
        assert found.values == pytest.approx(values)


def test_no_text_of_test_is_ever_embedded(stored: DevSource, tmp_path: Path) -> None:
    encoder = HashEncoder()
    for window in (None, 3):
        list(score_dev([stored], NAMES, encoder, EmbeddingCache(tmp_path), "plain", window))
    of_test = {
        line
        for row in stored.stored.messages.rows_as_dicts()
        for line in [row["text"].rpartition("> ")[2]]
        if int(row["conversation_id"][1:]) >= 20
    }
    seen = "\n".join(encoder.seen)
    assert encoder.seen and not [line for line in of_test if line in seen]


def test_a_test_task_is_refused(stored: DevSource) -> None:
    test = next(task for task in load_tasks(stored.tasks) if task.split == "test")
    with pytest.raises(InputError, match=r"the task 'thread' is of the split 'test'. Ablations are scored on dev alone"):
        only_dev(test)


@pytest.mark.parametrize(
    "fault",
    [
        "UPDATE queries SET split = 'dev' WHERE query_id = (SELECT min(query_id) FROM queries WHERE split = 'test')",
        "UPDATE corpus SET split = 'dev' WHERE doc_id = (SELECT min(doc_id) FROM corpus WHERE split = 'test')",
    ],
)
def test_a_planted_test_text_is_refused(fault: str, spoilt: DevSource) -> None:
    plant(spoilt.tasks, fault)
    with pytest.raises(
        InputError, match="is called dev there, but its conversation, or a message of it, is of the split 'test'"
    ):
        spoilt.load(NAMES)


def test_a_test_query_under_the_name_of_a_dev_conversation_is_refused(spoilt: DevSource) -> None:
    dev = "(SELECT min(conversation_id) FROM queries WHERE split = 'dev')"
    chosen = "query_id = (SELECT min(query_id) FROM queries WHERE split = 'test' AND task = 'thread')"
    plant(spoilt.tasks, f"UPDATE queries SET split = 'dev', conversation_id = {dev} WHERE {chosen}")
    with pytest.raises(InputError, match="or a message of it, is of the split 'test'"):
        spoilt.load(NAMES)


def test_a_conversation_that_nobody_knows_is_refused(spoilt: DevSource) -> None:
    plant(spoilt.tasks, "UPDATE corpus SET conversation_id = 'x' WHERE split = 'dev' AND task = 'thread'")
    with pytest.raises(InputError, match="is of the split 'unknown'"):
        spoilt.load(NAMES)


def test_the_check_finds_scores_of_test_and_numbers_that_are_none(stored: DevSource, tmp_path: Path) -> None:
    dev, test = (next(t for t in load_tasks(stored.tasks) if t.split == split) for split in ("dev", "test"))
    rows = [(0, "made", "thread", dev.query_ids[0], "c", 0.5), (1, "made", "thread", dev.query_ids[1], "c", 1.0)]
    planted = [
        (0, "made", "thread", test.query_ids[0], "c", 0.5),
        (0, "made", "thread", dev.query_ids[2], "c", float("nan")),
    ]
    for number, (added, faults) in enumerate([([], 0), (planted, 2)]):
        with write_tables(tmp_path / f"{number}.duckdb", {"scores": SCHEMAS["scores"]}) as writer:
            writer.add_all("scores", rows + added)
        verdict = dev_queries_only(open_table(tmp_path / f"{number}.duckdb", "scores"), {"made": stored.tasks})
        assert (verdict.passed, verdict.numbers["faults"]) == (not faults, faults), verdict.description
    with write_tables(tmp_path / "none.duckdb", {"scores": SCHEMAS["scores"]}):
        pass
    assert not dev_queries_only(open_table(tmp_path / "none.duckdb", "scores"), {"made": stored.tasks}).passed
