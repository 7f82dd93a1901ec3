from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest
import yaml

from thread_embed_assets.definitions import job_of
from thread_embed_assets.defs.partitions import arms, mixes, sources, stores
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets_tests.defs.runs import definitions

SOURCES = "sources"
MIXES = "mixes"
ARMS = "arms"
STORES = "stores"
PAIR_CHECKS = {
    "non_empty",
    "schema",
    "unique_ids",
    "window_sizes",
    "anchor_without_positive",
    "no_held_out_text",
    "no_private_data",
}
PAIRS = {"thread_pairs", "response_pairs", "temporal_pairs", "summary_pairs"}
CHECKPOINTS = {"stage1_checkpoint", "stage2_checkpoint", "stage3_checkpoint"}

# asset: (group, partitions, upstream assets, blocking checks)
GRAPH: dict[str, tuple[str, str | None, set[str], set[str]]] = {
    "raw_dataset": ("raw", SOURCES, set(), set()),
    "conversations": (
        "conversations",
        SOURCES,
        {"raw_dataset"},
        {"non_empty", "schema", "unique_ids", "language_share", "speaker_names_gone", "no_private_data", "filter_rates"},
    ),
    "duplicates": ("conversations", SOURCES, {"conversations"}, {"schema"}),
    "conversation_summaries": (
        "conversations",
        SOURCES,
        {"conversations", "duplicates"},
        {"schema", "unique_ids", "coverage", "no_private_data", "no_held_out_conversation", "not_copied"},
    ),
    "source_report": ("reports", SOURCES, {"conversations"}, set()),
    "thread_pairs": ("pairs", SOURCES, {"conversations", "duplicates"}, PAIR_CHECKS),
    "response_pairs": ("pairs", SOURCES, {"conversations", "duplicates"}, PAIR_CHECKS),
    "temporal_pairs": ("pairs", SOURCES, {"conversations", "duplicates"}, PAIR_CHECKS),
    "summary_pairs": ("pairs", SOURCES, {"conversations", "duplicates", "conversation_summaries"}, PAIR_CHECKS),
    "hard_negatives": (
        "pairs",
        SOURCES,
        {"thread_pairs", "response_pairs", "temporal_pairs", "summary_pairs"},
        {"schema", "negatives_from_elsewhere"},
    ),
    "pairs_report": (
        "reports",
        SOURCES,
        {"thread_pairs", "response_pairs", "temporal_pairs", "summary_pairs", "hard_negatives"},
        set(),
    ),
    "stage1_checkpoint": (
        "training",
        MIXES,
        {*PAIRS, "hard_negatives"},
        {"loads_and_is_finite"},
    ),
    "stage2_checkpoint": (
        "training",
        MIXES,
        {*PAIRS, "hard_negatives", "stage1_checkpoint"},
        {"loads_and_is_finite"},
    ),
    "stage3_checkpoint": (
        "training",
        MIXES,
        {*PAIRS, "hard_negatives", "stage2_checkpoint", "mined_negatives"},
        {"loads_and_is_finite"},
    ),
    "mined_negatives": (
        "training",
        MIXES,
        {"thread_pairs", "response_pairs", "temporal_pairs", "summary_pairs", "conversations", "stage2_checkpoint"},
        {"schema", "negatives_from_elsewhere"},
    ),
    "benchmark_tasks": (
        "benchmark",
        SOURCES,
        {"raw_dataset", "conversations"},
        {"query_not_in_its_document", "held_out_only"},
    ),
    "benchmark_results": (
        "benchmark",
        SOURCES,
        {"benchmark_tasks", *CHECKPOINTS},
        {"metrics_in_range", "contamination"},
    ),
    "disentangling_results": ("benchmark", None, {"raw_dataset"}, set()),
    "corpus_report": ("reports", None, {"source_report", "duplicates"}, set()),
    "leaderboard": ("benchmark", None, {"benchmark_results"}, set()),
    "ablation": (
        "ablations",
        ARMS,
        {
            *("conversations", "duplicates", "thread_pairs", "response_pairs", "temporal_pairs", "summary_pairs"),
            *("hard_negatives", "mined_negatives", "benchmark_tasks"),
        },
        {"dev_queries_only"},
    ),
    "ablation_table": ("ablations", None, {"ablation"}, set()),
    "regression_results": ("benchmark", None, CHECKPOINTS, set()),
    "benchmark_dataset": ("release", None, {"benchmark_tasks"}, {"no_withheld_text", "no_people"}),
    "released_weights": (
        "release",
        None,
        {"stage1_checkpoint", "stage2_checkpoint", "stage3_checkpoint", "benchmark_tasks"},
        {"restores_bit_for_bit", "may_be_passed_on"},
    ),
    "vector_store_roundtrip": ("release", STORES, {"conversations", "model_package"}, {"recall_at_10"}),
    "model_package": ("release", None, {*CHECKPOINTS, "leaderboard"}, {"loads_plainly_and_encodes_the_same"}),
    "onnx_model": ("release", None, {"model_package"}, {"exported_encodes_the_same"}),
    "reranker_examples": (
        "reranker",
        None,
        {"raw_dataset", "conversations"},
        {"split_by_profile_and_wording", "nothing_from_the_future", "one_right_candidate"},
    ),
    "reranker_checkpoint": ("reranker", None, {"reranker_examples"}, {"head_is_trained"}),
    "reranker_results": ("reranker", None, {"reranker_checkpoint"}, set()),
    "reranker_package": ("reranker", None, {"reranker_results"}, {"scores_as_trained"}),
}

