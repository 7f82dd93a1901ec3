"""Does a tuned model still do what the base could: general tasks of mteb, each beside the base, with a floor.

The data sets are those that mteb pins. They are taken from a mirror, a folder that ``THREAD_EMBED_MTEB_MIRROR`` names, laid
out as the hub's cache and filled on a machine with a network::

    hf download --repo-type dataset mteb/stsbenchmark-sts --revision <as mteb pins it> --cache-dir MIRROR

and else from the hub. A task whose data are in neither is NOT RUN, with the reason, and never averaged away.

    python -m thread_embed_assets.benchmark.regression MODEL --base BASE --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.training.base_models import local_folder
from thread_embed_assets.training.checkpoint import identity_of

MIRROR_VARIABLE = "THREAD_EMBED_MTEB_MIRROR"
RUN = "RUN"
NOT_RUN = "NOT RUN"
FLOOR = 0.015
RESULTS = "general_tasks.json"
_PATIENCE = 3.0  # seconds for the hub to answer at all

# Listed task to the tasks of mteb that make it up. One task of NanoBEIR has 50 queries, too few to be judged alone.
GENERAL_TASKS: dict[str, tuple[str, ...]] = {
    "NanoBEIR": tuple(
        f"Nano{name}Retrieval"
        for name in (
            "ArguAna",
            "ClimateFever",
            "DBPedia",
            "FEVER",
            "FiQA2018",
            "HotpotQA",
            "MSMARCO",
            "NFCorpus",
            "NQ",
            "Quora",
            "SCIDOCS",
            "SciFact",
            "Touche2020",
        )
    ),
    "STSBenchmark": ("STSBenchmark",),
    "SICK-R": ("SICK-R",),
    "AskUbuntuDupQuestions": ("AskUbuntuDupQuestions",),
    "TwitterURLCorpus": ("TwitterURLCorpus",),
    "Banking77": ("Banking77Classification",),
    "TwentyNewsgroups": ("TwentyNewsgroupsClustering.v2",),
    "LoCoMo": ("LoCoMo",),
    "LongMemEval": ("LongMemEval",),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskScore:
    """One task of mteb.

    Attributes:
        listed: the listed task that it belongs to.
        metric: mteb's main score of the task.
        repository, revision: the data set, as mteb pins it.
        score: from -1 or 0 to 1, mean over the task's subsets; None when not run.
        status: RUN or NOT RUN, with the ``reason``.
    """

    listed: str
    task: str
    metric: str
    repository: str
    revision: str
    score: float | None
    status: str
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """A listed task: means over those of its tasks that ran for both models, None when none did.

    Attributes:
        ran, of: number of its tasks that ran, and that there are.
        drop: base minus model.
    """

    listed: str
    ran: int
    of: int
    base: float | None
    model: float | None
    drop: float | None
    below_floor: bool


@dataclass(frozen=True)
class RegressionResult:
    """A model beside the base.

    Attributes:
        identity: which model it is (:func:`.checkpoint.identity_of`); empty where it does not say.
        floor: a listed task may drop by so much and no more.
        mteb: version of the library.
        passes_floor: False when any listed task that ran drops by more; None when it is not known, for nothing ran or a task
            that ran for the base did not run for the model.
        ran, of: number of mteb's tasks that ran for both, and that there are.
        base_mean, model_mean: over the listed tasks; None unless every task ran.
    """

    model: str
    base: str
    floor: float
    mteb: str
    passes_floor: bool | None
    ran: int
    of: int
    base_mean: float | None
    model_mean: float | None
    comparisons: tuple[Comparison, ...]
    model_scores: tuple[TaskScore, ...]
    base_scores: tuple[TaskScore, ...]
    identity: str = ""


def check_regression(
    model: Path | str | Any,
    base: Path | str | Any,
    names: tuple[str, str],
    mirror: Path | None = None,
    tasks: Mapping[str, Sequence[str]] = GENERAL_TASKS,
    floor: float = FLOOR,
) -> RegressionResult:
    """Run the general tasks with both models.

    Args:
        model: a folder or hub id that SentenceTransformer loads, or a loaded model that mteb takes.
        base: the model it was tuned from, likewise.
        names: of the two, as they are shown.
        mirror: folder in the layout of the hub's cache; ``THREAD_EMBED_MTEB_MIRROR`` when None.
        tasks: listed task to tasks of mteb.
        floor: how far a listed task may drop.

    Raises:
        InputError: the mirror does not exist, or a model is nowhere.
    """
    places = find_data(tasks, mirror)
    scores = [run_general_tasks(encoder, tasks, places) for encoder in (model, base)]
    identity = identity_of(Path(model)) if isinstance(model, Path | str) else ""
    return replace(compare(scores[0], scores[1], names, floor), identity=identity)


def find_data(tasks: Mapping[str, Sequence[str]] = GENERAL_TASKS, mirror: Path | None = None) -> dict[str, Path | str]:
    """Each task's data: its folder, or the reason why there is none. The hub is asked once whether it is there.

    Raises:
        InputError: the mirror does not exist.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    mirror = mirror or (Path(named).expanduser() if named else None)
    if mirror is not None and not mirror.is_dir():
        raise InputError(mirror, "there is no such folder of mirrored data sets", f"Correct or unset {MIRROR_VARIABLE}")
    no_hub: str | None = None
    found: dict[str, Path | str] = {}
    for name in [name for members in tasks.values() for name in members]:
        repository, revision = _pinned(name)
        snapshot = None if mirror is None else mirror / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision
        if snapshot is not None and snapshot.is_dir():
            found[name] = snapshot
            continue
        no_hub = _why_no_hub() if no_hub is None else no_hub
        mirrored = f"${MIRROR_VARIABLE} is not set" if mirror is None else f"the mirror lacks {repository}@{revision[:12]}"
        found[name] = f"{mirrored}; {no_hub}" if no_hub else _download(repository, revision, mirrored)
    return found


