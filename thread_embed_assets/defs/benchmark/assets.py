"""Tasks from held-out conversations, their results, the leaderboard, and how well threads are guessed."""

from dataclasses import asdict
from pathlib import Path

import dagster as dg

from thread_embed_assets.benchmark.contenders import Model, reference_model, standard_contenders
from thread_embed_assets.benchmark.disentangling import evaluate_disentangling, markdown, write_results
from thread_embed_assets.benchmark.evaluate import evaluate_source
from thread_embed_assets.benchmark.report import terminal_table, write_leaderboard
from thread_embed_assets.benchmark.tasks import build_tasks
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.defs.benchmark.checks import result_checks, task_checks
from thread_embed_assets.defs.conversations.checks import conversation_checks
from thread_embed_assets.defs.gates import keys_of, require_passed
from thread_embed_assets.defs.metadata import OWNERS, counts_table, picture
from thread_embed_assets.defs.partitions import ANNOTATED, CATALOG, mixes_scored_on, sources
from thread_embed_assets.defs.resources import STAGE1, LayoutResource, many
from thread_embed_assets.defs.training.checks import checkpoint_checks
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.fetch import RawDataset, open_raw
from thread_embed_assets.sources.summaries import read_summaries
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.training.checkpoint import latest_checkpoint
from thread_embed_assets.training.config import MINILM


@dg.asset(group_name="benchmark", partitions_def=sources, kinds={"duckdb"}, owners=OWNERS, code_version="1")
def benchmark_tasks(
    context: dg.AssetExecutionContext, layout: LayoutResource, raw_dataset: RawDataset, conversations: Normalised
) -> dg.MaterializeResult[Path]:
    """Queries, corpus and qrels of thread, response and summary retrieval, from dev and test conversations.

    Needs the source's conversations; summaries only where people wrote them. Seconds.
    """
    source = CATALOG[context.partition_key]
    if "benchmark" not in source.roles:
        raise InputError(
            f"source {source.name!r}", "the catalogue does not give it the role 'benchmark'", "Leave it out here"
        )
    path = layout.layout().tasks(source.name)
    summaries = read_summaries(raw_dataset.folder, source)
    tables = build_tasks(source.name, conversations.conversations, conversations.messages, summaries, path)
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
    deps=[dg.AssetDep("stage1_checkpoint", partition_mapping=dg.AllPartitionMapping())],
    kinds={"duckdb", "pytorch"},
    owners=OWNERS,
    code_version="1",
)
def benchmark_results(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_tasks: Path
) -> dg.MaterializeResult[Path]:
    """BM25, the base model, their sum, and the checkpoints of every mix that matters to this source, on its tasks.

    Needs the tasks and at least one checkpoint: of the mix `all`, of the mix without this platform, or of the source itself.
    About 25 texts a second on two cores, each text embedded once for all tasks and runs.
    """
    source, place = context.partition_key, layout.layout()
    found = {mix: latest_checkpoint(place, mix, STAGE1) for mix in mixes_scored_on(source)}
    checkpoints = {mix: checkpoint for mix, checkpoint in found.items() if checkpoint is not None}
    if not checkpoints:
        problem = f"none of the mixes {', '.join(found)} has a checkpoint"
        raise InputError(f"source {source!r}", problem, "Materialise stage1_checkpoint of one of them")
    require_passed(context.instance, keys_of([*conversation_checks, *task_checks]), source)
    for mix in checkpoints:
        require_passed(context.instance, keys_of(checkpoint_checks), mix)
    base = reference_model(MINILM)
    if isinstance(base, str):
        raise InputError("the base model", base, "Install this project's dependencies: one of them carries it")
    contenders = standard_contenders(
        base,
        [Model(f"ThreadEmbed-{mix}", c.model, c.fingerprint) for mix, c in checkpoints.items()],
        reference_model(),
    )
    tables = evaluate_source(benchmark_tasks, source, contenders, place)
    path = place.results(source)
    return dg.MaterializeResult(
        value=path,
        data_version=dg.DataVersion(of_json({name: handle.fingerprint for name, handle in tables.items()})),
        metadata={
            **{name: handle.rows for name, handle in tables.items()},
            "checkpoints": {mix: checkpoint.fingerprint for mix, checkpoint in checkpoints.items()},
            "dagster/uri": path.as_uri(),
        },
    )


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


@dg.asset(group_name="benchmark", ins={"benchmark_results": many()}, kinds={"markdown"}, owners=OWNERS, code_version="1")
def leaderboard(
    context: dg.AssetExecutionContext, layout: LayoutResource, benchmark_results: dict[str, Path]
) -> dg.MaterializeResult[None]:
    """Every contender on every source and task with intervals, and the paired tests: table, plots, JSON and Markdown.

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
            "leaderboard": dg.MetadataValue.md(board.markdown),
            **{path.stem.replace("-", "_"): picture(path.read_bytes(), path.stem) for path in board.plots},
            "json": dg.MetadataValue.path(board.json_path),
            "markdown": dg.MetadataValue.path(board.markdown_path),
        }
    )
