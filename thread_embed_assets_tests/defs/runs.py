"""Dagster runs of chosen assets and checks, and what can be read from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from thread_embed_assets.definitions import CHECKS, defs
from thread_embed_assets_tests.defs.conftest import PROFILE

TRAIN = {"ops": {"stage1_checkpoint": {"config": {"profile": PROFILE}}}}


@cache
def definitions() -> dg.Definitions:
    return defs()


def assets() -> list[dg.AssetsDefinition]:
    return [a for a in definitions().assets or () if isinstance(a, dg.AssetsDefinition)]


def run(
    instance: dg.DagsterInstance,
    selection: dg.AssetSelection | Sequence[str],
    partition: str | None,
    config: dict[str, Any] | None = None,
    **resources: Any,
) -> dg.ExecuteInProcessResult:
    """Materialise assets, given by name together with their checks, on one partition."""
    chosen = selection if isinstance(selection, dg.AssetSelection) else dg.AssetSelection.assets(*selection)
    return dg.materialize(
        [*assets(), *CHECKS],
        selection=chosen,
        partition_key=partition,
        instance=instance,
        run_config=config,
        resources={**(definitions().resources or {}), **resources},
        raise_on_error=False,
    )


def run_check(instance: dg.DagsterInstance, asset: str, name: str, partition: str | None) -> dg.ExecuteInProcessResult:
    """Run one check alone, as the check's page does."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)
    for job in ("prepare", "pair", "train", "evaluate", "report", "export"):
        definition = definitions().resolve_job_def(job)
        if key in definition.asset_layer.asset_graph.asset_check_keys:
            chosen = definition.get_subset(asset_selection=set(), asset_check_selection={key})
            return chosen.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)
    raise AssertionError(f"no job holds {key}")


def check(instance: dg.DagsterInstance, asset: str, name: str, partition: str | None) -> dg.AssetCheckEvaluation:
    """What a check alone says."""
    [evaluation] = run_check(instance, asset, name, partition).get_asset_check_evaluations()
    assert (evaluation.asset_key.path[-1], evaluation.check_name) == (asset, name)
    return evaluation


def errors(result: dg.ExecuteInProcessResult) -> str:
    """The messages of the steps that failed, with their causes."""
    found = []
    for event in result.filter_events(lambda e: e.is_step_failure):
        error = event.step_failure_data.error
        while error is not None:
            found.append(error.message)
            error = error.cause
    return "\n".join(found)


def made(result: dg.ExecuteInProcessResult) -> list[str]:
    """The assets that the run materialised."""
    return sorted(e.asset_key.path[-1] for e in result.get_asset_materialization_events() if e.asset_key is not None)


def materialization(instance: dg.DagsterInstance, asset: str, partition: str | None) -> dg.AssetMaterialization:
    """The latest materialisation of an asset's partition."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    found = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert found is not None
    return found


def data_versions(instance: dg.DagsterInstance, names: Iterable[str], partition: str) -> dict[str, str]:
    return {name: (materialization(instance, name, partition).tags or {})[DATA_VERSION_TAG] for name in names}


def log(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(run_id)]


def plant(path: Path, *statements: str) -> None:
    """Change a stored file as a faulty build would have left it: row counts follow the rows."""
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        for (name,) in connection.execute("SELECT name FROM stored_tables").fetchall():
            count = f'(SELECT count(*) FROM "{name}")'
            connection.execute(f"UPDATE stored_tables SET rows = {count} WHERE name = ?", [name])


def content(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder, or of the file itself."""
    paths = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