# job: the assets that it makes, each in one job
JOBS = {
    "prepare": {"raw_dataset", "conversations", "source_report"},
    "pair": {
        "duplicates",
        "conversation_summaries",
        "thread_pairs",
        "response_pairs",
        "temporal_pairs",
        "summary_pairs",
        "hard_negatives",
        "pairs_report",
        "benchmark_tasks",
    },
    "train": {*CHECKPOINTS, "mined_negatives"},
    "evaluate": {"benchmark_results"},
    "disentangle": {"disentangling_results"},
    "report": {"corpus_report", "leaderboard", "benchmark_dataset", "model_package"},
    "regress": {"regression_results"},
    "ablate": {"ablation"},
    "compare": {"ablation_table"},
    "pack": {"released_weights"},
    "store": {"vector_store_roundtrip"},
    "export": {"onnx_model"},
    "rerank": {"reranker_examples", "reranker_checkpoint", "reranker_results", "reranker_package"},
}
TOGETHER = {"release": {"model_package", "onnx_model"}}  # what other jobs make apart
WHOLE_GRAPH = {"demo", "refresh_data", "retrain"}  # jobs that run others


_ROOT = Path("/root")
_LAYOUT = Layout(_ROOT)
_PLACES = {
    "disentangling_results": _LAYOUT.disentangling("dev"),
    "corpus_report": _LAYOUT.corpus_report,
    "leaderboard": _LAYOUT.benchmark / "leaderboard.md",
    "regression_results": _LAYOUT.regression,
    "ablation_table": _LAYOUT.ablations,
    "benchmark_dataset": _LAYOUT.benchmark_dataset,
    "released_weights": _LAYOUT.released,
    "model_package": _LAYOUT.promoted_model,
    "onnx_model": _LAYOUT.onnx_package,
    "reranker_examples": _LAYOUT.reranker_examples("any").parent,
    "reranker_checkpoint": _LAYOUT.reranker_checkpoints,
    "reranker_results": _LAYOUT.reranker_results,
    "reranker_package": _LAYOUT.reranker_package,
}
_ONE_OF = {SOURCES: "<source>", MIXES: "<mix>", ARMS: "<arm>", STORES: "<store>"}
_PAGE = re.compile(
    r"(?P<holds>[^\n].+?)\n\n"
    r"- \*\*Needs\*\* .+?\n"
    r"- \*\*Takes\*\* .+?\n"
    r"- \*\*Lies in\*\* `(?P<place>[^`]+)`[^\n]*\n?",
    re.DOTALL,
)


def _place(name: str) -> Path:
    """Where the layout puts an asset; of partitions, with a word for the key."""
    partitions = GRAPH[name][1]
    return STORED[name].path(_LAYOUT, _ONE_OF[partitions]) if partitions else _PLACES[name]


