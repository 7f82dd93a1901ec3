from __future__ import annotations

from pathlib import Path

import pytest

from thread_embed_assets.benchmark.report import Leaderboard
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.made_results import ALPHA, BETA, GAMMA, undraw, write_all


@pytest.fixture(scope="session")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """One of three invented sources, only to be read; its plots are not drawn."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        undraw(monkeypatch)
        return write_all(Layout(tmp_path_factory.mktemp("report")), [GAMMA, ALPHA, BETA])


@pytest.fixture
def undrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Where a leaderboard is written whose plots are not drawn."""
    undraw(monkeypatch)
    return Layout(tmp_path)
