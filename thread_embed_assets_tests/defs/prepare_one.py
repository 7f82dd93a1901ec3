"""Materialises one source's tables from an export, in a process of its own: ``python -m ... SOURCE EXPORT``."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg

from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets_tests.defs.export import export_source
from thread_embed_assets_tests.defs.runs import errors, run

ASSETS = ("raw_dataset", "conversations", "duplicates", "thread_pairs")


def main(source: str, export: str) -> int:
    CATALOG[source] = export_source(source, Path(export))
    with dg.DagsterInstance.get() as instance:
        result = run(instance, dg.AssetSelection.assets(*ASSETS).without_checks(), source)
    print(errors(result))
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
