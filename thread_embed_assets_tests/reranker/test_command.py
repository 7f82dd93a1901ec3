"""``thread-embed route`` as people call it, with a reranker that counts shared words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.language_models import anthropic_api
from thread_embed_assets.reranker import command
from thread_embed_assets.reranker.calibration import Calibration, Thresholds
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate, Floats
from thread_embed_assets.reranker.router import Embedder, Router
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets_tests.benchmark.stored import talks, write_conversations


def shared_words(message: str, candidates: Sequence[Candidate]) -> Floats:
    words = set(message.split())
    return np.array([0.5 if c.id == NEW_THREAD else len(words & set(c.text.split())) for c in candidates], dtype=np.float32)


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_router(folder: Path, store: ThreadStore, embed: Embedder | None = None) -> Router:
        assert folder == Layout(tmp_path).reranker_package and embed is None
        return Router(store, shared_words, Calibration(2.0), Thresholds(0.6, 0.6))

    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(command, "open_router", open_router)


def route(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["route", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["route", *arguments]) == 1
    return capsys.readouterr().err


def test_messages_are_routed_asked_about_and_start_threads(capsys: pytest.CaptureFixture[str]) -> None:
    first = route(capsys, "what would a slate roof for the barn cost", "--time", "2026-03-01T09:00")
    assert first[0].startswith("new    1.00  t_") and first[0].endswith("by nothing_to_continue")
    roof = first[0].split()[2]
    other = route(capsys, "how long must a sponge cake rest", "--to", NEW_THREAD, "--time", "2026-03-01T10:00")
    cake = other[0].split()[2]
    assert cake != roof and other[0].endswith("by you")
    more = route(capsys, "would slate for the barn last", "--time", "2026-03-01T11:00")
    assert more[0].split()[:3:2] == ["route", roof] and more[0].endswith("by reranker")
    asked = route(capsys, "please say more", "--time", "2026-03-01T12:00")
    assert asked[0].startswith("ask") and "Is this about" in asked[0]
    assert sorted(line.split()[1] for line in asked[1:]) == sorted([roof, cake, NEW_THREAD])
    settled = route(capsys, "please say more", "--time", "2026-03-01T12:00", "--to", cake)
    assert settled[0].split()[:3:2] == ["route", cake] and "sponge cake" in settled[1]


def test_a_source_is_taken_in_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    threads = talks(4, dev=1)
    write_conversations(Layout(tmp_path).conversations("made"), threads)
    count = sum(len(thread.lines) for thread in threads)
    assert route(capsys, "--load", "made") == [f"{count} messages taken in from made"]
    assert route(capsys, "--load", "made") == ["0 messages taken in from made"]


def test_mistakes_say_what_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Give a message" in failed(capsys)
    assert "2026-03-01T09:30" in failed(capsys, "hello", "--time", "yesterday")
    assert "has no thread 't_nowhere'" in failed(capsys, "hello", "--to", "t_nowhere")
    assert "there is no such table yet" in failed(capsys, "--load", "nowhere")
    monkeypatch.delenv(anthropic_api.KEY_VARIABLE, raising=False)
    assert "ANTHROPIC_API_KEY is not set" in failed(capsys, "hello", "--answer")
    assert route(capsys, "hello")[0].startswith("new"), "the message without an answer was not kept"
