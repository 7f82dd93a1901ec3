"""The reranker: examples, a trained model, what it is worth, and a package for the router."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.executors import gpu_tags
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, picture, rows_table, tables
from thread_embed_assets.defs.partitions import ANNOTATED, CATALOG
from thread_embed_assets.defs.reranker.checks import checkpoint_checks, example_checks
from thread_embed_assets.defs.resources import GpuResource, LayoutResource
from thread_embed_assets.defs.retries import KILLED, only_what_passes
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.weights import find_released, unpack
from thread_embed_assets.reranker.baselines import features_only
from thread_embed_assets.reranker.candidates import EXAMPLES
from thread_embed_assets.reranker.clear_cases import CLEAR_CASES, logged, measure, simulated, write_clear_cases
from thread_embed_assets.reranker.config import reranker_config
from thread_embed_assets.reranker.evaluate import SCHEMAS
from thread_embed_assets.reranker.groups import of_candidates
from thread_embed_assets.reranker.origins import AMOUNTS, SYNTHETIC, channels, tells_threads, write_all, written
from thread_embed_assets.reranker.package import publish_reranker, write_router_settings
from thread_embed_assets.reranker.page import calibration_curve, links_table, pages, rules_table, training_curve
from thread_embed_assets.reranker.results import FEATURES_ONLY, FUSED, LINKS, link_annotated, measure_all, write_links
from thread_embed_assets.reranker.train import RerankerCheckpoint, latest_reranker, train_reranker
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.devices import pick_device

_ALL = dg.AllPartitionMapping()


class ExamplesConfig(dg.Config):
    """How many examples are made."""

    amount: str = Field("quick", description=f"One of {', '.join(AMOUNTS)} (reranker/origins.py).")


@dg.asset(
    group_name="reranker",
    deps=[dg.AssetDep(name, partition_mapping=_ALL) for name in ("raw_dataset", "conversations")],
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="2",
    metadata=tables("reranker_examples", {"examples": EXAMPLES}),
)
def reranker_examples(
    context: dg.AssetExecutionContext, config: ExamplesConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """Messages with the threads that each may continue: of simulated users, and of every source whose threads people marked.

    - **Needs** nothing; takes in the conversations that are there and have times.
    - **Takes** seconds, or with `full` some minutes.
    - **Lies in** `data/reranker/examples`, a file for each origin.
    """
    place = layout.layout()
    if config.amount not in AMOUNTS:
        raise InputError(
            "reranker_examples, field 'amount'", f"unknown amount {config.amount!r}", f"Use one of {', '.join(AMOUNTS)}"
        )
    sources = [source for source in CATALOG.values() if tells_threads(source, place)]
    for source in sources:
        require_passed(context.instance, keys_of(conversation_checks), source.name)
    examples = write_all(sources, place, AMOUNTS[config.amount])
    counts = [{"origin": o, "of": name, "messages": n} for o, table in examples.items() for name, n in table.counts.items()]
    return dg.MaterializeResult(
        value=place.reranker_examples(SYNTHETIC),
        data_version=dg.DataVersion(of_json({origin: table.fingerprint for origin, table in examples.items()})),
        metadata={
            "dagster/row_count": sum(table.rows for table in examples.values()),
            "counts": rows_table(counts, ("origin", "of", "messages")),
            "a few": rows_table(_a_few(examples[SYNTHETIC].rows_as_dicts(order_by="md5(group_id), label DESC")), _SHOWN),
        },
    )


_SHOWN = ("tier", "message", "thread", "label")


def _a_few(rows: Any) -> list[dict[str, Any]]:
    return [row for row, _ in zip(rows, range(20), strict=False)]


_BASE = "minilm-open"  # it knows chat: before training it finds more threads than MiniLM does


class TrainConfig(dg.Config):
    """Which profile trains, and what is set otherwise."""

    profile: str = Field("quick", description="A profile of reranker/config.py.")
    overrides: dict[str, Any | None] = Field(
        {}, description="Fields of RerankerConfig to set otherwise; base_model may name a released one, and is minilm-open."
    )


@dg.asset(
    group_name="reranker",
    deps=[reranker_examples],
    kinds={"pytorch"},
    owners=OWNERS,
    pool="gpu",
    op_tags=gpu_tags(),
    code_version="3",
    retry_policy=KILLED,
)
def reranker_checkpoint(
    context: dg.AssetExecutionContext, config: TrainConfig, layout: LayoutResource, gpu: GpuResource
) -> dg.MaterializeResult[Path]:
    """A cross-encoder of message and thread, fused with what the log knows, trained on easy examples first, then on all.

    The epoch that is best on dev is kept. A killed run goes on where it was when it is materialised again, and a training
    that is there already is not repeated.

    - **Needs** the examples, with their checks passed; a slot of the pool `gpu`.
    - **Takes** minutes with profile `quick`; with `standard`, 86 minutes of one core for 9.5 million tokens.
    - **Lies in** `models/checkpoints/reranker`, a folder for each fingerprint.
    """
    place = layout.layout()
    with only_what_passes():
        require_passed(context.instance, keys_of(example_checks))
        chosen = reranker_config(config.profile, **with_base(config.overrides, place))
        examples = list(written(place).values())
        checkpoint = train_reranker(examples, chosen, place.reranker_checkpoints, pick_device(gpu.device))
        return _told(checkpoint)


def with_base(overrides: dict[str, Any], place: Layout) -> dict[str, Any]:
    """With the folder of a released model in place of its name; where no base is named, that of ``_BASE`` if it is there."""
    released = find_released(overrides.get("base_model", _BASE), place)
    return {**overrides, "base_model": str(unpack(released, place))} if released else overrides


def _told(checkpoint: RerankerCheckpoint) -> dg.MaterializeResult[Path]:
    manifest = checkpoint.manifest
    names = ("fingerprint", "steps", "tokens", "seconds", "best_epoch", "trained_weights", "resumed_from_step")
    return dg.MaterializeResult(
        value=checkpoint.folder,
        data_version=dg.DataVersion(manifest["fingerprint"]),
        metadata={
            **{name: manifest[name] for name in names if manifest[name] is not None},
            "dev": manifest["dev"],
            "config": manifest["config"],
            "training": picture(training_curve(checkpoint.history()), "loss by step, and hit@1 on dev by epoch"),
            "reused": checkpoint.reused,
            "dagster/uri": checkpoint.folder.as_uri(),
        },
    )


class ResultsConfig(dg.Config):
    """How much is measured."""

    most_messages: int = Field(200, description="Of dev and test of each origin, a sample by id; 0 takes all.")
    links: bool = Field(False, description="Link the annotated logs of `irc_disentangle`, too: half an hour on one core.")


@dg.asset(
    group_name="reranker",
    deps=[reranker_checkpoint],
    kinds={"duckdb"},
    owners=OWNERS,
    pool="gpu",
    op_tags=gpu_tags(),
    code_version="2",
    metadata=tables("reranker_results", SCHEMAS),
)
def reranker_results(
    context: dg.AssetExecutionContext, config: ResultsConfig, layout: LayoutResource, gpu: GpuResource
) -> dg.MaterializeResult[Path]:
    """How often the right thread comes first, by tier, beside features and words alone; calibration; route, ask or new.

    - **Needs** a checkpoint; for links, measured under the annotation's own definitions, the files of `irc_disentangle`.
    - **Takes** minutes; with links half an hour more on one core.
    - **Lies in** `data/reranker/results.duckdb`.
    """
    from thread_embed_assets.reranker.scoring import TorchScorer

    place = layout.layout()
    require_passed(context.instance, keys_of([*example_checks, *checkpoint_checks]))
    checkpoint = latest_reranker(place.reranker_checkpoints)
    scorer = TorchScorer(checkpoint.model, pick_device(gpu.device))
    found = measure_all(scorer.rows, written(place), place.reranker_results, config.most_messages or None)
    folder = place.reranker_results.parent
    write_router_settings(folder, *found.calibrations[SYNTHETIC, FUSED])
    clear = {SYNTHETIC: measure(simulated())}
    clear |= {s.name: measure(logged(channels(s, place))) for s in CATALOG.values() if tells_threads(s, place)}
    write_clear_cases(clear, folder / CLEAR_CASES)
    shown: dict[str, Any] = {name: dg.MetadataValue.md(text) for name, text in pages(found).items()}
    shown["rules on dev"] = dg.MetadataValue.md(rules_table(clear))
    if config.links:
        beside = of_candidates(features_only(written(place)[ANNOTATED]))
        linked = link_annotated({FUSED: scorer.logits, FEATURES_ONLY: beside}, CATALOG[ANNOTATED], place)
        write_links(linked, folder / LINKS)
        shown["links"] = dg.MetadataValue.md(links_table(linked))
    return dg.MaterializeResult(
        value=place.reranker_results,
        data_version=dg.DataVersion(of_json({name: table.fingerprint for name, table in found.tables.items()})),
        metadata={
            **shown,
            "dagster/row_count": found.tables["summary"].rows,
            "calibration": picture(calibration_curve(found), "share that is right by confidence"),
            "dagster/uri": place.reranker_results.as_uri(),
        },
    )


@dg.asset(group_name="reranker", deps=[reranker_results], kinds={"onnx"}, owners=OWNERS, code_version="3")
def reranker_package(context: dg.AssetExecutionContext, layout: LayoutResource) -> dg.MaterializeResult[Path]:
    """`models/thread-reranker`: ONNX, tokenizer, features and how sure to be, which the router and other programs load.

    The old package stays until the new one scores as the checkpoint does.

    - **Needs** results.
    - **Takes** a minute.
    - **Lies in** `models/thread-reranker`.
    """
    place = layout.layout()
    require_passed(context.instance, keys_of([*example_checks, *checkpoint_checks]))
    checkpoint = latest_reranker(place.reranker_checkpoints)
    exported = publish_reranker(checkpoint, place.reranker_results.parent, place.reranker_package)
    return dg.MaterializeResult(
        value=exported.folder,
        data_version=dg.DataVersion(checkpoint.manifest["fingerprint"]),
        metadata={
            "difference": exported.difference,
            "bytes": sum(file.stat().st_size for file in exported.folder.iterdir()),
            "folder": dg.MetadataValue.path(exported.folder),
        },
    )
