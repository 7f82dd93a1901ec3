"""What users take away."""

import dagster as dg
from pydantic import Field

from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS
from thread_embed_assets.defs.partitions import MIXES
from thread_embed_assets.defs.resources import STAGE1, LayoutResource
from thread_embed_assets.defs.training.checks import checkpoint_checks
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.package import publish
from thread_embed_assets.training.checkpoint import latest_checkpoint


class ModelPackageConfig(dg.Config):
    """Which checkpoint becomes the model that people load."""

    mix: str = Field("", description="A mix; empty takes `all` where it has a checkpoint, else the first mix that has one.")


@dg.asset(
    group_name="release",
    deps=[dg.AssetDep("stage1_checkpoint", partition_mapping=dg.AllPartitionMapping()), "leaderboard"],
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
        checkpoint = latest_checkpoint(place, mix, STAGE1)
        if checkpoint is not None:
            break
    else:
        problem = f"no checkpoint of {config.mix or 'any mix'}"
        raise InputError("model_package", problem, "Materialise stage1_checkpoint first")
    require_passed(context.instance, keys_of(checkpoint_checks), mix)
    folder = publish(checkpoint.model, place, checkpoint.manifest)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(checkpoint.fingerprint),
        metadata={"mix": mix, "fingerprint": checkpoint.fingerprint, "folder": dg.MetadataValue.path(folder)},
    )
