from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pytest
from huggingface_hub import constants
from mteb.abstasks.retrieval import AbsTaskRetrieval

from thread_embed_assets.benchmark import mteb_tasks
from thread_embed_assets.benchmark.metrics import METRICS, per_query
from thread_embed_assets.benchmark.mteb_tasks import TASK_CLASSES, PackagedRetrieval, packaged_tasks
from thread_embed_assets.benchmark.retrievers import Dense, search
from thread_embed_assets.benchmark.tasks import TASK_NAMES, load_tasks
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.benchmark_dataset import package_benchmark
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.benchmark.bags import BagEncoder, bags
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.training.tiny import build_tiny_model

FREE, WITHHELD, FAR = "irc_disentangle", "slack_dev_chats", "topical_chat"  # the last without channels and times
NAMES = {
    "MRR@10": "mrr_at_10",
    "NDCG@10": "ndcg_at_10",
    "Recall@1": "recall_at_1",
    "Recall@5": "recall_at_5",
    "Recall@10": "recall_at_10",
}
Embed = Callable[[Sequence[str]], Any]


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tasks")
    made = {name: write_task_file(root / f"{name}.duckdb", name, seed) for seed, name in enumerate((FREE, WITHHELD))}
    return {**made, FAR: write_task_file(root / f"{FAR}.duckdb", FAR, 7, near=False, twins=False)}


