from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.defs.conftest import SOURCE, Finished, Workspace
from thread_embed_assets_tests.defs.prepare_one import ASSETS
from thread_embed_assets_tests.defs.runs import data_versions

SOURCES = [SOURCE, "irc_disentangle", "slack_dev_chats", "topical_chat"]
TABLES = {"conversations": ("conversations", "messages"), "thread_pairs": ("pairs",)}


def test_four_partitions_at_once_leave_four_whole_tables(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Workspace(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(shared.layout.root))
    monkeypatch.setenv("DAGSTER_HOME", str(shared.home))
    shared.home.mkdir()
    shutil.copy(finished.workspace.home / "dagster.yaml", shared.home)
    shared.layout.private.mkdir(parents=True)
    shutil.copy(finished.workspace.layout.private / "salt", shared.layout.private)  # so that person ids are the same
    dg.DagsterInstance.get().dispose()  # the tables of Dagster's own storage, which a running instance has
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.prepare_one"]
    export = str(finished.workspace.export)
    running = {
        source: subprocess.Popen([*command, source, export], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for source in SOURCES
    }
    for source, process in running.items():
        said, log = process.communicate(timeout=600)
        assert process.returncode == 0, f"{source}: {said}\n{log[-3000:]}"
    alone = finished.workspace.layout
    for source in SOURCES:
        for asset, names in TABLES.items():
            for name in names:
                whole = open_table(STORED[asset].path(shared.layout, source), name)
                assert len(list(whole.rows_as_dicts())) == whole.rows
                if source == SOURCE:
                    assert whole.fingerprint == open_table(STORED[asset].path(alone, SOURCE), name).fingerprint
    assert not [path for path in shared.layout.data.rglob("*") if ".part" in path.name or path.suffix == ".wal"]
    with dg.DagsterInstance.get() as instance:
        versions = {source: data_versions(instance, ASSETS, source) for source in SOURCES}
    assert len({tuple(of_source.values()) for of_source in versions.values()}) == 4