def _pinned(task: str) -> tuple[str, str]:
    import mteb

    dataset = mteb.get_task(task).metadata.dataset
    return str(dataset["path"]), str(dataset["revision"])


def _why_no_hub() -> str:
    """Empty when the hub answers."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub is switched off (HF_HUB_OFFLINE)"
    try:
        httpx.head(constants.ENDPOINT, timeout=_PATIENCE)
    except (httpx.HTTPError, OSError) as error:
        return f"the hub cannot be reached ({type(error).__name__})"
    return ""


def _download(repository: str, revision: str, mirrored: str) -> Path | str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision, etag_timeout=_PATIENCE))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        return f"{mirrored}; the hub does not give {repository}@{revision[:12]} ({type(error).__name__})"


def run_general_tasks(
    model: Path | str | Any, tasks: Mapping[str, Sequence[str]], places: Mapping[str, Path | str]
) -> list[TaskScore]:
    """Each task's main score, or why it was not run; nothing but the data in ``places`` is read, and no network.

    Args:
        model: as for :func:`check_regression`.
        tasks: listed task to tasks of mteb.
        places: what :func:`find_data` gives.
    """
    import mteb

    encoder: Any = model
    if any(isinstance(place, Path) for place in places.values()) and isinstance(model, Path | str):
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(str(local_folder(str(model))))
    scores = []
    for listed, members in tasks.items():
        for name in members:
            task, place = mteb.get_task(name), places[name]
            pinned = task.metadata.dataset
            about = (listed, name, task.metadata.main_score, str(pinned["path"]), str(pinned["revision"]))
            if isinstance(place, str):
                scores.append(TaskScore(*about, None, NOT_RUN, place))
                continue
            task.metadata = task.metadata.model_copy(update={"dataset": {**pinned, "path": str(place)}})
            began = time.monotonic()
            with _offline():
                result = mteb.evaluate(
                    encoder,
                    task,
                    raise_error=False,
                    cache=None,
                    overwrite_strategy="always",
                    co2_tracker=False,
                    encode_kwargs={"batch_size": 64, "show_progress_bar": False},
                    show_progress_bar=False,
                )
            seconds = round(time.monotonic() - began, 1)
            if result.task_results:
                score, note = float(result.task_results[0].get_score()), ""
                if not math.isfinite(score):  # such as a correlation with vectors that are all alike
                    score, note = 0.0, "undefined, counted as 0"
                scores.append(TaskScore(*about, score, RUN, note, seconds))
                logger.info("%s: %s %.4f (%.0f s)", name, about[2], score, seconds)
            else:
                reason = f"it failed: {result.exceptions[0].exception if result.exceptions else 'no result'}"
                scores.append(TaskScore(*about, None, NOT_RUN, reason, seconds))
                logger.warning("%s: %s", name, reason)
    return scores


@contextmanager
def _offline() -> Iterator[None]:
    """No library asks the hub for anything, be it about a folder on this disk."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def compare(
    model: Sequence[TaskScore], base: Sequence[TaskScore], names: tuple[str, str], floor: float = FLOOR
) -> RegressionResult:
    """The floor rule, and means where they are comparable.

    Args:
        model: scores of the model.
        base: those of the base, of the same tasks.
        names: of model and base.
        floor: how far a listed task may drop.

    Raises:
        InputError: the two are not of the same tasks at the same revisions.
    """
    from importlib.metadata import version

    if [(s.listed, s.task, s.revision) for s in model] != [(s.listed, s.task, s.revision) for s in base]:
        raise InputError(names[0], f"its tasks or their revisions are not those of {names[1]}", "Run both again")
    rows = []
    for listed in dict.fromkeys(score.listed for score in model):
        pairs = [(a.score, b.score) for a, b in zip(model, base, strict=True) if a.listed == listed]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not both:
            rows.append(Comparison(listed, 0, len(pairs), None, None, None, below_floor=False))
            continue
        model_mean, base_mean = (sum(side) / len(both) for side in zip(*both, strict=True))
        drop = base_mean - model_mean
        rows.append(Comparison(listed, len(both), len(pairs), base_mean, model_mean, drop, below_floor=drop > floor))
    ran, of = sum(row.ran for row in rows), len(model)
    failed = any(a.status == NOT_RUN and b.status == RUN for a, b in zip(model, base, strict=True))
    passes = False if any(row.below_floor for row in rows) else None if failed or not ran else True
    means = [
        sum(found) / len(found) if ran == of and found else None
        for found in ([r.base for r in rows if r.base is not None], [r.model for r in rows if r.model is not None])
    ]
    return RegressionResult(
        model=names[0],
        base=names[1],
        floor=floor,
        mteb=version("mteb"),
        passes_floor=passes,
        ran=ran,
        of=of,
        base_mean=means[0],
        model_mean=means[1],
        comparisons=tuple(rows),
        model_scores=tuple(model),
        base_scores=tuple(base),
    )


