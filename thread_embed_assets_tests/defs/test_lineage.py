from __future__ import annotations

import dagster as dg
import pytest

from thread_embed_assets.defs.lineage import LINEAGE, column_lineage
from thread_embed_assets_tests.defs.conftest import SOURCE
from thread_embed_assets_tests.defs.runs import definitions, materialization


def _columns(asset: str) -> set[str]:
    schema = definitions().resolve_asset_graph().get(dg.AssetKey(asset)).metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    return {column.name for column in schema.columns}


@pytest.mark.parametrize("asset", sorted(LINEAGE))
def test_every_column_that_is_named_exists_and_stands_in_an_upstream_asset(asset: str) -> None:
    """A column that is renamed is to be renamed here, too."""
    parents = {key.path[-1] for key in definitions().resolve_asset_graph().get(dg.AssetKey(asset)).parent_keys}
    assert LINEAGE[asset].keys() <= _columns(asset)
    for origins in LINEAGE[asset].values():
        for origin in origins:
            upstream, _, column = origin.partition("/")
            assert upstream in parents, f"{asset} does not read {upstream}"
            assert column in _columns(upstream), origin


def test_a_column_of_the_page_tells_where_it_comes_from() -> None:
    schema = definitions().resolve_asset_graph().get(dg.AssetKey("response_pairs")).metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    told = {column.name: column.description or "" for column in schema.columns}
    assert told["positive"].endswith("(from `conversations/messages.text`, `conversations/messages.parents`)")
    assert "from" not in told["pair_id"]


def test_a_materialisation_carries_the_declared_lineage(instance: dg.DagsterInstance) -> None:
    for asset in LINEAGE:
        found = materialization(instance, asset, SOURCE).metadata["dagster/column_lineage"].value
        assert found == column_lineage(asset), asset
    assert "dagster/column_lineage" not in materialization(instance, "raw_dataset", SOURCE).metadata
