from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import datasets
import mteb
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import constants
from scipy.stats import spearmanr

from thread_embed_assets.benchmark import regression
from thread_embed_assets.benchmark.metrics import per_query
from thread_embed_assets.benchmark.regression import (
    GENERAL_TASKS,
    NOT_RUN,
    RUN,
    TaskScore,
    check_regression,
    compare,
    find_data,
    regression_markdown,
    write_regression,
)
from thread_embed_assets.benchmark.retrievers import Dense, search
from thread_embed_assets.errors import InputError
from thread_embed_assets_tests.benchmark.bags import BagEncoder, bags
from thread_embed_assets_tests.benchmark.stored import WORDS
from thread_embed_assets_tests.training.tiny import build_tiny_model

TWO = {"NanoBEIR": ("NanoArguAnaRetrieval",), "STSBenchmark": ("STSBenchmark",)}
NAMES = ("tuned", "base")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv(regression.MIRROR_VARIABLE, raising=False)


def _sentence(draw: Random, count: int = 7) -> str:
    return " ".join(draw.choices(WORDS, k=count))


def _snapshot(mirror: Path, task: str) -> Path:
    pinned = mteb.get_task(task).metadata.dataset
    folder = mirror / f"datasets--{pinned['path'].replace('/', '--')}" / "snapshots" / pinned["revision"]
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STSBenchmark of 30 pairs and NanoArguAna of 20 documents, made up."""
    root, draw = tmp_path_factory.mktemp("mirror"), Random(3)
    pairs = []
    for shared in [draw.randint(0, 6) for _ in range(30)]:
        first = _sentence(draw).split()
        second = first[:shared] + draw.choices(WORDS, k=7 - shared)
        pairs.append({"sentence1": " ".join(first), "sentence2": " ".join(second), "score": 5 * shared / 7})
    pd.DataFrame(pairs).to_parquet(_snapshot(root, "STSBenchmark") / "test.parquet")
    nano = _snapshot(root, "NanoArguAnaRetrieval")
    corpus = [{"_id": f"d{n:02d}", "title": "", "text": _sentence(draw, 12)} for n in range(20)]
    queries = [{"_id": f"q{n}", "text": " ".join(draw.sample(corpus[n]["text"].split(), 3) + WORDS[:4])} for n in range(10)]
    qrels = [{"query-id": f"q{n}", "corpus-id": f"d{n:02d}", "score": 1} for n in range(10)]
    front = "configs:\n"
    for name, rows in (("corpus", corpus), ("queries", queries), ("qrels", qrels)):
        pd.DataFrame(rows).to_parquet(nano / f"{name}.parquet")
        front += f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n"
    (nano / "README.md").write_text(f"---\n{front}---\n")
    return root


def test_all_listed_tasks_are_mtebs_own_at_pinned_revisions() -> None:
    members = [name for group in GENERAL_TASKS.values() for name in group]
    assert len(GENERAL_TASKS) == 9 and len(members) == len(set(members)) == 21
    assert [t.metadata.name for t in mteb.get_benchmark("NanoBEIR").tasks] == list(GENERAL_TASKS["NanoBEIR"])
    for name in members:
        assert len(regression._pinned(name)[1]) == 40, name


def test_scores_are_those_of_the_data_in_the_mirror(mirror: Path) -> None:
    result = check_regression(BagEncoder(), BagEncoder(), NAMES, mirror, TWO)
    found = {score.task: score for score in result.model_scores}
    assert {score.status for score in found.values()} == {RUN}

    sts = pd.read_parquet(next(mirror.glob("datasets--mteb--stsbenchmark-sts/snapshots/*/test.parquet")))
    first, second = (bags(sts[column]) for column in ("sentence1", "sentence2"))
    cosine = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert found["STSBenchmark"].score == pytest.approx(spearmanr(sts["score"], cosine).statistic, abs=1e-6)

    nano = next(mirror.glob("datasets--mteb--NanoArguAnaRetrieval/snapshots/*"))
    corpus, queries = (pd.read_parquet(nano / f"{name}.parquet") for name in ("corpus", "queries"))
    vectors = [
        bags(table["text"]) / np.linalg.norm(bags(table["text"]), axis=1, keepdims=True) for table in (queries, corpus)
    ]
    run = search(Dense(*vectors), list(queries["_id"]), list(corpus["_id"]))
    judged = {f"q{n}": {f"d{n:02d}": 1} for n in range(10)}
    expected = per_query(run, judged, list(queries["_id"]))["NDCG@10"].mean()
    assert found["NanoArguAnaRetrieval"].score == pytest.approx(expected, abs=1e-5)  # mteb rounds to five decimals
    assert 0.3 < expected < 0.999

    assert result.passes_floor is True and result.ran == result.of == 2
    assert result.model_mean == result.base_mean == pytest.approx(np.mean([s.score for s in found.values()]))


def test_a_worse_model_falls_below_the_floor(mirror: Path, tmp_path: Path) -> None:
    result = check_regression(BagEncoder(damage=1.5), BagEncoder(), NAMES, mirror, TWO)
    assert result.passes_floor is False
    assert [row.listed for row in result.comparisons if row.below_floor]
    data, page = write_regression(result, tmp_path / "out")
    assert json.loads(data.read_text())["passes_floor"] is False
    assert "**below the floor**" in page.read_text() and "(below the floor)" in page.read_text()


def test_vectors_that_are_all_alike_do_not_pass(mirror: Path) -> None:
    sts = {"STSBenchmark": TWO["STSBenchmark"]}
    result = check_regression(BagEncoder(alike=True), BagEncoder(), NAMES, mirror, sts)
    assert result.passes_floor is False, result.model_scores


def test_what_is_absent_is_not_run_and_not_averaged_away(mirror: Path) -> None:
    result = check_regression(BagEncoder(), BagEncoder(), NAMES, mirror, {**TWO, "SICK-R": ("SICK-R",)})
    absent = next(score for score in result.model_scores if score.task == "SICK-R")
    assert absent.status == NOT_RUN and absent.score is None
    assert "the mirror lacks mteb/sickr-sts@20a6d6f312dd" in absent.reason and "HF_HUB_OFFLINE" in absent.reason
    assert (result.ran, result.of, result.model_mean, result.base_mean) == (2, 3, None, None)
    assert result.passes_floor is True
    page = regression_markdown(result)
    assert "not comparable: 2 of 3 ran" in page and "| SICK-R | - | - | - | NOT RUN |" in page and absent.reason in page


def test_damaged_data_are_not_run(tmp_path: Path) -> None:
    (_snapshot(tmp_path, "STSBenchmark") / "test.parquet").write_bytes(b"no parquet")
    result = check_regression(BagEncoder(), BagEncoder(), NAMES, tmp_path, {"STSBenchmark": ("STSBenchmark",)})
    assert result.model_scores[0].status == NOT_RUN and result.model_scores[0].reason.startswith("it failed: ")
    assert result.passes_floor is None


def test_another_revision_in_the_mirror_does_not_count(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(find_data({"a": ("STSBenchmark",)}, mirror)["STSBenchmark"], Path)
    monkeypatch.setattr(regression, "_pinned", lambda task: ("mteb/stsbenchmark-sts", "0" * 40))
    assert isinstance(find_data({"a": ("STSBenchmark",)}, mirror)["STSBenchmark"], str)


def test_a_mirror_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(regression.MIRROR_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone.*THREAD_EMBED_MTEB_MIRROR"):
        find_data(TWO)


@pytest.mark.parametrize("offline", [True, False])
def test_without_mirror_and_hub_all_is_not_run_and_quickly(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    began = time.monotonic()
    result = check_regression("no/model", "no/base", NAMES)
    assert time.monotonic() - began < 3
    assert {score.status for score in result.model_scores} == {NOT_RUN} and result.of == 21
    reason = "switched off" if offline else "cannot be reached (ConnectError)"
    assert all(reason in score.reason and "MTEB_MIRROR is not set" in score.reason for score in result.model_scores)
    assert result.passes_floor is None and "not comparable: 0 of 21 ran" in regression_markdown(result)


def _score(task: str, score: float | None, listed: str | None = None) -> TaskScore:
    return TaskScore(listed or task, task, "m", "org/set", "1" * 40, score, NOT_RUN if score is None else RUN, "why")


@pytest.mark.parametrize(
    ("model", "base", "passes"),
    [
        ([0.50, 0.80], [0.51, 0.70], True),  # a point lower
        ([0.50, 0.90], [0.52, 0.70], False),  # two points lower, however good the other task
        ([None, 0.70], [None, 0.70], True),
        ([None, 0.70], [0.50, 0.70], None),  # it ran for the base
        ([None, 0.60], [0.50, 0.70], False),
        ([None, None], [None, None], None),
    ],
)
def test_floor_rule(model: list[float | None], base: list[float | None], passes: bool | None) -> None:
    sides = [[_score(task, score) for task, score in zip("ab", side, strict=True)] for side in (model, base)]
    assert compare(*sides, NAMES).passes_floor is passes


def test_parts_of_a_listed_task_are_judged_together_over_those_that_ran_for_both() -> None:
    sides: list[list[TaskScore]] = [
        [_score(task, score, "Nano") for task, score in zip("abc", scores, strict=True)]
        for scores in ([0.5, 0.6, None], [0.6, 0.5, 0.9])
    ]
    row = compare(*sides, NAMES).comparisons[0]
    assert (row.ran, row.of, row.below_floor) == (2, 3, False) and row.drop == pytest.approx(0)


def test_other_revisions_are_not_compared() -> None:
    score = _score("a", 0.5)
    with pytest.raises(InputError, match="revisions"):
        compare([score], [replace(score, revision="2" * 40)], NAMES)


def test_a_model_folder_runs_without_a_network(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(build_tiny_model(tmp_path / "tiny"))
    asked: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv(regression.MIRROR_VARIABLE, str(mirror))
    monkeypatch.setattr(regression, "GENERAL_TASKS", {"STSBenchmark": ("STSBenchmark",)})
    assert regression.main([model, "--base", model, "--out", str(tmp_path / "out")]) == 0
    assert not asked
    assert "mteb/stsbenchmark-sts@b0fddb56ed78" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "general_tasks.json").read_text())["ran"] == 1
