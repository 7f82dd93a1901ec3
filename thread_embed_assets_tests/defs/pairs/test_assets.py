from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest

from thread_embed_assets.defs.automation import PAIR
from thread_embed_assets.defs.resources import PAIR_ASSETS, STORED
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, PAIRS
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import content, data_versions, definitions, errors, materialization, run


@pytest.mark.parametrize("asset", [*PAIR_ASSETS, "hard_negatives"])
def test_the_page_tells_rows_counts_examples_and_schema(
    asset: str, workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    table = STORED[asset].open(workspace.layout, SOURCE)
    metadata = materialization(instance, asset, SOURCE).metadata
    assert metadata["dagster/partition_row_count"].value == table.rows == len(list(table.rows_as_dicts())) > 0
    counts = str(metadata["counts"].value)
    assert all(f"| {name} | {value:,} |" in counts for name, value in table.counts.items()) and table.counts
    examples = str(metadata["examples"].value).splitlines()
    assert 3 <= len(examples) <= 2 + 5 and set(examples[1]) == {"|", "-"}
    declared = definitions().resolve_asset_graph().get(dg.AssetKey(asset)).metadata["dagster/column_schema"]
    assert isinstance(declared, dg.TableSchema)
    expected = HARD_NEGATIVES if asset == "hard_negatives" else PAIRS
    assert [column.name for column in declared.columns] == expected.names == table.schema.names


def test_materialising_again_gives_the_same_data_versions(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    tables = ["raw_dataset", "conversations", *(name for name in PAIR if name != "pairs_report")]
    first = data_versions(instance, tables, SOURCE)
    for name in tables[1:]:
        STORED[name].path(workspace.layout, SOURCE).unlink()
    again = run(instance, dg.AssetSelection.assets(*tables).without_checks(), SOURCE)
    assert again.success
    assert data_versions(instance, tables, SOURCE) == first
    assert len(set(first.values())) == len(tables)


def test_options_change_the_data_version_and_reach_the_table(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    first = data_versions(instance, ["thread_pairs"], SOURCE)
    options = {"text_format": "speakers", "windows": "3", "keep_share": 0.5, "most_pairs": 20, "most_per_conversation": 2}
    config = {"ops": {"thread_pairs": {"config": options}}}
    assert run(instance, ["thread_pairs"], SOURCE, config).success
    assert data_versions(instance, ["thread_pairs"], SOURCE) != first
    rows = list(STORED["thread_pairs"].open(workspace.layout, SOURCE).rows_as_dicts())
    assert {row["text_format"] for row in rows} == {"speakers"}
    assert {len(row["positive_ids"]) for row in rows} == {3}
    assert len(rows) == 20
    assert max(Counter(row["conversation_id"] for row in rows).values()) <= 2


def test_a_wrong_option_is_named_and_the_last_good_table_stays(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    path = workspace.layout.pairs("thread", SOURCE)
    good = content(path)
    config = {"ops": {"thread_pairs": {"config": {"text_format": "morse"}}}}
    refused = run(instance, ["thread_pairs"], SOURCE, config)
    assert not refused.success and "text_format: unknown format 'morse'. Choose one of plain" in errors(refused)
    assert content(path) == good


def test_a_damaged_table_is_named(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    path = workspace.layout.conversations(SOURCE)
    path.write_bytes(b"not a database" * 100)
    refused = run(instance, ["thread_pairs"], SOURCE)
    assert not refused.success
    assert f"{path}: the file cannot be read as DuckDB" in errors(refused) and "Delete it. Materialise" in errors(refused)
