"""The whole graph from the command line: prepare each source, pair each source, train mixes, evaluate each source, report.

Each step is a Dagster run on the instance that ``DAGSTER_HOME`` names, so the UI shows it: in this process, or with
``THREAD_EMBED_EXECUTOR=ray`` led by this process, its ops as jobs of a Ray cluster. What is there already, from the same
inputs and code, is not made again: a run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
)
from dagster._core.execution.execution_result import ExecutionResult
from dagster._core.storage.tags import PARTITION_NAME_TAG

from thread_embed_assets.benchmark.report import read_leaderboard, terminal_table
from thread_embed_assets.definitions import defs, job_of
from thread_embed_assets.defs.automation import DISENTANGLE, EVALUATE, PAIR, PREPARE, REPORT, RERANK, TRAIN
from thread_embed_assets.defs.executors import PROCESSES, executor_name
from thread_embed_assets.defs.gates import not_passed
from thread_embed_assets.defs.killed_runs import close_killed_runs, of_this_process
from thread_embed_assets.defs.partitions import ANNOTATED, CATALOG, MIXES
from thread_embed_assets.defs.resources import STORED, bring_all
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.history import records
from thread_embed_assets.reranker.origins import AMOUNTS
from thread_embed_assets.sources.catalog import PRIORITIES, select
from thread_embed_assets.storage.layout import Layout

_UNSCORED = tuple(name for name in PAIR if name != "benchmark_tasks")
_TABLE_JOBS = frozenset({"prepare", "pair"})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--sources", help="comma-separated names of catalog.yaml or own_chat.yaml")
    chosen.add_argument("--priority", choices=PRIORITIES, help="every source of this priority or a more urgent one")
    parser.add_argument("--mix", default="", help="comma-separated: what checkpoints are trained on")
    parser.add_argument("--data-only", action="store_true", help="conversations, pairs and tasks; nothing is trained")
    parser.add_argument("--profile", default="quick", help="training profile (default: quick)")
    parser.add_argument("--reranker", choices=AMOUNTS, help="train a reranker, too, or alone without --mix, on so much")
    options = parser.parse_args(arguments)
    sources = options.sources.split(",") if options.sources else select(CATALOG, options.priority)
    unknown = [name for name in sources if name not in CATALOG]
    if unknown:
        parser.error(f"unknown source {unknown[0]!r}; the catalogue has {', '.join(CATALOG)}")
    mixes = options.mix.split(",") if options.mix else []
    if bool(mixes or options.reranker) == options.data_only:
        parser.error("name a --mix to train on, or a --reranker, or both; or --data-only")
    unknown = [name for name in mixes if name not in MIXES]
    if unknown:
        parser.error(f"unknown mix {unknown[0]!r}; there are {', '.join(MIXES)}")
    if "DAGSTER_HOME" not in os.environ:
        parser.error("DAGSTER_HOME is not set; `make demo` and `make real` set it to data/dagster_home")
    return run_graph(sources, mixes, options.profile, options.reranker, data_only=options.data_only)


def run_graph(
    sources: Sequence[str], mixes: Sequence[str], profile: str, reranker: str | None = None, *, data_only: bool = False
) -> int:
    """Run every step that is needed; returns 1 at the first that fails, 0 when all are there."""
    began = time.monotonic()
    training = {"ops": {name: {"config": {"profile": profile}} for name in TRAIN}}
    with dg.DagsterInstance.get() as instance, _alone(Path(instance.root_directory)):
        open_gpu_pool(instance)
        close_killed_runs(instance)
        runner = _Runner(instance, defs())
        benchmark = [source for source in sources if "benchmark" in CATALOG[source].roles]
        steps: list[tuple[str, str | None, Sequence[str], dict[str, Any]]] = []
        steps += [("prepare", source, PREPARE, {}) for source in sources]
        if mixes or data_only:
            steps += [("pair", source, PAIR if source in benchmark else _UNSCORED, {}) for source in sources]
        if mixes:
            steps += [("train", mix, TRAIN, training) for mix in mixes]
            steps += [("evaluate", source, EVALUATE, {}) for source in benchmark]
            steps += [("disentangle", None, DISENTANGLE, {})] if ANNOTATED in sources else []
            steps += [("report", None, REPORT, {})]
        if reranker:
            steps += [("rerank", None, RERANK, _reranking(reranker))]
        for number, (job, partition, wanted, config) in enumerate(steps, 1):
            name = f"[{number}/{len(steps)}] {job} {partition or ''}"
            bring_all(Layout.from_environment(), partition)
            assets = runner.needed(job, wanted, partition)
            if not assets:
                print(f"{name}: is there already", flush=True)
                continue
            print(f"{name}: {', '.join(assets)}", flush=True)
            started = time.monotonic()
            if not runner.run(job, partition, assets, config):
                print(f"{name}: failed; the lines above say why. What was made stays; run the command again to go on.")
                return 1
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    bring_all(Layout.from_environment())
    if mixes:
        _closing_words(sources, time.monotonic() - began)
    if reranker:
        print(f"\nreranker:     {Layout.from_environment().reranker_package}")
        print('route:        .venv/bin/thread-embed route "is the deploy broken again"')
    return 0


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One whole graph at a time on an instance, whoever has started it; the system frees the lock of a killed one."""
    home.mkdir(parents=True, exist_ok=True)  # of an instance of several machines Dagster makes it only with the first run
    with (home / "run_graph.lock").open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                "waiting: another whole graph runs on this instance, started by a person, a schedule or a sensor", flush=True
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _reranking(amount: str) -> dict[str, Any]:
    chosen = {
        "reranker_examples": {"amount": amount},
        "reranker_checkpoint": {"profile": amount},
        "reranker_results": {"most_messages": AMOUNTS[amount].measured_messages},
    }
    return {"ops": {name: {"config": config} for name, config in chosen.items()}}


