"""What users take away."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from thread_embed_assets.defs.benchmark.checks import task_checks
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, counts_table
from thread_embed_assets.defs.partitions import CATALOG, MIXES
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.defs.training.checks import CHECKPOINTS, checks_of
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.benchmark_dataset import package_benchmark
from thread_embed_assets.release.command import OPEN, pack_compared
from thread_embed_assets.release.package import publish
from thread_embed_assets.release.weights import CARD
from thread_embed_assets.storage.fingerprint import of_folder
from thread_embed_assets.training.checkpoint import final_checkpoint


class ModelPackageConfig(dg.Config):
    """Which checkpoint becomes the model that people load."""

    mix: str = Field("", description="A mix; empty takes `all` where it has a checkpoint, else the first mix that has one.")


@dg.asset(
    group_name="release",
    deps=[*CHECKPOINTS, "leaderboard"],
    kinds={"huggingface"},
    owners=OWNERS,
    code_version="1",
)
def model_package(
    context: dg.AssetExecutionContext, config: ModelPackageConfig, layout: LayoutResource
) -> dg.MaterializeResult[None]:
    """`models/thread-embed`: a checkpoint's model with its card, loaded by plain `SentenceTransformer`.

    Needs a checkpoint that loads. Seconds; the old model stays until the new one has been loaded and tried.
    """
    place = layout.layout()
    if config.mix and config.mix not in MIXES:
        raise InputError("model_package, field 'mix'", f"unknown mix {config.mix!r}", f"Known mixes: {', '.join(MIXES)}")
    for mix in [config.mix] if config.mix else MIXES:
        checkpoint = final_checkpoint(place, mix)
        if checkpoint is not None:
            break
    else:
        problem = f"no checkpoint of {config.mix or 'any mix'}"
        raise InputError("model_package", problem, "Run the train job first")
    require_passed(context.instance, keys_of(checks_of(checkpoint)), mix)
    folder = publish(checkpoint.model, place, checkpoint.manifest)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(checkpoint.fingerprint),
        metadata={"mix": mix, "fingerprint": checkpoint.fingerprint, "folder": dg.MetadataValue.path(folder)},
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
) -> dg.MaterializeResult[None]:
    """`models/released/<name>`: a checkpoint as a difference of at most 12 MB from its base, to travel in the repository.

    Needs a checkpoint trained on sources that may be passed on. Its training texts are compared with all tasks that are
    here. A minute; the old folder stays if anything is refused.
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
        data_version=dg.DataVersion(released.fingerprint),
        metadata={
            "bytes": sum(file.stat().st_size for file in released.folder.iterdir()),
            "weights_sha256": released.weights_sha256,
            "card": dg.MetadataValue.md((released.folder / CARD).read_text(encoding="utf-8").split("---\n", 2)[-1]),
            "folder": dg.MetadataValue.path(released.folder),
        },
    )


@dg.asset(
    group_name="release", ins={"benchmark_tasks": many()}, kinds={"parquet", "huggingface"}, owners=OWNERS, code_version="1"
)
def benchmark_dataset(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_tasks: dict[str, Path]
) -> dg.MaterializeResult[None]:
    """`data/benchmark/dataset`: corpus, queries, qrels and near slices in the hub's retrieval layout, with a datasheet.

    Needs the tasks of at least one source. Texts only of sources that may be redistributed, of the others ids and how to
    fill the texts in. Seconds; the same tasks give the same bytes.
    """
    if not benchmark_tasks:
        raise InputError("benchmark_dataset", "no source has tasks yet", "Materialise benchmark_tasks of a source")
    for source in benchmark_tasks:
        require_passed(context.instance, keys_of(task_checks), source)
    package = package_benchmark(benchmark_tasks, CATALOG, layout.layout().benchmark_dataset)
    sizes = {f"{size.source} {size.task} {size.split}": sum(size.tiers.values()) for size in package.sizes}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(of_folder(package.folder)),
        metadata={
            "queries": counts_table(sizes),
            "withheld": ", ".join(package.withheld) or "none",
            "datasheet": dg.MetadataValue.md(
                (package.folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[-1]
            ),
            "folder": dg.MetadataValue.path(package.folder),
        },
    )
