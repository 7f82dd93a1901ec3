"""The benchmark's tasks for mteb, read from the packaged folder (or its copy on the hub), without a network for the former.

    import mteb
    from thread_embed_assets.benchmark.mteb_tasks import packaged_tasks

    tasks = packaged_tasks(Path("benchmark"), text_format="plain")
    result = mteb.evaluate(model, tasks, cache=None, overwrite_strategy="always")

One class per task; the sources are its subsets. mteb embeds and searches. It rounds its means to five decimals and gives
the higher document id the better rank among equal scores, our leaderboard the lower one, to scores equal in six decimals
(equal texts must tie, whatever the last bit of a matrix product says). So MRR@10, nDCG@10 and recall, which both have, are
taken from mteb's results by the leaderboard's rule and without rounding; mteb's other scores stay as mteb makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from datasets import Dataset, get_dataset_split_names, load_dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
from mteb.abstasks.task_metadata import TaskMetadata

from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.retrievers import Scores, best_first
from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.errors import InputError

CORPUS = "corpus"
NEAR = "near"
_LANGUAGES = ["eng-Latn"]
_DECIMALS = 6
_REMEDY = "Give the folder of the packaged benchmark"
_NAMES = {
    "MRR@10": "mrr_at_10",
    "NDCG@10": "ndcg_at_10",
    "Recall@1": "recall_at_1",
    "Recall@5": "recall_at_5",
    "Recall@10": "recall_at_10",
}


def _metadata(
    name: str, description: str, date: tuple[str, str] = ("2004-07-01", "2019-12-31"), **more: Any
) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description=description,
        dataset={"path": "benchmark", "revision": "packaged"},  # the folder takes its place when it is known
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        reference=None,
        eval_splits=["test"],
        eval_langs={},
        main_score="mrr_at_10",
        date=("2004-07-01", "2019-12-31"),  # of the public sources
        domains=["Social", "Programming", "Written"],
        task_subtypes=["Conversational retrieval"],
        license="not specified",  # one per source: see the README of the data set
        dialect=[],
        bibtex_citation="",
        contributed_by="ThreadEmbed",
        **{"annotations_creators": "derived", "sample_creation": "found", **more},
    )


class PackagedRetrieval(AbsTaskRetrieval):
    """A task of the packaged benchmark; its subsets are ``<source>-<task>``.

    Args:
        folder: the packaged folder, or the id of its copy on the hub.
        subsets: which to run.
        splits: dev, test or both.
        text_format: the format in which the model reads texts.
        index: ``corpus``, or ``near`` to rank only each query's candidates (mteb's ``top_ranked``).
        revision: of the copy on the hub.
    """

    task: ClassVar[str]

    def __init__(
        self,
        folder: Path | str,
        subsets: Sequence[str],
        splits: Sequence[str] = ("test",),
        text_format: str = DEFAULT_FORMAT,
        index: str = CORPUS,
        revision: str = "packaged",
        **kwargs: Any,
    ) -> None:
        declared = type(self).metadata
        near = index == NEAR
        self.metadata = declared.model_copy(
            update={
                "name": declared.name + ("Near" if near else ""),
                "description": declared.description + (_NEAR if near else ""),
                "dataset": {"path": str(folder), "revision": revision},
                "eval_splits": list(splits),
                "eval_langs": dict.fromkeys(subsets, _LANGUAGES),
            }
        )
        self._near = near
        self._column = "text" if text_format == DEFAULT_FORMAT else f"text_{text_format}"
        super().__init__(**kwargs)

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        """Load what is not loaded yet.

        Raises:
            InputError: a subset has no such split, no candidates, or its texts are withheld and not filled in.
        """
        if self.data_loaded:
            return
        path, revision = self.metadata.dataset["path"], self.metadata.dataset["revision"]
        self.dataset = {}
        for subset in self.hf_subsets:
            for split in self.eval_splits:
                loader = RetrievalDatasetLoader(hf_repo=path, revision=revision, split=split, config=subset)
                if split not in _splits(loader, f"{subset}-qrels"):
                    # mteb would take the only split there is in its place
                    raise InputError(path, f"{subset} has no split {split!r}", "Ask for another split")
                data = loader.load(num_proc)
                data["top_ranked"] = _candidates(loader, subset, num_proc) if self._near else None
                if data["top_ranked"] is not None:  # the near index is scored over the queries that have candidates
                    asked = data["relevant_docs"].keys() & data["top_ranked"].keys()
                    data["relevant_docs"] = {query: data["relevant_docs"][query] for query in sorted(asked)}
                    data["queries"] = data["queries"].filter(lambda row, asked=asked: row["id"] in asked)
                for part in ("corpus", "queries"):
                    data[part] = self._in_format(data[part], f"{subset}-{part}")
                self.dataset.setdefault(subset, {})[split] = data
        self.data_loaded = True

    def _in_format(self, rows: Dataset, place: str) -> Dataset:
        texts = rows[self._column][:]
        if any(text is None for text in texts):
            command = "python -m thread_embed_assets.release.benchmark_dataset --fill FOLDER"
            raise InputError(place, "its texts may not be redistributed, so they are not here", f"Fill them in: {command}")
        return Dataset.from_dict({"id": rows["id"][:], "text": texts})

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Mapping[str, Mapping[str, int]],
        results: Mapping[str, Mapping[str, float]],
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        """The scores that the leaderboard shows, under mteb's names, by the leaderboard's rule for equal scores."""
        queries = sorted(qrels)
        values = per_query({query: _ranked(found) for query, found in results.items()}, qrels, queries)
        return {name: float(values[metric].mean()) for metric, name in _NAMES.items()}


_NEAR = " Only the documents of the same channel nearest in time, 50 with the relevant ones, are ranked."


def _splits(loader: RetrievalDatasetLoader, config: str) -> list[str]:
    if config not in loader.dataset_configs:
        raise InputError(loader.hf_repo, f"there is no configuration {config!r}", _REMEDY)
    names: list[str] = get_dataset_split_names(loader.hf_repo, revision=loader.revision, config_name=config)
    return names


def _candidates(loader: RetrievalDatasetLoader, subset: str, num_proc: int | None) -> dict[str, list[str]]:
    config = f"{subset}-candidates"
    if config not in loader.dataset_configs:
        raise InputError(
            loader.hf_repo, f"{subset} has no candidates", "It has no channels and times: take the corpus index"
        )
    rows = load_dataset(loader.hf_repo, config, split=loader.split, revision=loader.revision, num_proc=num_proc)
    return dict(zip(rows["query-id"], rows["corpus-ids"], strict=True))


def _ranked(found: Mapping[str, float]) -> dict[str, float]:
    ids = sorted(found)
    scores: Scores = np.round(np.array([found[i] for i in ids], dtype=np.float32), _DECIMALS).astype(np.float32)
    return {ids[place]: float(scores[place]) for place in best_first(scores, len(ids))}


class ThreadRetrieval(PackagedRetrieval):
    task = "thread"
    metadata = _metadata(
        "ThreadEmbedThread", "Find the thread that a chat message belongs to; the message itself is taken out of it."
    )


class StrictThreadRetrieval(PackagedRetrieval):
    task = "thread_strict"
    metadata = _metadata(
        "ThreadEmbedThreadStrict", "Find the thread that a chat message belongs to, by what was said in it before."
    )


class ResponseRetrieval(PackagedRetrieval):
    task = "response"
    metadata = _metadata(
        "ThreadEmbedResponse", "Find the up to five chat messages that follow up to five given ones in their thread."
    )


class ReplyRetrieval(PackagedRetrieval):
    task = "reply"
    metadata = _metadata(
        "ThreadEmbedReply",
        "Find single messages that follow up to five given ones: graded 2 for a direct reply, 1 for the same thread.",
    )


class SummaryRetrieval(PackagedRetrieval):
    task = "summary"
    metadata = _metadata(
        "ThreadEmbedSummary",
        "Find the thread that a sentence, written in other words by somebody who read it, is about.",
        annotations_creators="expert-annotated",
        sample_creation="created",
    )


TASK_CLASSES: dict[str, type[PackagedRetrieval]] = {
    cls.task: cls for cls in (ThreadRetrieval, StrictThreadRetrieval, ResponseRetrieval, ReplyRetrieval, SummaryRetrieval)
}


def packaged_tasks(
    folder: Path,
    *,
    sources: Sequence[str] = (),
    tasks: Sequence[str] = (),
    split: str = "test",
    text_format: str = DEFAULT_FORMAT,
    index: str = CORPUS,
) -> list[PackagedRetrieval]:
    """The tasks of a packaged folder that have that split (and candidates, for the near index), in the usual order.

    Args:
        folder: what ``release.benchmark_dataset`` wrote.
        sources: only these; all when empty.
        tasks: only these; all when empty.
        split: dev or test.
        text_format: the format in which the model reads texts.
        index: corpus or near.

    Raises:
        InputError: the folder is no package, or nothing in it fits.
    """
    if text_format not in FORMATS:
        raise InputError(text_format, "there is no such text format", f"Known formats: {', '.join(FORMATS)}")
    part = "qrels" if index == CORPUS else "candidates"
    subsets: dict[str, list[str]] = {}
    for config in _front_matter(folder)["configs"]:
        source, task, kind = config["config_name"].split("-")
        wanted = (not sources or source in sources) and (not tasks or task in tasks)
        if kind == part and wanted and split in {file["split"] for file in config["data_files"]}:
            subsets.setdefault(task, []).append(f"{source}-{task}")
    if not subsets:
        raise InputError(folder, f"it has none of these tasks in {split}, {index}", "See the sizes in its README.md")
    return [
        cls(folder, subsets[task], (split,), text_format, index) for task, cls in TASK_CLASSES.items() if task in subsets
    ]


def _front_matter(folder: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    except (OSError, IndexError, yaml.YAMLError) as error:
        problem = f"its README.md has no front matter to read ({error})"
        raise InputError(folder, problem, _REMEDY) from error
    if not isinstance(content, dict) or "configs" not in content:
        raise InputError(folder, "its README.md names no configurations", _REMEDY)
    return content
