"""Tasks from held-out conversations, their results, the leaderboard; general tasks; how well threads are guessed."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import dagster as dg
from pydantic import Field

from thread_embed_assets.benchmark.contenders import (
    Contender,
    Model,
    Tuned,
    champion_contender,
    reference_contenders,
    standard_contenders,
)
from thread_embed_assets.benchmark.disentangling import evaluate_disentangling, markdown, write_results
from thread_embed_assets.benchmark.evaluate import evaluate_source
from thread_embed_assets.benchmark.regression import check_regression, regression_markdown, write_regression
from thread_embed_assets.benchmark.report import terminal_table, write_leaderboard
from thread_embed_assets.benchmark.result_tables import SCHEMAS as RESULT_TABLES
from thread_embed_assets.benchmark.tasks import SCHEMAS as TASK_TABLES
from thread_embed_assets.benchmark.tasks import build_tasks
from thread_embed_assets.benchmark.win_loss import write_win_loss
from thread_embed_assets.benchmark.written_queries import written_queries
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.benchmark.checks import result_checks, scored_checkpoints, task_checks
from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.executors import gpu_tags
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, WEEKLY, counts_table, row_counts, tables
from thread_embed_assets.defs.partitions import ANNOTATED, CATALOG, mixes_scored_on, sources
from thread_embed_assets.defs.resources import LayoutResource, many
from thread_embed_assets.defs.retries import NETWORK, only_what_passes
from thread_embed_assets.defs.training.checks import CHECKPOINTS, checks_of
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.history import promoted_package
from thread_embed_assets.release.standing import released_contenders
from thread_embed_assets.sources.fetch import RawDataset, open_raw
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder, model_fingerprint
from thread_embed_assets.training.checkpoint import final_checkpoint, identity_of
from thread_embed_assets.training.config import MINILM


@dg.asset(
    group_name="benchmark",
    partitions_def=sources,
    kinds={"duckdb"},
    owners=OWNERS,
    code_version="2",
    metadata=tables("benchmark_tasks", TASK_TABLES),
)
def benchmark_tasks(
    context: dg.AssetExecutionContext, layout: LayoutResource, raw_dataset: RawDataset, conversations: Normalised
) -> dg.MaterializeResult[Path]:
    """Queries, corpus, qrels and near slices of thread, response, reply and summary retrieval, from dev and test.

    - **Needs** the source's conversations; the summary task only where somebody wrote queries.
    - **Takes** seconds.
    - **Lies in** `data/benchmark/tasks/<source>.duckdb`.
    """
    source = CATALOG[context.partition_key]
    if "benchmark" not in source.roles:
        raise InputError(
            f"source {source.name!r}", "the catalogue does not give it the role 'benchmark'", "Leave it out here"
        )
    path = layout.layout().tasks(source.name)
    by_people = written_queries(raw_dataset.folder, source)
    written = build_tasks(source.name, conversations.conversations, conversations.messages, by_people, path)
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(of_json({name: handle.fingerprint for name, handle in written.items()})),
        metadata={
            **row_counts(written),
            "counts": counts_table(written["queries"].counts),
            "dagster/uri": path.as_uri(),
        },
    )


@dg.asset(
    group_name="benchmark",
    partitions_def=sources,
    deps=CHECKPOINTS,
    kinds={"duckdb", "pytorch"},
    owners=OWNERS,
    op_tags=gpu_tags(),
    code_version="5",
    retry_policy=NETWORK,
    metadata=tables("benchmark_results", RESULT_TABLES),
)
def benchmark_results(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_tasks: Path
) -> dg.MaterializeResult[Path]:
    """Baselines, reference, base, released and promoted models, and the checkpoints of every mix that matters here.

    - **Needs** the tasks, and a released model or a checkpoint: of the mix `all` or `open`, of the mix without this
      platform, or of the source itself.
    - **Takes** a second of two cores for some 25 texts; each text is embedded once for all tasks and runs.
    - **Lies in** `data/benchmark/results/<source>.duckdb`; TREC runs in `data/benchmark/runs/<source>`.
    """
    source, place = context.partition_key, layout.layout()
    with only_what_passes():
        checkpoints = scored_checkpoints(place, source)
        released, not_run = released_contenders(place, source, benchmark_tasks, CATALOG)
        if not checkpoints and not released:
            problem = f"no model is released, and none of the mixes {', '.join(mixes_scored_on(source))} has a checkpoint"
            raise InputError(f"source {source!r}", problem, "Run the train job for one of them")
        require_passed(context.instance, keys_of([*conversation_checks, *task_checks]), source)
        for mix, checkpoint in checkpoints.items():
            require_passed(context.instance, keys_of(checks_of(checkpoint)), mix)
        tuned = [
            Tuned(
                Model(f"ThreadEmbed-{mix}", checkpoint.model, checkpoint.fingerprint),
                "tuned_transfer" if mix == f"without_{CATALOG[source].platform}" else "tuned",
            )
            for mix, checkpoint in checkpoints.items()
        ] + released
        contenders = standard_contenders(_base_model(), tuned, [*reference_contenders(), *not_run])
        contenders += _champion(place, tuned)
        written = evaluate_source(benchmark_tasks, source, contenders, place)
        path = place.results(source)
        page = write_win_loss(path, benchmark_tasks, place.runs(source), place.win_loss(source))
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(of_json({n: h.fingerprint for n, h in written.items() if n != "costs"})),
        metadata={
            "wins_and_losses": dg.MetadataValue.md(page),
            **row_counts(written),
            "checkpoints": {mix: checkpoint.fingerprint for mix, checkpoint in checkpoints.items()},
            "dagster/uri": path.as_uri(),
        },
    )


def _champion(layout: Layout, tuned: Sequence[Tuned]) -> list[Contender]:
    """The promoted model, unless it is one of those that are scored anyway."""
    promoted = promoted_package(layout)
    if promoted is None or promoted.identity in {identity_of(Path(one.model.location)) for one in tuned}:
        return []
    fingerprint = promoted.identity.rpartition("/")[2] or model_fingerprint(promoted.folder)
    return [champion_contender(Model("champion", promoted.folder, fingerprint))]


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
def disentangling_results(context: dg.AssetExecutionContext, layout: LayoutResource) -> dg.MaterializeResult[Path]:
    """How well threads are guessed where nobody marked them: links and clusters on annotated IRC, beside simple rules.

    The dev split chose the features; test is only reported.

    - **Needs** the files of `irc_disentangle`.
    - **Takes** a minute.
    - **Lies in** `data/benchmark/disentangling-dev.json` and `disentangling-test.json` beside it.
    """
    place = layout.layout()
    raw = open_raw(CATALOG[ANNOTATED], place)
    rows = {str(split): evaluate_disentangling(raw.folder, split) for split in (Split.DEV, Split.TEST)}
    for split, scored in rows.items():
        write_results(place.disentangling(split), scored, split=split, revision=raw.revision)
    return dg.MaterializeResult(
        value=place.disentangling(Split.TEST),
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
    freshness_policy=WEEKLY,
)
def leaderboard(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_results: dict[str, Path]
) -> dg.MaterializeResult[Path]:
    """Every contender on every source and task with intervals and paired tests: JSON, Markdown, plots and one HTML file.

    - **Needs** the results of at least one source, with their checks passed.
    - **Takes** seconds.
    - **Lies in** `data/benchmark/leaderboard.md`; `leaderboard.json` and `leaderboard.html` beside it.
    """
    if not benchmark_results:
        raise InputError("leaderboard", "no source has results yet", "Materialise benchmark_results of a source")
    for source in benchmark_results:
        require_passed(context.instance, keys_of(result_checks), source)
    board = write_leaderboard(list(benchmark_results.values()), layout.layout())
    context.log.info("\n%s", terminal_table(board))
    return dg.MaterializeResult(
        value=board.json_path,
        metadata={
            "leaderboard": dg.MetadataValue.md(board.markdown_with_pictures()),
            "html": dg.MetadataValue.path(board.html_path),
            "json": dg.MetadataValue.path(board.json_path),
            "markdown": dg.MetadataValue.path(board.markdown_path),
        },
    )


_FLOOR = {True: "yes", False: "no", None: "not known"}


class RegressionConfig(dg.Config):
    """Which model is compared with the base."""

    mix: str = Field("all", description="The mix whose latest checkpoint is run.")


@dg.asset(
    group_name="benchmark",
    deps=CHECKPOINTS,
    kinds={"pytorch"},
    owners=OWNERS,
    op_tags=gpu_tags(),
    code_version="1",
)
def regression_results(
    context: dg.AssetExecutionContext, config: RegressionConfig, layout: LayoutResource
) -> dg.MaterializeResult[Path]:
    """General tasks (similarity, retrieval, classification, clustering) with a checkpoint and with its base, and a floor.

    Tasks whose data is not there are NOT RUN, and the floor is then not known.

    - **Needs** a checkpoint, and the tasks' data from `THREAD_EMBED_MTEB_MIRROR` or the hub.
    - **Takes** hours on two cores where all of the data is there.
    - **Lies in** `data/benchmark/regression`.
    """
    place = layout.layout()
    checkpoint = final_checkpoint(place, config.mix)
    if checkpoint is None:
        raise InputError("regression_results", f"the mix {config.mix!r} has no checkpoint", "Run the train job for it")
    base = _base_model()
    result = check_regression(checkpoint.model, base.location, (f"ThreadEmbed-{config.mix}", base.name))
    paths = write_regression(result, place.regression)
    return dg.MaterializeResult(
        value=paths[0],
        data_version=dg.DataVersion(of_json([checkpoint.fingerprint, result.passes_floor, result.ran, result.model_mean])),
        metadata={
            "results": dg.MetadataValue.md(regression_markdown(result)),
            "passes_floor": _FLOOR[result.passes_floor],
            "tasks_run": result.ran,
            "tasks_listed": result.of,
            "json": dg.MetadataValue.path(paths[0]),
        },
    )
