from __future__ import annotations

from pathlib import Path

import pytest

import thread_embed_assets
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout


def test_the_places_people_can_rely_on() -> None:
    layout = Layout(Path("/r"))
    places = {
        "data/raw/irc": layout.raw("irc"),
        "data/conversations/irc.duckdb": layout.conversations("irc"),
        "data/duplicates/irc.duckdb": layout.duplicates("irc"),
        "data/cache/sketches": layout.sketch_cache,
        "data/summaries/irc.duckdb": layout.summaries("irc"),
        "data/cache/language_models/irc.sqlite": layout.answer_cache("irc"),
        "data/pairs/thread/irc.duckdb": layout.pairs("thread", "irc"),
        "data/reports/irc/conversations": layout.source_report("irc"),
        "data/reports/irc/pairs": layout.pairs_report("irc"),
        "data/reports/corpus/sources": layout.corpus_report,
        "data/benchmark": layout.benchmark,
        "data/benchmark/tasks/irc.duckdb": layout.tasks("irc"),
        "data/benchmark/runs/irc": layout.runs("irc"),
        "data/benchmark/results/irc.duckdb": layout.results("irc"),
        "data/ablations/batch_32": layout.ablation("batch_32"),
        "data/private/irc.duckdb": layout.people("irc"),
        "data/cache/downloads": layout.download_cache,
        "data/cache/embeddings": layout.embedding_cache,
        "models/checkpoints/all/stage1": layout.checkpoints("all", "stage1"),
        "models/thread-embed": layout.promoted_model,
        "models/history": layout.model_history,
    }
    assert {path: str(found) for path, found in places.items()} == {path: f"/r/{path}" for path in places}


def test_the_variable_moves_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "there" / ".." / "here"))
    assert Layout.from_environment().root == tmp_path / "here"
    monkeypatch.setenv(ROOT_VARIABLE, "~/chats")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Layout.from_environment().root == tmp_path / "chats"


def test_without_the_variable_the_root_is_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    project = Path(thread_embed_assets.__file__).parents[1]
    expected = project if (project / "workspace.yaml").exists() else tmp_path
    assert Layout.from_environment().root == expected
