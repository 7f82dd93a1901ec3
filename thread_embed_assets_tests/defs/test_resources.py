from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from thread_embed_assets.defs.partitions import CATALOG, sources
from thread_embed_assets.defs.resources import STORED, GpuResource, HandleIOManager, LayoutResource, bring_all, many
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.storage.remote_root import REMOTE_VARIABLE
from thread_embed_assets_tests.defs.runs import assets, errors

FIRST, SECOND, *_ = CATALOG


@pytest.fixture
def manager(tmp_path: Path) -> HandleIOManager:
    return HandleIOManager(layout_resource=LayoutResource(root=str(tmp_path)))


def _made(layout: Layout, *names: str) -> None:
    for name in names:
        layout.tasks(name).parent.mkdir(parents=True, exist_ok=True)
        layout.tasks(name).touch()


@dg.asset(partitions_def=sources)
def benchmark_tasks() -> str:
    """Stands for the asset of this name, and writes nothing."""
    return "tasks"


def _load(
    manager: HandleIOManager,
    partitions_def: dg.PartitionsDefinition[str] | None,
    read: dg.AssetIn,
    partition: str | None = None,
    upstream: dg.AssetsDefinition = benchmark_tasks,
) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    """What an asset gets as its input."""
    got: list[Any] = []

    @dg.asset(partitions_def=partitions_def, ins={upstream.key.path[-1]: read})
    def reader(**given: Any) -> None:
        got.extend(given.values())

    result = dg.materialize(
        [upstream, reader],
        selection=[reader],
        partition_key=partition,
        instance=dg.DagsterInstance.ephemeral(),
        resources={"io_manager": manager},
        raise_on_error=False,
    )
    return result, got


def test_one_partition_is_one_handle(manager: HandleIOManager, tmp_path: Path) -> None:
    _made(Layout(tmp_path), FIRST)
    result, got = _load(manager, sources, dg.AssetIn(), FIRST)
    assert result.success and got == [Layout(tmp_path).tasks(FIRST)]


def test_many_partitions_are_a_dictionary_of_those_on_disk(manager: HandleIOManager, tmp_path: Path) -> None:
    _made(Layout(tmp_path), SECOND)
    result, got = _load(manager, None, many())
    assert result.success and got == [{SECOND: Layout(tmp_path).tasks(SECOND)}]


def test_many_is_a_dictionary_even_of_one_partition_and_of_none(manager: HandleIOManager, tmp_path: Path) -> None:
    one = many(dg.StaticPartitionMapping({FIRST: FIRST}))
    assert _load(manager, sources, one, FIRST)[1] == [{}]
    _made(Layout(tmp_path), FIRST, SECOND)
    assert _load(manager, sources, one, FIRST)[1] == [{FIRST: Layout(tmp_path).tasks(FIRST)}]


def test_a_table_that_is_not_there_is_named_with_a_remedy(manager: HandleIOManager, tmp_path: Path) -> None:
    @dg.asset(partitions_def=sources)
    def conversations() -> None: ...

    result, got = _load(manager, sources, dg.AssetIn(), FIRST, conversations)
    assert not result.success and got == []
    assert f"{Layout(tmp_path).conversations(FIRST)}: there is no such table yet. Materialise" in errors(result)


def test_an_asset_that_leaves_no_file_fails(manager: HandleIOManager, tmp_path: Path) -> None:
    made = dg.materialize(
        [benchmark_tasks],
        partition_key=FIRST,
        instance=dg.DagsterInstance.ephemeral(),
        resources={"io_manager": manager},
        raise_on_error=False,
    )
    assert not made.success
    assert f"benchmark_tasks returned, but {Layout(tmp_path).tasks(FIRST)} is not there" in errors(made)


