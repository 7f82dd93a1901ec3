"""The code location under test: the project's definitions over the workspace that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster_shared.record import replace

from thread_embed_assets import definitions
from thread_embed_assets_tests.chaos.workspace import FOLDER, MODEL
from thread_embed_assets_tests.defs.conftest import Workspace

_folder = Path(os.environ[FOLDER])
Workspace(_folder).enter(pytest.MonkeyPatch(), _folder / MODEL / "model")

# As the project's, a process for each step; forked from one that has imported the definitions, which takes most of a step.
_EXECUTOR = dg.multiprocess_executor.configured(
    {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": [__name__]}}}
)


@dg.definitions
def defs() -> dg.Definitions:
    return replace(definitions.defs(), executor=_EXECUTOR)