def _partitions(definition: dg.PartitionsDefinition[str] | None) -> str | None:
    known: dict[dg.PartitionsDefinition[str], str] = {sources: SOURCES, mixes: MIXES, arms: ARMS, stores: STORES}
    return None if definition is None else known.get(definition, f"unknown: {definition}")


def test_the_definitions_validate() -> None:
    dg.Definitions.validate_loadable(definitions())


def test_the_graph_is_the_declared_one() -> None:
    graph = definitions().resolve_asset_graph()
    found = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        checks = {check.name for check in graph.get_check_keys_for_assets({key})}
        parents = {parent.path[-1] for parent in node.parent_keys}
        found[key.path[-1]] = (node.group_name, _partitions(node.partitions_def), parents, checks)
    drift = [
        f"{name}: declared {GRAPH.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(GRAPH.keys() | found.keys())
        if GRAPH.get(name) != found.get(name)
    ]
    assert not drift, "the graph is another than this test declares:\n" + "\n".join(drift)


def test_every_check_blocks_and_follows_its_assets_partition() -> None:
    graph = definitions().resolve_asset_graph()
    keys = graph.asset_check_keys
    assert len(keys) == sum(len(checks) for *_, checks in GRAPH.values())
    for key in keys:
        node = graph.get(key)
        assert node.blocking, key
        assert node.partitions_def == graph.get(key.asset_key).partitions_def, key
        assert node.description, f"{key} does not say what it looks at"


def test_every_asset_is_owned_versioned_and_linked_to_its_code() -> None:
    graph = definitions().resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.kinds and node.code_version, key
        assert node.owners and all(owner.startswith("team:") for owner in node.owners), key
        assert "dagster/code_references" in node.metadata, key


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_a_page_says_what_the_asset_holds_needs_and_takes_and_where_it_lies(name: str) -> None:
    node = definitions().resolve_asset_graph().get(dg.AssetKey(name))
    page = _PAGE.fullmatch(node.description or "")
    assert page, f"the description of {name} is to end in the lines Needs, Takes and Lies in:\n{node.description}"
    assert page["place"] == str(_place(name).relative_to(_ROOT)), name


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_every_column_of_a_table_says_what_it_holds(name: str) -> None:
    node = definitions().resolve_asset_graph().get(dg.AssetKey(name))
    if "duckdb" not in node.kinds:
        return
    assert node.metadata["dagster/table_name"], name
    schema = node.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema) and schema.columns, name
    assert [column.name for column in schema.columns if not column.description] == [], name


def test_the_jobs_hold_the_declared_assets() -> None:
    repository = definitions().get_repository_def()
    found = {
        name: {key.path[-1] for key in repository.get_job(name).asset_layer.executable_asset_keys}
        for name in repository.job_names
        if not name.startswith("__") and name not in WHOLE_GRAPH
    }
    assert found == JOBS | TOGETHER
    assert set(repository.job_names) >= WHOLE_GRAPH
    assert sorted(asset for names in JOBS.values() for asset in names) == sorted(GRAPH), "each asset is in one job"


def test_another_machine_builds_a_job_from_its_name() -> None:
    named = dg.build_reconstructable_job(job_of.__module__, job_of.__name__, ("train",))
    found = named.get_definition().asset_layer.executable_asset_keys
    assert {key.path[-1] for key in found} == JOBS["train"]


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_training_waits_for_the_gpu_and_is_tried_three_times(name: str) -> None:
    key = dg.AssetKey(name)
    op = next(a for a in definitions().assets or () if isinstance(a, dg.AssetsDefinition) and key in a.keys).op
    assert op.pool == "gpu"
    assert op.retry_policy is not None and op.retry_policy.max_retries == 2


def test_the_workspace_file_names_the_code_location(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    root = Layout.from_environment().root
    [entry] = yaml.safe_load((root / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    assert entry["python_module"]["module_name"] == "thread_embed_assets.definitions"
    home = yaml.safe_load((root / "data" / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
    assert home["telemetry"] == {"enabled": False} and home["nux"] == {"enabled": False}
    assert home["run_monitoring"]["enabled"] and "pools" in home["concurrency"]
