"""What the pages of a finished graph show: every materialisation of the tiny workspace."""

from __future__ import annotations

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from thread_embed_assets.defs.automation import EVALUATE, PAIR, PREPARE, REPORT, TRAIN
from thread_embed_assets.defs.metadata import counts_table, rows_table, tables
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.storage.columns import described
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import definitions, materialization

RAN = (*PREPARE, *PAIR, *TRAIN, *EVALUATE, *REPORT)
SEEN = (dg.IntMetadataValue, dg.FloatMetadataValue, dg.MarkdownMetadataValue)
COUNTS = ("dagster/row_count", "dagster/partition_row_count")


def _latest(instance: dg.DagsterInstance, name: str) -> dg.AssetMaterialization:
    partitioned = definitions().resolve_asset_graph().get(dg.AssetKey(name)).partitions_def is not None
    return materialization(instance, name, SOURCE if partitioned else None)


def test_every_materialisation_shows_numbers_or_a_page(instance: dg.DagsterInstance) -> None:
    for name in RAN:
        shown = [value for value in _latest(instance, name).metadata.values() if isinstance(value, SEEN)]
        assert shown, f"{name} has nothing to look at on its page"


def test_every_table_counts_its_rows_as_a_number_which_the_ui_plots_over_time(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    graph = definitions().resolve_asset_graph()
    for name in RAN:
        node = graph.get(dg.AssetKey(name))
        metadata = _latest(instance, name).metadata
        if "duckdb" not in node.kinds:
            assert not [count for count in COUNTS if count in metadata], name
            continue
        count = metadata["dagster/partition_row_count" if node.partitions_def else "dagster/row_count"]
        assert isinstance(count, dg.IntMetadataValue), name
        first = str(node.metadata["dagster/table_name"]).split(", ")[0]
        with duckdb.connect(str(STORED[name].path(workspace.layout, SOURCE)), read_only=True) as connection:
            assert connection.execute(f'SELECT count(*) FROM "{first}"').fetchall() == [(count.value,)], name


def test_columns_on_a_page_are_those_of_the_file(workspace: Workspace) -> None:
    graph = definitions().resolve_asset_graph()
    for name in RAN:
        node = graph.get(dg.AssetKey(name))
        if "duckdb" not in node.kinds:
            continue
        stored = str(node.metadata["dagster/table_name"]).split(", ")
        found = []
        with duckdb.connect(str(STORED[name].path(workspace.layout, SOURCE)), read_only=True) as connection:
            for table in stored:
                columns = connection.execute(f'SELECT * FROM "{table}" LIMIT 0').description
                found += [column[0] if len(stored) == 1 else f"{table}.{column[0]}" for column in columns]
        schema = node.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns] == found, name


def test_what_a_page_says_about_its_place_is_so(workspace: Workspace) -> None:
    graph = definitions().resolve_asset_graph()
    for name in RAN:
        page = graph.get(dg.AssetKey(name)).description or ""
        place = page.partition("**Lies in** `")[2].partition("`")[0]
        path = workspace.layout.root / place.replace("<source>", SOURCE).replace("<mix>", SOURCE)
        assert path.exists(), f"{name} is said to lie in {place}"


@pytest.mark.parametrize("several", [False, True])
def test_columns_are_named_by_their_table_where_a_file_has_several(several: bool) -> None:
    one = described([("cup", pa.string(), "of tea")])
    found = tables("of_nothing", {"first": one, "second": one} if several else {"first": one})
    names = ["first.cup", "second.cup"] if several else ["cup"]
    schema = found["dagster/column_schema"]
    assert [(column.name, column.type, column.description) for column in schema.columns] == [
        (name, "string", "of tea") for name in names
    ]


def test_tables_for_people_stay_tables_whatever_the_values_hold() -> None:
    assert counts_table({"b": 1_234, "a": 0.5}).value.splitlines()[2:] == ["| a | 0.5 |", "| b | 1,234 |"]
    rows = rows_table([{"text": "a|b\n`c`"}], ["text"]).value
    assert isinstance(rows, str) and rows.splitlines()[2:] == ["| a\\|b ⏎ 'c' |"]
