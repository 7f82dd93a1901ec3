"""Bad input at the door: the error names file, place and remedy, and the last good data stays."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import dagster as dg
import pytest
import yaml

from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.sources.catalog import CATALOG as CATALOG_FILE
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.export import export_source, write_export
from thread_embed_assets_tests.defs.runs import content, data_versions, errors, materialization, run


def test_the_page_tells_what_was_fetched(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = {key: value.value for key, value in materialization(instance, "raw_dataset", SOURCE).metadata.items()}
    files = [path for path in workspace.export.rglob("*") if path.is_file()]
    assert metadata["files"] == len(files)
    assert metadata["bytes"] == sum(path.stat().st_size for path in files)
    assert (metadata["conversations"], metadata["messages"]) == (40, 360)
    assert (metadata["first_message"], metadata["last_message"]) == ("2025-03-03", "2025-03-08")
    assert metadata["fetched_from"] == "folder" and metadata["licence"] == "none" and metadata["redistribute"] is False


def test_the_data_version_follows_the_files(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    first = data_versions(instance, ["raw_dataset"], SOURCE)
    assert run(instance, ["raw_dataset"], SOURCE).success
    assert data_versions(instance, ["raw_dataset"], SOURCE) == first
    write_export(workspace.export, seed=3)
    assert run(instance, ["raw_dataset"], SOURCE).success
    assert data_versions(instance, ["raw_dataset"], SOURCE) != first


def _refused(workspace: Workspace, instance: dg.DagsterInstance) -> str:
    """The error of fetching, after a look that the last good files are still there."""
    good = content(workspace.layout.raw(SOURCE))
    refused = run(instance, ["raw_dataset"], SOURCE)
    assert not refused.success
    assert content(workspace.layout.raw(SOURCE)) == good
    assert [path.name for path in workspace.layout.raw(SOURCE).parent.iterdir()] == [SOURCE], "nothing is left behind"
    return errors(refused)


def test_a_truncated_file_is_named_with_line_and_column(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    day = next(workspace.export.glob("garden/*.json"))
    day.write_text(day.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    message = _refused(workspace, instance)
    assert f"{day}:1:" in message and "not valid JSON" in message and "make the export again" in message


def _zipped(export: Path, archive: Path, **more: str) -> None:
    with zipfile.ZipFile(archive, "w") as made:
        for path in export.rglob("*"):
            made.write(path, path.relative_to(export))
        for name, text in more.items():
            made.writestr(name, text)


def test_a_zip_with_a_member_outside_its_folder_is_refused(
    workspace: Workspace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = workspace.folder / "export.zip"
    _zipped(workspace.export, archive)
    monkeypatch.setitem(CATALOG, SOURCE, export_source(SOURCE, archive))
    assert run(instance, ["raw_dataset"], SOURCE).success
    _zipped(workspace.export, archive, **{"../../planted.json": "[]"})
    message = _refused(workspace, instance)
    assert f"{archive}, member '../../planted.json': would be written outside its folder. Nothing was unpacked" in message
    assert not list(workspace.folder.rglob("planted.json"))


def test_a_source_that_yields_no_conversation_is_refused(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    (workspace.export / "channels.json").write_text("[]", encoding="utf-8")
    message = _refused(workspace, instance)
    assert f"{workspace.export}: no conversation is found when it is read as 'slack_export'. Correct `format`" in message


def test_an_export_that_is_gone_is_named(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    shutil.rmtree(workspace.export)
    message = _refused(workspace, instance)
    assert f"{workspace.export}: there is no such folder" in message and SOURCE in message


def test_an_unknown_catalogue_field_stops_the_code_location_and_is_named(tmp_path: Path) -> None:
    catalog = yaml.safe_load(CATALOG_FILE.read_text(encoding="utf-8"))
    catalog["sources"]["topical_chat"]["licens"] = "none"
    file = tmp_path / "catalog.yaml"
    file.write_text(json.dumps(catalog), encoding="utf-8")
    code = (
        "import pathlib; from thread_embed_assets.sources import catalog; "
        f"catalog.load_catalog.__defaults__ = (pathlib.Path({str(file)!r}),); import thread_embed_assets.definitions"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{file}, entry 'topical_chat', field 'licens'" in last and "Known fields: title, platform" in last
