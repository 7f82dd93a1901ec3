"""Every asset check sees its fault, planted on disk, through Dagster; the engine's own tests plant more kinds of faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.defs.automation import PAIR, PREPARE
from thread_embed_assets.defs.gates import not_passed
from thread_embed_assets.defs.partitions import CATALOG, mixes, sources
from thread_embed_assets.defs.resources import PAIR_ASSETS, STORED
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.config import STAGES
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.reranker.test_assets import FAULTS as RERANKER_FAULTS
from thread_embed_assets_tests.defs.runs import check, content, definitions, errors, made, plant, run, run_check
from thread_embed_assets_tests.test_definitions import GRAPH

FRENCH = "le chat est assis sur la chaise et il ne veut pas manger son poisson ce matin"

CONVERSATION_FAULTS = {
    "non_empty": "DELETE FROM messages",
    "schema": "ALTER TABLE conversations DROP COLUMN origin",
    "unique_ids": "INSERT INTO conversations SELECT * FROM conversations LIMIT 1",
    "language_share": f"UPDATE messages SET text = '{FRENCH}'",
    "speaker_names_gone": "UPDATE messages SET text = text || ' ask quillona, tibbold, ondrake or maristel'",
    "no_private_data": "UPDATE messages SET text = text || ' or write to pellwyn@example.org'",
    "filter_rates": """UPDATE stored_tables SET counts = '{"parsed_conversations": 100, "kept_conversations": 10}'""",
}
PAIR_FAULTS = {
    "non_empty": "DELETE FROM pairs",
    "schema": "ALTER TABLE pairs DROP COLUMN gap_seconds",
    "unique_ids": "INSERT INTO pairs SELECT * FROM pairs LIMIT 1",
    "window_sizes": "UPDATE pairs SET anchor_ids = list_concat(anchor_ids, positive_ids)",
    "anchor_without_positive": "UPDATE pairs SET positive = anchor || ' ' || positive",
    "no_private_data": "UPDATE pairs SET anchor = anchor || ' or write to pellwyn@example.org'",
    "no_held_out_text": "UPDATE pairs SET anchor = (SELECT text FROM held_out.messages JOIN held_out.conversations "
    "USING (conversation_id) WHERE split = 'test' ORDER BY message_id LIMIT 1) WHERE split = 'train'",
}
SUMMARY_FAULTS = {
    "schema": "ALTER TABLE summaries DROP COLUMN prompt",
    "unique_ids": "INSERT INTO summaries SELECT * FROM summaries LIMIT 1",
    "coverage": "UPDATE summaries SET written_by = ''",
    "no_private_data": "UPDATE summaries SET title = title || ' or write to pellwyn@example.org'",
    "no_held_out_conversation": "UPDATE summaries SET conversation_id = (SELECT conversation_id FROM "
    "held_out.conversations WHERE split = 'test' LIMIT 1), split = 'train'",
    "not_copied": "UPDATE summaries SET written_by = 'made/up', summary = (SELECT max(text) FROM held_out.messages m "
    "WHERE m.conversation_id = summaries.conversation_id)",
}
FAULTS: list[tuple[str, str, str]] = [
    *(("conversations", name, fault) for name, fault in CONVERSATION_FAULTS.items()),
    *((asset, name, fault) for asset in PAIR_ASSETS for name, fault in PAIR_FAULTS.items()),
    *(("conversation_summaries", name, fault) for name, fault in SUMMARY_FAULTS.items()),
    ("duplicates", "schema", "ALTER TABLE duplicates DROP COLUMN kind"),
    ("hard_negatives", "schema", "ALTER TABLE hard_negatives DROP COLUMN score"),
    ("hard_negatives", "negatives_from_elsewhere", "UPDATE hard_negatives SET negative_conversation_id = conversation_id"),
    ("mined_negatives", "schema", "ALTER TABLE hard_negatives DROP COLUMN score"),
    ("mined_negatives", "negatives_from_elsewhere", "UPDATE hard_negatives SET negative_conversation_id = conversation_id"),
    (
        "benchmark_tasks",
        "query_not_in_its_document",
        "UPDATE corpus SET text_plain = (SELECT string_agg(text_plain, ' ') FROM queries)",
    ),
    ("benchmark_tasks", "held_out_only", "UPDATE queries SET split = 'dev'"),
    ("benchmark_results", "metrics_in_range", f'UPDATE per_query SET "{HEADLINE}" = 1.5'),
]


OTHERWISE_PLANTED = {
    *((f"{stage}_checkpoint", "loads_and_is_finite") for stage in STAGES),
    ("benchmark_results", "contamination"),
    ("ablation", "dev_queries_only"),
    ("model_package", "loads_plainly_and_encodes_the_same"),
    ("onnx_model", "exported_encodes_the_same"),
    ("vector_store_roundtrip", "recall_at_10"),
    ("released_weights", "restores_bit_for_bit"),
    ("released_weights", "may_be_passed_on"),
    ("benchmark_dataset", "no_withheld_text"),
    ("benchmark_dataset", "no_people"),
    *((asset, name) for asset, name, _ in RERANKER_FAULTS),
}


def test_every_check_has_a_planted_fault() -> None:
    declared = {(asset, check) for asset, (*_, checks) in GRAPH.items() for check in checks}
    assert {(asset, name) for asset, name, _ in FAULTS} == declared - OTHERWISE_PLANTED


def test_sound_data_passes_every_check(instance: dg.DagsterInstance) -> None:
    graph = definitions().resolve_asset_graph()
    partitioned = {key for key in graph.asset_check_keys if graph.get(key).partitions_def in (sources, mixes)}
    assert len(partitioned) > len(FAULTS)
    assert not_passed(instance, partitioned, SOURCE) == []
    whole = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys - partitioned))
    assert {key.name: record.status.value for key, record in whole.items()} == {
        "no_withheld_text": "SUCCEEDED",
        "no_people": "SUCCEEDED",
        "loads_plainly_and_encodes_the_same": "SUCCEEDED",
    }


@pytest.mark.parametrize(("asset", "name", "fault"), FAULTS, ids=[f"{asset}-{name}" for asset, name, _ in FAULTS])
def test_a_planted_fault_is_seen(
    asset: str, name: str, fault: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    layout = workspace.layout
    attach = [f"ATTACH '{layout.conversations(SOURCE)}' AS held_out (READ_ONLY)"] if "held_out." in fault else []
    plant(STORED[asset].path(layout, SOURCE), *attach, fault)
    evaluation = check(instance, asset, name, SOURCE)
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert evaluation.description
    key = evaluation.asset_check_key
    assert not_passed(instance, [key], SOURCE) == [f"{asset}/{name} (failed)"]
    assert not_passed(instance, [key], "irc_disentangle") == [f"{asset}/{name} (has not run)"]


def test_a_model_that_does_not_load_is_seen(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    [weights] = workspace.layout.checkpoints(SOURCE, "stage1").glob("*/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    evaluation = check(instance, "stage1_checkpoint", "loads_and_is_finite", SOURCE)
    assert not evaluation.passed and "does not load" in (evaluation.description or "")


@pytest.mark.parametrize("level", ["document", "window", "message"])
def test_test_text_that_a_scored_checkpoint_was_trained_on_is_seen(
    level: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    tasks = open_table(workspace.layout.tasks(SOURCE), "corpus")
    where = "task = 'thread' AND split = 'test'"
    lines = max((row["text_plain"].split("\n") for row in tasks.rows_as_dicts(["text_plain"], where)), key=len)
    message = max(lines, key=len)
    planted = {"document": lines, "window": lines[:3], "message": [message]}[level]
    text = "\n".join(planted).replace("'", "''")
    plant(workspace.layout.pairs("thread", SOURCE), f"UPDATE pairs SET positive = '{text}' WHERE split = 'train'")
    evaluation = check(instance, "benchmark_results", "contamination", SOURCE)
    assert not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
    refused = run(instance, ["leaderboard"], None)
    assert not refused.success and "benchmark_results/contamination (failed)" in errors(refused)


def test_a_withheld_text_or_a_person_in_the_data_set_is_seen(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = workspace.layout.benchmark_dataset / "README.md"
    sheet.write_text(sheet.read_text(encoding="utf-8") + "\nasked by p_0123456789\n", encoding="utf-8")
    evaluation = check(instance, "benchmark_dataset", "no_people", None)
    assert not evaluation.passed
    withheld = CATALOG[SOURCE]
    with monkeypatch.context() as patch:
        patch.setitem(CATALOG, SOURCE, withheld.model_copy(update={"redistribute": True}))
        assert run(instance, ["benchmark_dataset"], None).success
    assert not check(instance, "benchmark_dataset", "no_withheld_text", None).passed
    assert run(instance, ["benchmark_dataset"], None).success, "packaged anew, it holds ids alone"
    assert check(instance, "benchmark_dataset", "no_withheld_text", None).passed


DUPLICATE_MESSAGE = "INSERT INTO messages SELECT * FROM messages LIMIT 1"
BLOCKED = [
    ("conversations", "conversations.assets.build_conversations", DUPLICATE_MESSAGE, "unique_ids", ["thread_pairs"]),
    (
        "conversation_summaries",
        "conversations.assets.build_summaries",
        SUMMARY_FAULTS["unique_ids"],
        "unique_ids",
        ["summary_pairs"],
    ),
    *(
        (asset, "pairs.assets.build_pairs", PAIR_FAULTS["unique_ids"], "unique_ids", ["hard_negatives"])
        for asset in PAIR_ASSETS
    ),
    ("benchmark_tasks", "benchmark.assets.build_tasks", FAULTS[-2][2], "held_out_only", ["benchmark_results"]),
]


@pytest.mark.parametrize(("asset", "builder", "fault", "name", "downstream"), BLOCKED, ids=[b[0] for b in BLOCKED])
def test_a_failed_check_stops_what_is_downstream_in_the_same_run(
    asset: str,
    builder: str,
    fault: str,
    name: str,
    downstream: list[str],
    workspace: Workspace,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = f"thread_embed_assets.defs.{builder}"
    path = STORED[asset].path(workspace.layout, SOURCE)
    _spoil(monkeypatch, place, path, fault)
    last_good = {other: content(STORED[other].path(workspace.layout, SOURCE)) for other in downstream}
    result = run(instance, [asset, *downstream], SOURCE)
    assert made(result) == [asset]
    failed = {e.check_name for e in result.get_asset_check_evaluations() if not e.passed}
    assert name in failed
    assert not result.success, "a run whose check blocked must not look well"
    for other in downstream:
        assert content(STORED[other].path(workspace.layout, SOURCE)) == last_good[other]


def _spoil(patch: pytest.MonkeyPatch, place: str, path: Path, fault: str) -> None:
    """Let a builder do its work, and spoil what it left."""
    module, _, function = place.rpartition(".")
    original: Callable[..., Any] = getattr(__import__(module, fromlist=[function]), function)

    def spoiled(*arguments: Any, **options: Any) -> Any:
        built = original(*arguments, **options)
        plant(path, fault)
        return built

    patch.setattr(place, spoiled)


def test_a_check_of_data_that_is_not_there_says_so(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    workspace.layout.conversations(SOURCE).unlink()
    result = run_check(instance, "conversations", "non_empty", SOURCE)
    assert not result.success
    assert f"{workspace.layout.conversations(SOURCE)}: there is no such table yet" in errors(result)


def test_the_prepared_assets_are_those_of_a_source() -> None:
    assert {*PREPARE, *PAIR} <= set(STORED)
