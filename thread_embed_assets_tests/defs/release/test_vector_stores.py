from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thread_embed_assets.release.stores import choose
from thread_embed_assets.release.stores.choose import Kind
from thread_embed_assets.release.stores.vector_store import VectorStore
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets_tests.benchmark.stored import talks, write_conversations
from thread_embed_assets_tests.defs.runs import errors, run
from thread_embed_assets_tests.release.test_store_roundtrip import Forgetful

ASSET = "vector_store_roundtrip"


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    write_conversations(Layout(tmp_path).conversations("made"), talks(40))
    return {"ops": {ASSET: {"config": {"model": str(tiny_model), "queries": 10}}}}


def test_a_store_is_built_asked_and_checked(config: dict[str, Any], tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(instance, [ASSET], "duckdb", config)
    assert done.success, errors(done)
    [check] = done.get_asset_check_evaluations()
    assert check.check_name == "recall_at_10" and check.passed, check.description
    [made] = done.get_asset_materialization_events()
    metadata = {name: value.value for name, value in made.materialization.metadata.items()}
    assert metadata["recall@10"] == 1.0 and metadata["dagster/partition_row_count"] == 40
    assert "| weaviate | NOT RUN |" in metadata["table"]
    assert Layout(tmp_path).store_roundtrip("duckdb").exists()


def test_a_store_that_drops_a_tenth_is_refused(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(folder: Path, collection: str, _: str) -> VectorStore:
        return Forgetful(folder, collection)

    monkeypatch.setitem(choose.STORES, "duckdb", Kind(forgetful))
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(instance, [ASSET], "duckdb", config)
    [check] = done.get_asset_check_evaluations()
    assert not check.passed and "36 of 40 threads were there" in str(check.description)


def test_a_store_that_is_not_here_fails_by_name(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THREAD_EMBED_WEAVIATE_URL", raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(instance, [ASSET], "weaviate", config)
    assert not failed.success and not failed.get_asset_materialization_events()
    assert "store weaviate: NOT RUN: no server is named. Set THREAD_EMBED_WEAVIATE_URL to its URL" in errors(failed)
