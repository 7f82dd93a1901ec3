"""What users take away."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from thread_embed_assets.defs.benchmark.checks import task_checks
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, counts_table
from thread_embed_assets.defs.partitions import CATALOG, MIXES, stores
from thread_embed_assets.defs.release.checks import package_checks
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.defs.training.checks import CHECKPOINTS, checks_of
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.benchmark_dataset import package_benchmark
from thread_embed_assets.release.command import OPEN, pack_compared
from thread_embed_assets.release.promotion import MARGIN, FloorPolicy, Policy, promote
from thread_embed_assets.release.store_roundtrip import HELD_OUT_THREADS, QUERIES, results_table, round_trip_of
from thread_embed_assets.release.weights import CARD, Released, named_released
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, final_checkpoint


class ModelPackageConfig(dg.Config):
    """Which model is to become the one that people load, and what is asked of it."""

    mix: str = Field("", description="A mix; empty takes `all` where it has a checkpoint, else the first mix that has one.")
    released: str = Field("", description="A model below `models/released`, by name, in place of a mix's.")
    floor: FloorPolicy = Field(
        "where_known",
        description="What is asked of the general tasks: `required` refuses a model that they were not run with.",
    )
    margin: float = Field(MARGIN, ge=0, description="How far MRR@10 of any task may fall below the promoted model's.")


@dg.asset(
    group_name="release",
    deps=[*CHECKPOINTS, "leaderboard"],
    kinds={"huggingface"},
    owners=OWNERS,
    code_version="3",
)
def model_package(
    context: dg.AssetExecutionContext, config: ModelPackageConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """`models/thread-embed`: a model in the hub's format with card and chat helper, loaded by plain `SentenceTransformer`.

    It is promoted if it beats the one before on dev, by a paired test, keeps the general floor and has read nothing that is
    held out; the first has nobody to beat. Else the old model stays, and `decision` says why. The card's numbers come from
    manifests, the leaderboard and the general tasks, if there.

    - **Needs** a checkpoint that loads, or a released model.
    - **Takes** seconds, and the time of the contamination check.
    - **Lies in** `models/thread-embed`; every promoted model stays in `models/history`.
    """
    place = layout.layout()
    if config.mix and config.mix not in MIXES:
        raise InputError("model_package, field 'mix'", f"unknown mix {config.mix!r}", f"Known mixes: {', '.join(MIXES)}")
    policy = Policy(config.floor, config.margin)
    if config.released:
        return _decided(named_released(config.released, place), place, policy)
    for mix in [config.mix] if config.mix else MIXES:
        checkpoint = final_checkpoint(place, mix)
        if checkpoint is not None:
            break
    else:
        problem = f"no checkpoint of {config.mix or 'any mix'}"
        raise InputError("model_package", problem, "Run the train job first, or name a released model")
    require_passed(context.instance, keys_of(checks_of(checkpoint)), mix)
    return _decided(checkpoint, place, policy)


def _decided(challenger: Checkpoint | Released, layout: Layout, policy: Policy) -> dg.MaterializeResult[Path]:
    decision = promote(challenger, layout, CATALOG, policy)
    model = decision.challenger if decision.promoted else decision.champion
    return dg.MaterializeResult(
        value=layout.model_history,
        data_version=dg.DataVersion(model),
        metadata={
            "model": model,
            "promoted": decision.promoted,
            "decision": dg.MetadataValue.md(decision.markdown()),
            "folder": dg.MetadataValue.path(layout.promoted_model),
            "card": _page(layout.promoted_model / CARD),
        },
    )


def _page(card: Path) -> dg.MarkdownMetadataValue:
    """A README without its front matter."""
    return dg.MetadataValue.md(card.read_text(encoding="utf-8").split("---\n", 2)[-1])


class OnnxModelConfig(dg.Config):
    """What is exported."""

    quantised: bool = Field(True, description="Also write `model_int8.onnx`.")


@dg.asset(group_name="release", deps=[model_package], kinds={"onnx"}, owners=OWNERS, code_version="1")
def onnx_model(
    context: dg.AssetExecutionContext, config: OnnxModelConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """`models/thread-embed-onnx`: the promoted model with pooling, token weights and normalisation in one ONNX graph.

    The old folder stays unless the new one embeds as torch does, to 1e-4.

    - **Needs** the model package, with its check passed.
    - **Takes** a minute.
    - **Lies in** `models/thread-embed-onnx`.
    """
    from thread_embed_assets.release.export import export_model

    place = layout.layout()
    require_passed(context.instance, keys_of(package_checks))
    exported = export_model(place.promoted_model, place.onnx_package, config.quantised)
    return dg.MaterializeResult(
        value=exported.folder,
        data_version=dg.DataVersion(of_folder(exported.folder)),
        metadata={
            "difference": exported.difference,
            **({} if exported.cosine_int8 is None else {"cosine_int8": exported.cosine_int8}),
            **{path.name: path.stat().st_size for path in sorted(exported.folder.glob("*.onnx"))},
            "folder": dg.MetadataValue.path(exported.folder),
        },
    )


class ReleasedWeightsConfig(dg.Config):
    """Which checkpoint is packed, and under which name."""

    name: str = Field("minilm-open", description="Name of the folder below `models/released`.")
    mix: str = Field(OPEN, description="The mix whose latest checkpoint is packed.")
    trained_by: str = Field("", description="The command that trained it, where no profile's own settings did.")


@dg.asset(
    group_name="release",
    deps=[*CHECKPOINTS, dg.AssetDep("benchmark_tasks", partition_mapping=dg.AllPartitionMapping())],
    kinds={"safetensors"},
    owners=OWNERS,
    code_version="1",
)
def released_weights(
    context: dg.AssetExecutionContext, config: ReleasedWeightsConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """`models/released/<name>`: a checkpoint as a difference of at most 12 MB from its base, to travel in the repository.

    Its training texts are compared with all tasks that are here. The old folder stays if anything is refused.

    - **Needs** a checkpoint trained on sources that may be passed on.
    - **Takes** a minute.
    - **Lies in** `models/released`, a folder for each name.
    """
    place = layout.layout()
    if config.mix not in MIXES:
        raise InputError("released_weights, field 'mix'", f"unknown mix {config.mix!r}", f"Known mixes: {', '.join(MIXES)}")
    checkpoint = final_checkpoint(place, config.mix)
    if checkpoint is None:
        raise InputError("released_weights", f"no checkpoint of {config.mix}", "Run the train job first")
    require_passed(context.instance, keys_of(checks_of(checkpoint)), config.mix)
    released = pack_compared(checkpoint, config.name, place, CATALOG, config.trained_by)
    return dg.MaterializeResult(
        value=released.folder,
        data_version=dg.DataVersion(released.fingerprint),
        metadata={
            "bytes": sum(file.stat().st_size for file in released.folder.iterdir()),
            "weights_sha256": released.weights_sha256,
            "card": _page(released.folder / CARD),
            "folder": dg.MetadataValue.path(released.folder),
        },
    )


@dg.asset(
    group_name="release", ins={"benchmark_tasks": many()}, kinds={"parquet", "huggingface"}, owners=OWNERS, code_version="1"
)
def benchmark_dataset(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_tasks: dict[str, Path]
) -> dg.MaterializeResult[Path]:
    """`data/benchmark/dataset`: corpus, queries, qrels and near slices in the hub's retrieval layout, with a datasheet.

    Texts only of sources that may be redistributed, of the others ids and how to fill the texts in. The same tasks give the
    same bytes.

    - **Needs** the tasks of at least one source, with their checks passed.
    - **Takes** seconds.
    - **Lies in** `data/benchmark/dataset`.
    """
    if not benchmark_tasks:
        raise InputError("benchmark_dataset", "no source has tasks yet", "Materialise benchmark_tasks of a source")
    for source in benchmark_tasks:
        require_passed(context.instance, keys_of(task_checks), source)
    package = package_benchmark(benchmark_tasks, CATALOG, layout.layout().benchmark_dataset)
    sizes = {f"{size.source} {size.task} {size.split}": sum(size.tiers.values()) for size in package.sizes}
    return dg.MaterializeResult(
        value=package.folder,
        data_version=dg.DataVersion(of_folder(package.folder)),
        metadata={
            "queries": counts_table(sizes),
            "withheld": ", ".join(package.withheld) or "none",
            "datasheet": _page(package.folder / "README.md"),
            "folder": dg.MetadataValue.path(package.folder),
        },
    )


class VectorStoreConfig(dg.Config):
    """What is indexed and asked."""

    model: str = Field("", description="A model folder, a released model's name or an id; empty takes the one search uses.")
    threads: int = Field(HELD_OUT_THREADS, ge=1, description="Held-out threads indexed, at most, of all sources together.")
    queries: int = Field(QUERIES, ge=1, description="Queries asked, at most: opening messages of some of them.")


@dg.asset(
    group_name="release",
    partitions_def=stores,
    deps=[dg.AssetDep("conversations", partition_mapping=dg.AllPartitionMapping()), "model_package"],
    owners=OWNERS,
    kinds={"vectorstore"},
    code_version="1",
)
def vector_store_roundtrip(
    context: dg.AssetExecutionContext, config: VectorStoreConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """`data/stores/<store>`: a vector store built from the held-out threads, closed, opened and asked, beside exact search.

    - **Needs** conversations, the model that search uses, and the store's package or server: one that is not there fails by
      name.
    - **Takes** seconds once the threads are embedded.
    - **Lies in** `data/stores/<store>/roundtrip.json`.
    """
    place = layout.layout()
    result = round_trip_of(context.partition_key, place, config.model or None, config.threads, config.queries)
    return dg.MaterializeResult(
        value=place.store_roundtrip(context.partition_key),
        data_version=dg.DataVersion(result.fingerprint),
        metadata={
            "recall@10": result.recall,
            "recall@10 with filters": result.filtered_recall,
            "dagster/partition_row_count": result.threads,
            "table": dg.MetadataValue.md(results_table(place)),
            "dagster/uri": place.store_roundtrip(context.partition_key).as_uri(),
        },
    )
