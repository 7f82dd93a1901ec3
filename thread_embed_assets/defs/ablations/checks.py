"""What must hold before an arm is compared."""

from __future__ import annotations

from thread_embed_assets.benchmark.ablation_scores import dev_queries_only
from thread_embed_assets.defs.checks import blocking_checks
from thread_embed_assets.defs.partitions import CATALOG, arms
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.verdict import Verdict


def _dev_queries_only(layout: Layout, arm: str) -> Verdict:
    tasks = {source: path for source in CATALOG if (path := layout.tasks(source)).exists()}
    return dev_queries_only(open_table(STORED["ablation"].path(layout, arm), "scores"), tasks)


_dev_queries_only.__doc__ = dev_queries_only.__doc__

ablation_checks = blocking_checks("ablation", arms, {"dev_queries_only": _dev_queries_only})
