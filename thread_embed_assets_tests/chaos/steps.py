"""The graph or one job of it, in this process: ``python -m thread_embed_assets_tests.chaos.steps graph`` or a job's name."""

from __future__ import annotations

import sys

import dagster as dg

from thread_embed_assets.defs.run_graph import _Runner, close_killed_runs, run_graph
from thread_embed_assets_tests.chaos.location import defs
from thread_embed_assets_tests.chaos.workspace import GRAPH, JOBS, config_of, partition_of
from thread_embed_assets_tests.defs.conftest import PROFILE, SOURCE


def main(name: str) -> int:
    if name == GRAPH:
        return run_graph([SOURCE], [SOURCE], PROFILE)
    with dg.DagsterInstance.get() as instance:
        close_killed_runs(instance)
        return 0 if _Runner(instance, defs()).run(name, partition_of(name), JOBS[name], config_of(name)) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
