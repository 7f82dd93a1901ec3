from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import dagster as dg
import pytest

from thread_embed_assets.benchmark.contenders import Contender, Model
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.run_graph import run_graph
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.training.base_models import model_fingerprint
from thread_embed_assets.training.config import PROFILES
from thread_embed_assets.training.mining import MOST_DOCUMENTS
from thread_embed_assets_tests.defs.export import export_source, write_export
from thread_embed_assets_tests.training.tiny import build_tiny_model

SOURCE = "sample_workspace"  # the catalogue's entry that these tests put a small export in the place of
PROFILE = "tiny"


@dataclass(frozen=True)
class Workspace:
    """A root folder, a Dagster home and the export they are made from, all below one folder."""

    folder: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.folder / "root")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def export(self) -> Path:
        return self.folder / "export"

    def enter(self, patch: pytest.MonkeyPatch, tiny_model: Path) -> None:
        """Point the code location at this workspace, with a model and a profile that train in seconds."""
        patch.setenv(ROOT_VARIABLE, str(self.layout.root))
        patch.setenv("DAGSTER_HOME", str(self.home))
        patch.setitem(CATALOG, SOURCE, export_source(SOURCE, self.export))
        patch.setitem(PROFILES, PROFILE, tiny_profile(tiny_model))
        patch.setitem(cast("dict[str, int]", MOST_DOCUMENTS), PROFILE, 1_000)
        base = Model("tiny", tiny_model, model_fingerprint(tiny_model))

        absent = Contender("all-mpnet-base-v2", "dense", "reference", not_run="left out of these tests")
        patch.setattr("thread_embed_assets.defs.benchmark.assets._base_model", lambda: base)
        patch.setattr("thread_embed_assets.defs.benchmark.assets.reference_contenders", lambda: [absent])


def tiny_profile(model: Path) -> dict[str, dict[str, object]]:
    """The stages of `quick` as to what they learn from, on a model that trains in seconds."""
    small: dict[str, object] = {
        "base_model": str(model),
        "batch_size": 8,
        "mini_batch_size": 8,
        "max_tokens": 16,
        "save_every": 10,
        "log_every": 1,
        "dev_pairs": 10,
    }
    kept = ("strategies", "loss", "hard_negatives")
    return {
        stage: {**small, **{n: v for n, v in fields.items() if n in kept}} for stage, fields in PROFILES["quick"].items()
    }


@dataclass(frozen=True)
class Finished:
    """The workspace in which the whole graph has run once, and what that printed; nobody writes in it."""

    workspace: Workspace
    output: str


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Finished:
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    write_export(workspace.export)
    workspace.home.mkdir()
    telemetry_off = "telemetry: {enabled: false}\n"
    (workspace.home / "dagster.yaml").write_text(telemetry_off, encoding="utf-8")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        workspace.enter(patch, tiny_model)
        code = run_graph([SOURCE], [SOURCE], PROFILE)
    assert code == 0, printed.getvalue()
    return Finished(workspace, printed.getvalue())


@pytest.fixture
def workspace(finished: Finished, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the finished workspace, to spoil at will; the code location points at it."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(finished.workspace.folder, copy.folder)
    copy.enter(monkeypatch, tiny_model)
    return copy


@pytest.fixture
def instance(workspace: Workspace) -> Iterator[dg.DagsterInstance]:
    """The instance of the copied workspace, with the finished run's history."""
    assert os.environ["DAGSTER_HOME"] == str(workspace.home)
    with dg.DagsterInstance.get() as instance:
        yield instance
