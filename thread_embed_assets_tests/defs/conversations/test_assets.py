from __future__ import annotations

import json

import dagster as dg
import pytest

from thread_embed_assets.chat.normalise import open_normalised
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.resources import STORED, LanguageModelResource
from thread_embed_assets.language_models.choose import WRITER_VARIABLE
from thread_embed_assets.language_models.summaries import SUMMARIES
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import content, definitions, errors, materialization, run


def test_the_page_tells_rows_counts_and_schema(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    stored = open_normalised(workspace.layout.conversations(SOURCE))
    metadata = materialization(instance, "conversations", SOURCE).metadata
    assert metadata["dagster/partition_row_count"].value == stored.conversations.rows > 30
    assert metadata["messages"].value == stored.messages.rows
    assert str(metadata["dagster/uri"].value).endswith(f"/root/data/conversations/{SOURCE}.duckdb")
    counts = str(metadata["counts"].value).splitlines()
    assert "| parsed_conversations | 40 |" in counts and "| parsed_messages | 360 |" in counts
    assert f"| kept_conversations | {stored.conversations.rows} |" in counts


def test_a_source_of_which_the_filters_leave_nothing_is_refused(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    good = content(workspace.layout.conversations(SOURCE))
    for day in workspace.export.glob("*/*.json"):
        entries = json.loads(day.read_text(encoding="utf-8"))
        day.write_text(json.dumps([e | {"thread_ts": e["ts"]} for e in entries]), encoding="utf-8")
    refused = run(instance, ["raw_dataset", "conversations"], SOURCE)
    assert not refused.success
    message = errors(refused)
    assert f"{workspace.layout.conversations(SOURCE)}: no conversation is left after parsing and filters" in message
    assert "'dropped_too_few_messages': 360" in message and "Check that the source's files" in message
    assert content(workspace.layout.conversations(SOURCE)) == good


def test_files_that_are_not_there_are_named(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    (workspace.layout.raw(SOURCE) / "manifest.json").unlink()
    refused = run(instance, ["conversations"], SOURCE)
    assert not refused.success
    assert f"{workspace.layout.raw(SOURCE) / 'manifest.json'}: this source was not fetched yet" in errors(refused)


def test_summaries_say_who_wrote_them_and_show_examples(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    table = STORED["conversation_summaries"].open(workspace.layout, SOURCE)
    metadata = materialization(instance, "conversation_summaries", SOURCE).metadata
    assert metadata["dagster/partition_row_count"].value == table.rows == table.counts["written"] > 20
    assert {row["written_by"] for row in table.rows_as_dicts()} == {"extractive"}
    assert f"| asked | {table.counts['asked']} |" in str(metadata["counts"].value)
    assert str(metadata["examples"].value).count("| extractive |") == 10
    declared = definitions().resolve_asset_graph().get(dg.AssetKey("conversation_summaries")).metadata
    schema = declared["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [column.name for column in schema.columns] == SUMMARIES.names == table.schema.names


def test_the_writer_comes_from_the_run_else_the_resource_else_the_variable(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is refused before anything is sent, in words that show which of them was chosen."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv(WRITER_VARIABLE, "anthropic/claude-haiku-4-5")
    good = content(workspace.layout.summaries(SOURCE))
    asset = ["conversation_summaries"]
    of_variable = run(instance, asset, SOURCE)
    assert "writer 'anthropic/claude-haiku-4-5': ANTHROPIC_API_KEY is not set" in errors(of_variable)
    local = LanguageModelResource(writer="openai_compatible", model="m", url="nowhere")
    of_resource = run(instance, asset, SOURCE, language_model=local)
    assert "writer 'openai_compatible/m': 'nowhere' is no URL" in errors(of_resource)
    config = {"ops": {"conversation_summaries": {"config": {"writer": "extractive", "limit": 5}}}}
    assert run(instance, asset, SOURCE, config, language_model=local).success
    assert STORED["conversation_summaries"].open(workspace.layout, SOURCE).rows == 5
    assert content(workspace.layout.summaries(SOURCE)) != good


def test_a_source_without_strategy_d_passes_with_an_empty_table(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tuple(name for name in CATALOG[SOURCE].strategies if name != "summary")
    monkeypatch.setitem(CATALOG, SOURCE, CATALOG[SOURCE].model_copy(update={"strategies": served}))
    assert run(instance, ["conversation_summaries", "summary_pairs"], SOURCE).success
    assert STORED["conversation_summaries"].open(workspace.layout, SOURCE).rows == 0
    assert STORED["summary_pairs"].open(workspace.layout, SOURCE).rows == 0
