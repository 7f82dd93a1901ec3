"""Resources: where things lie, what trains, and how a finished table reaches the next asset."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG
from pydantic import Field

from thread_embed_assets.benchmark.ablations import SCORES
from thread_embed_assets.chat.exploration import read_figures
from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.chat.people import salt
from thread_embed_assets.defs.lineage import column_lineage
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.retries import only_what_passes
from thread_embed_assets.language_models.choose import AT_ONCE, WriterName
from thread_embed_assets.pairs.schema import HARD_NEGATIVES_FOLDER, Strategy
from thread_embed_assets.sources.fetch import open_raw
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.remote_root import remote_root
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import latest_checkpoint
from thread_embed_assets.training.config import STAGES


class LayoutResource(dg.ConfigurableResource[Layout]):
    """Where things lie; with ``THREAD_EMBED_REMOTE_ROOT`` a step begins with what other machines have made."""

    root: str = Field(
        default="", description="Folder of data/ and models/; empty: THREAD_EMBED_ROOT, else the project's folder."
    )

    def layout(self) -> Layout:
        return Layout(Path(self.root).expanduser().resolve()) if self.root else Layout.from_environment()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        bring_all(self.layout(), context.run.tags.get(PARTITION_NAME_TAG) if context.run else None)


def bring_all(layout: Layout, partition: str | None = None) -> None:
    """Bring what has changed at the remote root, if there is one, and agree with all machines on the salt of person ids.

    Raw files, which are the most, come for the source whose partition is run alone; what has no partitions takes them all.
    """
    remote = remote_root(layout)
    if remote:
        raw, own = "data/raw/", f"data/raw/{partition}/"
        remote.bring(leave=lambda name: partition is not None and name.startswith(raw) and not name.startswith(own))
        salt(layout)
        remote.claim(layout.private / "salt")


class LanguageModelResource(dg.ConfigurableResource["LanguageModelResource"]):
    """Who writes about conversations; keys come from the environment alone, and a key alone sends nothing."""

    writer: WriterName = Field(
        default="auto",
        description="auto is what THREAD_EMBED_LANGUAGE_MODEL names (writer/model), else the offline stand-in.",
    )
    model: str = Field(default="", description="The writer's model; empty takes its default.")
    url: str = Field(
        default="",
        description="Of an OpenAI-compatible server; empty means THREAD_EMBED_LANGUAGE_MODEL_URL, whose server alone gets "
        "the key of THREAD_EMBED_LANGUAGE_MODEL_KEY.",
    )
    at_once: int = Field(default=AT_ONCE, description="Requests on their way at the same time.")


class GpuResource(dg.ConfigurableResource["GpuResource"]):
    """What the training process runs on; precision follows from it (bf16 on a GPU that has it, else fp32)."""

    device: Literal["auto", "cuda", "mps", "cpu"] = Field(default="auto", description="auto takes the best there is.")


@dataclass(frozen=True)
class Stored:
    """Where an asset's partition lies, and how its handle is opened."""

    path: Callable[[Layout, str], Path]
    open: Callable[[Layout, str], Any]


def _pairs(strategy: Strategy) -> Stored:
    def path(layout: Layout, source: str) -> Path:
        return layout.pairs(strategy, source)

    return Stored(path, lambda layout, source: open_table(path(layout, source), "pairs"))


def _checkpoints(stage: str) -> Stored:
    return Stored(
        lambda layout, mix: layout.checkpoints(mix, stage), lambda layout, mix: latest_checkpoint(layout, mix, stage)
    )


PAIR_ASSETS = {f"{strategy}_pairs": strategy for strategy in Strategy}

STORED: dict[str, Stored] = {
    "raw_dataset": Stored(Layout.raw, lambda layout, source: open_raw(CATALOG[source], layout)),
    "conversations": Stored(Layout.conversations, lambda layout, source: open_normalised(layout.conversations(source))),
    "duplicates": Stored(Layout.duplicates, lambda layout, source: open_table(layout.duplicates(source), "duplicates")),
    "source_report": Stored(Layout.source_report, lambda layout, source: read_figures(layout.source_report(source))),
    "pairs_report": Stored(Layout.pairs_report, Layout.pairs_report),
    "conversation_summaries": Stored(
        Layout.summaries, lambda layout, source: open_table(layout.summaries(source), "summaries")
    ),
    **{name: _pairs(strategy) for name, strategy in PAIR_ASSETS.items()},
    "hard_negatives": Stored(
        lambda layout, source: layout.pairs(HARD_NEGATIVES_FOLDER, source),
        lambda layout, source: open_table(layout.pairs(HARD_NEGATIVES_FOLDER, source), "hard_negatives"),
    ),
    **{f"{stage}_checkpoint": _checkpoints(stage) for stage in STAGES},
    "mined_negatives": Stored(
        Layout.mined_negatives, lambda layout, mix: open_table(layout.mined_negatives(mix), "hard_negatives")
    ),
    "benchmark_tasks": Stored(Layout.tasks, Layout.tasks),
    "benchmark_results": Stored(Layout.results, Layout.results),
    "ablation": Stored(lambda layout, arm: layout.ablation(arm) / SCORES, lambda layout, arm: layout.ablation(arm) / SCORES),
    "vector_store_roundtrip": Stored(Layout.store_roundtrip, Layout.store_roundtrip),
}


MANY = "thread_embed/many_partitions"


def many(partition_mapping: dg.PartitionMapping | None = None) -> dg.AssetIn:
    """An input that takes all mapped partitions of its upstream, as a dictionary."""
    return dg.AssetIn(partition_mapping=partition_mapping, metadata={MANY: True})


class HandleIOManager(dg.ConfigurableIOManager):
    """Hands the next asset a handle of what lies on disk; the engine has written it, whole, before the asset returns.

    With ``THREAD_EMBED_REMOTE_ROOT`` it is sent there before Dagster notes it down. That is why every asset returns a value:
    of one that returns nothing no IO manager is told.

    An input marked by :func:`many` becomes a dictionary from partition to handle, of those that are on disk: a mix trains on
    the sources that were materialised.
    """

    layout_resource: LayoutResource

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        name, layout = context.asset_key.path[-1], self.layout_resource.layout()
        # What has no partitions is read by people, and nothing loads it through here: it names its own path.
        path = STORED[name].path(layout, context.asset_partition_key) if context.has_asset_partitions else obj
        if not path.exists():
            raise dg.DagsterInvariantViolationError(f"{name} returned, but {path} is not there")
        lineage = column_lineage(name)
        if lineage is not None:
            context.add_output_metadata({"dagster/column_lineage": lineage})
        remote = remote_root(layout)
        if remote:
            remote.send()

    def load_input(self, context: dg.InputContext) -> Any:
        name = context.asset_key.path[-1]
        layout = self.layout_resource.layout()
        with only_what_passes():
            if MANY not in (context.definition_metadata or {}):
                return STORED[name].open(layout, context.asset_partition_key)
            present = [key for key in context.asset_partition_keys if STORED[name].path(layout, key).exists()]
            return {key: STORED[name].open(layout, key) for key in present}
