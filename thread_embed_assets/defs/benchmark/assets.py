"""Tasks from held-out conversations, their results, the leaderboard; general tasks; how well threads are guessed."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg
from pydantic import Field

from thread_embed_assets.benchmark.contenders import Model, Tuned, reference_contenders, standard_contenders
from thread_embed_assets.benchmark.disentangling import evaluate_disentangling, markdown, write_results
from thread_embed_assets.benchmark.evaluate import evaluate_source
from thread_embed_assets.benchmark.regression import check_regression, regression_markdown, write_regression
from thread_embed_assets.benchmark.report import terminal_table, write_leaderboard
from thread_embed_assets.benchmark.tasks import build_tasks
from thread_embed_assets.benchmark.win_loss import write_win_loss
from thread_embed_assets.benchmark.written_queries import written_queries
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.benchmark.checks import result_checks, scored_checkpoints, task_checks
from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, counts_table
from thread_embed_assets.defs.partitions import ANNOTATED, CATALOG, mixes_scored_on, sources
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.defs.training.checks import CHECKPOINTS, checks_of
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.standing import released_contenders
from thread_embed_assets.sources.fetch import RawDataset, open_raw
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.checkpoint import final_checkpoint
from thread_embed_assets.training.config import MINILM


@dg.asset(group_name="benchmark", partitions_def=sources, kinds={"duckdb"}, owners=OWNERS, code_version="2")
def benchmark_tasks(
    context: dg.AssetExecutionContext, layout: LayoutResource, raw_dataset: RawDataset, conversations: Normalised
) -> dg.MaterializeResult[Path]:
    """Queries, corpus, qrels and near slices of thread, response, reply and summary retrieval, from dev and test.

    Needs the source's conversations; the summary task only where people wrote queries. Seconds.
    """
    source = CATALOG[context.partition_key]
    if "benchmark" not in source.roles:
        raise InputError(
            f"source {source.name!r}", "the catalogue does not give it the role 'benchmark'", "Leave it out here"
        )
    path = layout.layout().tasks(source.name)
    written = written_queries(raw_dataset.folder, source)
    tables = build_tasks(source.name, conversations.conversations, conversations.messages, written, path)
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(of_json({name: handle.fingerprint for name, handle in tables.items()})),
        metadata={
            **{name: handle.rows for name, handle in tables.items()},
            "counts": counts_table(next(iter(tables.values())).counts),
            "dagster/uri": path.as_uri(),
        },
    )


@dg.asset(
    group_name="benchmark",
    partitions_def=sources,
    deps=CHECKPOINTS,
    kinds={"duckdb", "pytorch"},
    owners=OWNERS,
    code_version="4",
)
def benchmark_results(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_tasks: Path
) -> dg.MaterializeResult[Path]:
    """Baselines, reference, base and released models, and the checkpoints of every mix that matters here, on its tasks.

    Needs the tasks, and a released model or a checkpoint: of the mix `all` or `open`, of the mix without this platform, or
    of the source itself. About 25 texts a second on two cores, each text embedded once for all tasks and runs.
    """
    source, place = context.partition_key, layout.layout()
    checkpoints = scored_checkpoints(place, source)
    released, not_run = released_contenders(place, source, benchmark_tasks, CATALOG)
    if not checkpoints and not released:
        problem = f"no model is released, and none of the mixes {', '.join(mixes_scored_on(source))} has a checkpoint"
        raise InputError(f"source {source!r}", problem, "Run the train job for one of them")
    require_passed(context.instance, keys_of([*conversation_checks, *task_checks]), source)
    for mix, checkpoint in checkpoints.items():
        require_passed(context.instance, keys_of(checks_of(checkpoint)), mix)
    contenders = standard_contenders(
        _base_model(),
        [
            Tuned(
                Model(f"ThreadEmbed-{mix}", checkpoint.model, checkpoint.fingerprint),
                "tuned_transfer" if mix == f"without_{CATALOG[source].platform}" else "tuned",
            )
            for mix, checkpoint in checkpoints.items()
        ]
        + released,
        [*reference_contenders(), *not_run],
    )
    tables = evaluate_source(benchmark_tasks, source, contenders, place)
    path = place.results(source)
    page = write_win_loss(path, benchmark_tasks, place.runs(source), place.win_loss(source))
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(of_json({n: h.fingerprint for n, h in tables.items() if n != "costs"})),
        metadata={
            "wins_and_losses": dg.MetadataValue.md(page),
            **{name: handle.rows for name, handle in tables.items()},
            "checkpoints": {mix: checkpoint.fingerprint for mix, checkpoint in checkpoints.items()},
            "dagster/uri": path.as_uri(),
        },
    )


def _base_model() -> Model:
    folder = local_folder(MINILM)
    return Model(MINILM.rpartition("/")[2], folder, model_fingerprint(folder))


@dg.asset(
    group_name="benchmark",
    deps=[dg.AssetDep("raw_dataset", partition_mapping=dg.SpecificPartitionsPartitionMapping([ANNOTATED]))],
    kinds={"json"},
    owners=OWNERS,
    code_version="1",
)
def disentangling_results(context: dg.AssetExecutionContext, layout: LayoutResource) -> dg.MaterializeResult[None]:
    """How well threads are guessed where nobody marked them: links and clusters on annotated IRC, beside simple rules.

    Needs the files of `irc_disentangle`. Its dev split chose the features; test is only reported. A minute.
    """
    place = layout.layout()
    raw = open_raw(CATALOG[ANNOTATED], place)
    rows = {str(split): evaluate_disentangling(raw.folder, split) for split in (Split.DEV, Split.TEST)}
    for split, scored in rows.items():
        write_results(place.disentangling(split), scored, split=split, revision=raw.revision)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(of_json({split: [asdict(row) for row in scored] for split, scored in rows.items()})),
        metadata={
            **{split: dg.MetadataValue.md(markdown(scored)) for split, scored in rows.items()},
            "revision": raw.revision,
        },
    )


@dg.asset(
    group_name="benchmark",
    ins={"benchmark_results": many()},
    kinds={"markdown"},
    owners=OWNERS,
    code_version="2",
)
def leaderboard(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_results: dict[str, Path]
) -> dg.MaterializeResult[None]:
    """Every contender on every source and task with intervals and paired tests: JSON, Markdown, plots and one HTML file.

    Needs the results of at least one source. Seconds.
    """
    if not benchmark_results:
        raise InputError("leaderboard", "no source has results yet", "Materialise benchmark_results of a source")
    for source in benchmark_results:
        require_passed(context.instance, keys_of(result_checks), source)
    board = write_leaderboard(list(benchmark_results.values()), layout.layout())
    context.log.info("\n%s", terminal_table(board))
    return dg.MaterializeResult(
        metadata={
            "leaderboard": dg.MetadataValue.md(board.markdown_with_pictures()),
            "html": dg.MetadataValue.path(board.html_path),
            "json": dg.MetadataValue.path(board.json_path),
            "markdown": dg.MetadataValue.path(board.markdown_path),
        }
    )


class RegressionConfig(dg.Config):
    """Which model is compared with the base."""

    mix: str = Field("all", description="The mix whose latest checkpoint is run.")


@dg.asset(
    group_name="benchmark",
    deps=CHECKPOINTS,
    kinds={"pytorch"},
    owners=OWNERS,
    code_version="1",
)
def regression_results(
    context: dg.AssetExecutionContext, config: RegressionConfig, layout: LayoutResource
) -> dg.MaterializeResult[None]:
    """General tasks (similarity, retrieval, classification, clustering) with a checkpoint and with its base, and a floor.

    Needs a checkpoint, and the tasks' data from `THREAD_EMBED_MTEB_MIRROR` or the hub; what is not there is NOT RUN, and the
    floor is then not known. Hours on two cores where all of it is there.
    """
    place = layout.layout()
    checkpoint = final_checkpoint(place, config.mix)
    if checkpoint is None:
        raise InputError("regression_results", f"the mix {config.mix!r} has no checkpoint", "Run the train job for it")
    base = _base_model()
    result = check_regression(checkpoint.model, base.location, (f"ThreadEmbed-{config.mix}", base.name))
    paths = write_regression(result, place.regression)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(of_json([checkpoint.fingerprint, result.passes_floor, result.ran, result.model_mean])),
        metadata={
            "results": dg.MetadataValue.md(regression_markdown(result)),
            "passes_floor": "not known" if result.passes_floor is None else result.passes_floor,
            "tasks_run": result.ran,
            "tasks_listed": result.of,
            "json": dg.MetadataValue.path(paths[0]),
        },
    )