@pytest.mark.parametrize("written", [True, False])
def test_an_asset_without_partitions_names_its_own_path(written: bool, manager: HandleIOManager, tmp_path: Path) -> None:
    path = tmp_path / "leaderboard.json"

    @dg.asset
    def leaderboard() -> Path:
        if written:
            path.touch()
        return path

    made = dg.materialize(
        [leaderboard],
        instance=dg.DagsterInstance.ephemeral(),
        resources={"io_manager": manager},
        raise_on_error=False,
    )
    assert made.success is written
    assert written or f"leaderboard returned, but {path} is not there" in errors(made)


def test_every_asset_tells_the_io_manager_what_it_has_made() -> None:
    silent = [
        name
        for a in assets()
        for name, output in ((a.op.name, output) for output in a.op.output_defs)
        if output.name == "result" and output.dagster_type.is_nothing
    ]
    assert not silent, "no IO manager is told of these, so they would not be sent to a remote root"


def test_a_table_is_sent_before_it_is_noted_down_and_the_next_machine_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote"
    monkeypatch.setenv(REMOTE_VARIABLE, f"file://{remote}")
    machines = [LayoutResource(root=str(tmp_path / name)) for name in ("one", "other")]

    @dg.asset(name="benchmark_tasks", partitions_def=sources)
    def tasks(layout: LayoutResource) -> Path:
        _made(layout.layout(), FIRST)
        return layout.layout().tasks(FIRST)

    @dg.asset(partitions_def=sources, ins={"benchmark_tasks": dg.AssetIn()})
    def benchmark_results(layout: LayoutResource, benchmark_tasks: Path) -> Path:
        assert (remote / "data" / "benchmark" / "tasks" / f"{FIRST}.duckdb").exists()
        layout.layout().results(FIRST).parent.mkdir(parents=True)
        layout.layout().results(FIRST).touch()
        return benchmark_tasks

    def run_on(machine: LayoutResource, asset: dg.AssetsDefinition) -> None:
        resources = {"layout": machine, "io_manager": HandleIOManager(layout_resource=machine)}
        instance = dg.DagsterInstance.ephemeral()
        chosen = [asset]
        assert dg.materialize(
            [tasks, benchmark_results], selection=chosen, partition_key=FIRST, instance=instance, resources=resources
        ).success

    run_on(machines[0], tasks)
    run_on(machines[1], benchmark_results)
    assert (remote / "data" / "benchmark" / "results" / f"{FIRST}.duckdb").exists()
    salts = {(tmp_path / name / "data" / "private" / "salt").read_text(encoding="ascii") for name in ("one", "other")}
    assert len(salts) == 1


def test_a_source_brings_its_own_raw_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote"
    monkeypatch.setenv(REMOTE_VARIABLE, f"file://{remote}")
    for name in (FIRST, SECOND):
        (remote / "data" / "raw" / name).mkdir(parents=True)
        (remote / "data" / "raw" / name / "manifest.json").touch()
    layout = Layout(tmp_path / "one")
    bring_all(layout, FIRST)
    assert layout.raw(FIRST).exists() and not layout.raw(SECOND).exists()
    bring_all(layout)
    assert layout.raw(SECOND).exists()


def test_every_stored_asset_has_a_place_of_its_own() -> None:
    places: Sequence[Path] = [stored.path(Layout(Path("/root")), FIRST) for stored in STORED.values()]
    assert len(set(places)) == len(places)


def test_the_layout_is_the_named_root_else_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "environment"))
    assert LayoutResource().layout() == Layout(tmp_path / "environment")
    assert LayoutResource(root=str(tmp_path / "named")).layout() == Layout(tmp_path / "named")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LayoutResource(root="~/team").layout() == Layout(tmp_path / "team")
    monkeypatch.delenv(ROOT_VARIABLE)
    assert (LayoutResource().layout().root / "workspace.yaml").exists()


def test_only_known_devices_are_taken() -> None:
    assert GpuResource().device == "auto"
    with pytest.raises(ValidationError, match="device"):
        GpuResource(device="gpu")  # type: ignore[arg-type]