@pytest.fixture(scope="module")
def folder(tasks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_benchmark(tasks, load_catalog(), tmp_path_factory.mktemp("out") / "benchmark").folder


def _ours(path: Path, name: str, index: str, queries: Embed, documents: Embed) -> dict[str, float]:
    """The leaderboard's scores, from the tasks file by the leaderboard's own functions."""
    task = next(task for task in load_tasks(path) if (task.name, task.split) == (name, "test"))
    scorer = Dense(_unit(queries(task.query_texts("plain"))), _unit(documents(task.document_texts("plain"))))
    run = search(scorer, task.query_ids, task.document_ids, candidates=task.near if index == "near" else None)
    assert len(run) == (11 if index == "near" else 12)  # one query has no slice
    return {NAMES[name]: float(values.mean()) for name, values in per_query(run, task.relevant, list(run)).items()}


def _unit(vectors: Any) -> Any:
    rows = np.asarray(vectors, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _run(model: Any, tasks: Sequence[AbsTaskRetrieval]) -> dict[str, dict[str, float]]:
    result = mteb.evaluate(model, tasks, cache=None, overwrite_strategy="always", show_progress_bar=False)
    return {scores["hf_subset"]: scores for found in result.task_results for scores in found.scores["test"]}


@pytest.mark.parametrize("index", ["corpus", "near"])
def test_scores_equal_the_leaderboards(tasks: dict[str, Path], folder: Path, index: str) -> None:
    found = _run(BagEncoder(), packaged_tasks(folder, sources=[FREE], index=index))
    assert set(found) == {f"{FREE}-reply", f"{FREE}-summary"}
    for task in ("reply", "summary"):
        expected = _ours(tasks[FREE], task, index, bags, bags)
        scores = found[f"{FREE}-{task}"]
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert scores["main_score"] == scores["mrr_at_10"]
        assert 0.2 < expected["ndcg_at_10"] < 0.99
    assert set(NAMES) == set(METRICS)


def test_grades_count(tasks: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all grades made 1, nDCG is another: the comparison above would not see them left out otherwise."""
    graded = _ours(tasks[FREE], "reply", "corpus", bags, bags)["ndcg_at_10"]
    load = mteb_tasks.RetrievalDatasetLoader.load

    def flat(self: Any, num_proc: int | None = None) -> Any:
        data = load(self, num_proc)
        data["relevant_docs"] = {query: dict.fromkeys(found, 1) for query, found in data["relevant_docs"].items()}
        return data

    monkeypatch.setattr(mteb_tasks.RetrievalDatasetLoader, "load", flat)
    found = _run(BagEncoder(), packaged_tasks(folder, sources=[FREE], tasks=["reply"]))
    assert abs(found[f"{FREE}-reply"]["ndcg_at_10"] - graded) > 1e-3


def test_mtebs_own_measures_agree_where_nothing_ties(
    tasks: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackagedRetrieval, "task_specific_scores", AbsTaskRetrieval.task_specific_scores)
    stock = _run(BagEncoder(), packaged_tasks(folder, sources=[FAR], tasks=["reply"]))[f"{FAR}-reply"]
    expected = _ours(tasks[FAR], "reply", "corpus", bags, bags)
    assert stock["mrr_at_10"] == pytest.approx(expected["mrr_at_10"], abs=1e-6)
    for name in ("ndcg_at_10", "recall_at_1", "recall_at_5", "recall_at_10"):
        assert stock[name] == pytest.approx(expected[name], abs=6e-6)  # mteb rounds these to five decimals


def test_among_equals_the_lower_id_comes_first(folder: Path) -> None:
    task = packaged_tasks(folder, sources=[FREE], tasks=["reply"])[0]
    run = {"q": {"d_b": 0.5, "d_a": 0.5 - 2e-7, "d_c": 0.4}}  # equal in six decimals
    found = task.task_specific_scores({}, {"q": {"d_a": 1}}, run, "test", "x")
    assert found["mrr_at_10"] == 1.0
    assert task.task_specific_scores({}, {"q": {"d_b": 1}}, run, "test", "x")["mrr_at_10"] == 0.5


def test_a_sentence_transformer_gets_its_prompts(tasks: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(build_tiny_model(tmp_path / "tiny")), device="cpu")
    model.prompts = {"query": "ka ve ka ve ka ve ", "document": "su no su no "}

    def embed(function: Any) -> Embed:
        return lambda texts: function(list(texts), show_progress_bar=False)

    found = _run(model, packaged_tasks(folder, sources=[FREE], tasks=["summary"]))[f"{FREE}-summary"]
    with_prompts = _ours(tasks[FREE], "summary", "corpus", embed(model.encode_query), embed(model.encode_document))
    assert {name: found[name] for name in with_prompts} == pytest.approx(with_prompts, abs=1e-6)
    assert _ours(tasks[FREE], "summary", "corpus", embed(model.encode), embed(model.encode)) != with_prompts


def test_another_text_format_is_read(tasks: dict[str, Path], folder: Path) -> None:
    task = packaged_tasks(folder, sources=[FREE], tasks=["reply"], text_format="speakers_times")[0]
    task.load_data()
    data = task.dataset[f"{FREE}-reply"]["test"]
    stored = {
        r["doc_id"]: r for r in open_table(tasks[FREE], "corpus").rows_as_dicts(where="task = 'reply' AND split = 'test'")
    }
    assert len(data["corpus"]) == len(stored) == 24
    assert all(row["text"] == stored[row["id"]]["text_speakers_times"] for row in data["corpus"])
    assert all(text.startswith("[+0m] speaker_1: ") for text in data["queries"]["text"])
    with pytest.raises(InputError, match="Known formats: plain"):
        packaged_tasks(folder, text_format="loud")


def test_withheld_texts_must_be_filled_in_first(folder: Path) -> None:
    for task in packaged_tasks(folder, sources=[WITHHELD], tasks=["reply"]):
        with pytest.raises(InputError, match="--fill"):
            task.load_data()


def test_a_split_that_is_not_there_is_not_replaced_by_another(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none of these tasks in dev"):
        only_test = _without_dev(folder)
        packaged_tasks(only_test, tasks=["summary"], split="dev")
    task = TASK_CLASSES["summary"](_without_dev(folder), [f"{FREE}-summary"], ["dev"])
    with pytest.raises(InputError, match="no split 'dev'"):
        task.load_data()


def _without_dev(folder: Path) -> Path:
    """The package with the dev files left out of its front matter."""
    copied = folder.with_name("only_test")
    if not copied.exists():
        shutil.copytree(folder, copied)
        lines = (folder / "README.md").read_text().splitlines()
        dev = [n for n, line in enumerate(lines) if line.strip() == "- split: dev"]
        kept = [line for n, line in enumerate(lines) if n not in dev and n - 1 not in dev]
        (copied / "README.md").write_text("\n".join(kept) + "\n")
    return copied


def test_near_takes_sources_with_candidates_only(folder: Path) -> None:
    near = packaged_tasks(folder, tasks=["reply"], index="near")
    assert [(task.metadata.name, task.hf_subsets) for task in near] == [
        ("ThreadEmbedReplyNear", [f"{FREE}-reply", f"{WITHHELD}-reply"])
    ]
    with pytest.raises(InputError, match=f"{FAR}-reply has no candidates"):
        TASK_CLASSES["reply"](folder, [f"{FAR}-reply"], index="near").load_data()


def test_every_task_has_a_class_with_full_metadata(folder: Path) -> None:
    assert set(TASK_NAMES) <= set(TASK_CLASSES)
    for task in packaged_tasks(folder):
        empty = {name for name in type(task.metadata).model_fields if getattr(task.metadata, name) is None}
        assert empty <= {"prompt", "adapted_from", "superseded_by", "reference"}  # the data set has no address yet
        assert task.metadata.is_multilingual and task.metadata.type == "Retrieval"
        assert task.metadata.dataset["path"] == str(folder)
    assert type(task).metadata.dataset["path"] == "benchmark"  # the class keeps its own


def test_a_folder_that_is_no_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="packaged benchmark"):
        packaged_tasks(tmp_path)
