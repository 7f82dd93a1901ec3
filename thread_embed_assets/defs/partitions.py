"""Partitions: one per catalogued source, and one per mix of sources that a checkpoint is trained on."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from thread_embed_assets.sources.catalog import Source, load_catalog


def mixes_of(catalog: Mapping[str, Source]) -> dict[str, list[str]]:
    """Mix name to the sources it trains on: ``all``, one ``without_<platform>`` each, and every workspace by itself."""
    training = {name: source for name, source in catalog.items() if "train" in source.roles}
    mixes = {"all": list(training)}
    for platform in dict.fromkeys(source.platform for source in training.values()):
        mixes[f"without_{platform}"] = [name for name, source in training.items() if source.platform != platform]
    mixes |= {name: [name] for name, source in training.items() if source.workspace}
    return mixes


ANNOTATED = "irc_disentangle"  # on which guessing threads is measured
CATALOG = load_catalog()
MIXES = mixes_of(CATALOG)

sources = dg.StaticPartitionsDefinition(list(CATALOG))
mixes = dg.StaticPartitionsDefinition(list(MIXES))

source_to_mixes = dg.StaticPartitionMapping(
    {source: {mix for mix, members in MIXES.items() if source in members} for source in CATALOG}
)


def mixes_scored_on(source: str) -> list[str]:
    """The mixes whose checkpoints are compared on a source: all, the one that never saw its platform, and its own."""
    wanted = ("all", f"without_{CATALOG[source].platform}", source)
    return [mix for mix in wanted if mix in MIXES]
