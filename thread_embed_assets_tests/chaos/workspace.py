"""A workspace that trains in seconds, for processes of their own: what it is made of, and what is run on it."""

from __future__ import annotations

from pathlib import Path

import yaml

import thread_embed_assets
from thread_embed_assets.defs.automation import EVALUATE, PAIR, PREPARE, REPORT, TRAIN
from thread_embed_assets_tests.defs.conftest import PROFILE, SOURCE, Workspace
from thread_embed_assets_tests.defs.export import write_export
from thread_embed_assets_tests.training.tiny import build_tiny_model

FOLDER = "CHAOS_WORKSPACE"  # the variable that names the workspace's folder
MODEL = "tiny"
PROJECT = Path(thread_embed_assets.__file__).parents[1]
LOCATION = "thread_embed_assets"
GRAPH = "graph"  # all jobs, by run_graph
JOBS = {"prepare": PREPARE, "pair": PAIR, "train": TRAIN, "evaluate": EVALUATE, "report": REPORT}
# The project's own settings but for how often the daemon looks: here it need not be kind to a small machine.
_SOONER = {"enabled": True, "poll_interval_seconds": 5, "free_slots_after_run_end_seconds": 5}
_TRAINING = {"ops": {name: {"config": {"profile": PROFILE}} for name in TRAIN}}


def partition_of(job: str) -> str | None:
    return None if job == "report" else SOURCE


def config_of(job: str) -> dict[str, object]:
    return dict(_TRAINING) if job == "train" else {}


def make_workspace(folder: Path) -> Workspace:
    """An export, a model that trains in seconds, an instance with the project's settings; those of an earlier call stay."""
    workspace = Workspace(folder)
    if workspace.home.exists():
        return workspace
    write_export(workspace.export)
    build_tiny_model(folder / MODEL)
    settings = yaml.safe_load((PROJECT / "data" / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
    workspace.home.mkdir()
    text = yaml.safe_dump({**settings, "run_monitoring": _SOONER})
    (workspace.home / "dagster.yaml").write_text(text, encoding="utf-8")
    (folder / "tmp").mkdir()
    server = {"grpc_server": {"socket": str(folder / "code.sock"), "location_name": LOCATION}}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [server]}), encoding="utf-8")
    return workspace
