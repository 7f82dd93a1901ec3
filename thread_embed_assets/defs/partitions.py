"""Partitions: one per catalogued source, per mix of sources that a checkpoint is trained on, and per arm of ablations."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from thread_embed_assets.benchmark.ablation_plan import load_plan
from thread_embed_assets.release.command import OPEN
from thread_embed_assets.release.stores.choose import STORES
from thread_embed_assets.sources.catalog import Source, load_catalog


def mixes_of(catalog: Mapping[str, Source]) -> dict[str, list[str]]:
    """Mix name to the sources it trains on: ``all``, one ``without_<platform>`` each, and every workspace by itself.

    ``open`` are those that may be passed on: weights are released from it.
    """
    training = {name: source for name, source in catalog.items() if "train" in source.roles}
    mixes = {"all": list(training), OPEN: [name for name, source in training.items() if source.redistribute]}
    for platform in dict.fromkeys(source.platform for source in training.values()):
        mixes[f"without_{platform}"] = [name for name, source in training.items() if source.platform != platform]
    mixes |= {name: [name] for name, source in training.items() if source.workspace}
    return mixes


ANNOTATED = "irc_disentangle"  # on which guessing threads is measured
CATALOG = load_catalog()
MIXES = mixes_of(CATALOG)

sources = dg.StaticPartitionsDefinition(list(CATALOG))
mixes = dg.StaticPartitionsDefinition(list(MIXES))
stores = dg.StaticPartitionsDefinition(list(STORES))
arms = dg.StaticPartitionsDefinition(list(load_plan().arms))

source_to_mixes = dg.StaticPartitionMapping(
    {source: {mix for mix, members in MIXES.items() if source in members} for source in CATALOG}
)


def mixes_scored_on(source: str) -> list[str]:
    """The mixes whose checkpoints are compared on a source: all, open, the one without its platform, and its own."""
    wanted = ("all", OPEN, f"without_{CATALOG[source].platform}", source)
    return [mix for mix in wanted if mix in MIXES]