def write_regression(result: RegressionResult, folder: Path) -> tuple[Path, Path]:
    """Write ``general_tasks.json`` and ``general_tasks.md``; returns their paths."""
    data, page = folder / RESULTS, folder / "general_tasks.md"
    write_text(data, json.dumps(asdict(result), indent=1) + "\n")
    write_text(page, regression_markdown(result))
    return data, page


_VERDICTS = {
    True: "no listed task that ran drops by more than the floor",
    False: "below the floor",
    None: "not known, for nothing ran, or not all that ran for the base",
}


def regression_markdown(result: RegressionResult) -> str:
    """The result as a page: verdict, listed tasks, and every task with its revision or the reason why it was not run."""
    mean = f"not comparable: {result.ran} of {result.of} ran"
    if result.base_mean is not None and result.model_mean is not None:
        mean = f"{result.base} {result.base_mean:.4f}, {result.model} {result.model_mean:.4f}"
    lines = [
        f"# General tasks: {result.model} beside {result.base}",
        "",
        f"Floor ({100 * result.floor:g} points on any listed task): **{_VERDICTS[result.passes_floor]}**. "
        f"Mean over the listed tasks: {mean}. mteb {result.mteb}.",
        "",
        f"| task | {result.base} | {result.model} | drop in points | ran |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in result.comparisons:
        if row.base is None or row.model is None or row.drop is None:
            lines.append(f"| {row.listed} | - | - | - | {NOT_RUN} |")
            continue
        mark = " (below the floor)" if row.below_floor else ""
        ran = f"{row.ran} of {row.of}"
        lines.append(f"| {row.listed} | {row.base:.4f} | {row.model:.4f} | {100 * row.drop:+.2f}{mark} | {ran} |")
    lines += ["", "| task of mteb | score | data set | base | model |", "| --- | --- | --- | --- | --- |"]
    for base, model in zip(result.base_scores, result.model_scores, strict=True):
        place = f"{base.repository}@{base.revision[:12]}"
        lines.append(f"| {base.task} | {base.metric} | {place} | {_shown(base)} | {_shown(model)} |")
    return "\n".join(lines) + "\n"


def _shown(score: TaskScore) -> str:
    if score.score is None:
        reason = " ".join(score.reason.split()).replace("|", "/")
        return f"{score.status}: {reason}"
    return f"{score.score:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: passes the floor; 1: below it; 2: not known, or the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m thread_embed_assets.benchmark.regression")
    parser.add_argument("model", help="folder or hub id of the tuned model")
    parser.add_argument("--base", required=True, help="folder or hub id of the model it was tuned from")
    parser.add_argument("--out", type=Path, required=True, help="folder for general_tasks.json and .md")
    parser.add_argument(
        "--mirror", type=Path, help=f"data sets in the layout of the hub's cache (default: ${MIRROR_VARIABLE})"
    )
    options = parser.parse_args(arguments)
    names = (Path(options.model).name, Path(options.base).name)
    try:
        result = check_regression(options.model, options.base, names, options.mirror, GENERAL_TASKS)
        write_regression(result, options.out)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(regression_markdown(result))
    return {True: 0, False: 1, None: 2}[result.passes_floor]


if __name__ == "__main__":
    sys.exit(main())