def open_gpu_pool(instance: dg.DagsterInstance) -> None:
    """One slot, unless somebody has said how many GPUs there are."""
    if all(pool.name != "gpu" for pool in instance.event_log_storage.get_pool_limits()):
        instance.event_log_storage.set_concurrency_slots("gpu", 1)


class _Runner:
    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self._instance = instance
        self._definitions = definitions
        self._graph = definitions.resolve_asset_graph()

    def run(self, job: str, partition: str | None, assets: Sequence[str], config: dict[str, Any]) -> bool:
        result = self._execute(
            job,
            partition,
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config={**config, "loggers": {"console": {"config": {"log_level": "INFO"}}}},
            tags=of_this_process(),
        )
        failed = [
            f"{e.asset_key.to_user_string()}/{e.check_name}: {e.description}"
            for e in result.get_asset_check_evaluations()
            if not e.passed
        ]
        for line in failed:
            print(f"  check failed: {line}", flush=True)
        return result.success and not failed

    def _execute(self, job: str, partition: str | None, tags: dict[str, str], **given: Any) -> ExecutionResult:
        """In this process, which spares each op the start of its own, unless another executor was asked for."""
        if executor_name() == PROCESSES:
            definition = self._definitions.resolve_job_def(job)
            return definition.execute_in_process(
                partition_key=partition, tags=tags, instance=self._instance, raise_on_error=False, **given
            )
        named = dg.build_reconstructable_job(job_of.__module__, job_of.__name__, (job,))
        tags |= {PARTITION_NAME_TAG: partition} if partition else {}
        return dg.execute_job(named, tags=tags, instance=self._instance, raise_on_error=False, **given)

    def needed(self, job: str, assets: Sequence[str], partition: str | None) -> list[str]:
        """What a step has to make: of the tables of a source what is missing, of all else everything.

        A team's own export grows, so its files are read again each time; what follows is made again only if they changed.
        """
        if partition is None or job not in _TABLE_JOBS:
            return list(assets)
        missing = self.missing(assets, partition)
        grows = CATALOG[partition].origin.kind == "folder"
        if job != "prepare" or not grows or "raw_dataset" in missing:
            return missing
        return self.missing(assets, partition) if self.run(job, partition, ["raw_dataset"], {}) else list(assets)

    def missing(self, assets: Sequence[str], partition: str) -> list[str]:
        """Of assets in dependency order, those to be made, and everything after them in the list."""
        for position, name in enumerate(assets):
            if not self._is_current(name, partition):
                return list(assets[position:])
        return []

    def _is_current(self, name: str, partition: str) -> bool:
        key, layout = dg.AssetKey(name), Layout.from_environment()
        if not STORED[name].path(layout, partition).exists():
            return False
        try:
            STORED[name].open(layout, partition)
        except InputError:  # damaged
            return False
        tags = self._tags(key, partition)
        if not tags or tags.get(CODE_VERSION_TAG) != self._graph.get(key).code_version:
            return False
        for parent in self._graph.get(key).parent_keys:
            mapping = self._graph.get(key).partition_mappings.get(parent)
            partitions = sorted(CATALOG) if isinstance(mapping, dg.AllPartitionMapping) else [partition]
            versions = "".join(self._tags(parent, p).get(DATA_VERSION_TAG, "") for p in partitions)
            # Of a partitioned input Dagster keeps the sha256 of its partitions' data versions, in the order of their keys.
            if tags.get(get_input_data_version_tag(parent)) != sha256(versions.encode()).hexdigest():
                return False
        return not not_passed(self._instance, self._graph.get_check_keys_for_assets({key}), partition)

    def _tags(self, key: dg.AssetKey, partition: str) -> dict[str, str]:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
        found = self._instance.fetch_materializations(wanted, limit=1).records
        materialization = found[0].asset_materialization if found else None
        return dict(materialization.tags or {}) if materialization else {}


def _closing_words(sources: Sequence[str], seconds: float) -> None:
    layout = Layout.from_environment()
    board = read_leaderboard(layout)
    for line in _lines(terminal_table(board), layout, _searched(sources), seconds):
        print(line)


def _searched(sources: Sequence[str]) -> str:
    """The source of the example search: a team's own history, where there is one."""
    return next((name for name in sources if CATALOG[name].workspace), sources[0])


def _lines(table: str, layout: Layout, source: str, seconds: float) -> Iterator[str]:
    yield ""
    yield table
    yield ""
    yield f"leaderboard:  {layout.benchmark / 'leaderboard.md'}"
    yield f"model:        {layout.promoted_model}"
    yield f"promotion:    {records(layout)[-1].why}"
    where = "workspace" if CATALOG[source].workspace else "source"
    yield f'search:       .venv/bin/thread-embed search "is the deploy broken again" --{where} {source}'
    yield f"time:         {seconds / 60:.1f} minutes"


if __name__ == "__main__":
    sys.exit(main())
