"""What must hold before something leaves."""

from __future__ import annotations

from pathlib import Path

from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.release import benchmark_dataset
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.verdict import Verdict


def _tasks(layout: Layout) -> dict[str, Path]:
    return {name: layout.tasks(name) for name in CATALOG if layout.tasks(name).exists()}


def _no_withheld_text(layout: Layout, _: str) -> Verdict:
    return benchmark_dataset.no_withheld_text(layout.benchmark_dataset, _tasks(layout), CATALOG)


def _no_people(layout: Layout, _: str) -> Verdict:
    people = {name: layout.people(name) for name in CATALOG if layout.people(name).exists()}
    return benchmark_dataset.no_people(layout.benchmark_dataset, _tasks(layout), people)


_no_withheld_text.__doc__ = benchmark_dataset.no_withheld_text.__doc__
_no_people.__doc__ = benchmark_dataset.no_people.__doc__

release_checks = blocking_checks("benchmark_dataset", None, {"no_withheld_text": _no_withheld_text, "no_people": _no_people})
