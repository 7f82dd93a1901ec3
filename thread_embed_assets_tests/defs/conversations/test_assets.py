from __future__ import annotations

import json

import dagster as dg

from thread_embed_assets.chat.model import CONVERSATIONS
from thread_embed_assets.chat.normalise import open_normalised
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
    declared = definitions().resolve_asset_graph().get(dg.AssetKey("conversations")).metadata["dagster/column_schema"]
    assert isinstance(declared, dg.TableSchema)
    assert [column.name for column in declared.columns] == CONVERSATIONS.names == stored.conversations.schema.names


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
