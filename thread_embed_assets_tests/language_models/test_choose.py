from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.language_models.anthropic_api import BatchWriter, MessagesWriter
from thread_embed_assets.language_models.cache import AnswerCache
from thread_embed_assets.language_models.choose import WRITER_VARIABLE, choose_writer
from thread_embed_assets.language_models.extractive import ExtractiveWriter
from thread_embed_assets.language_models.openai_compatible import OpenAiCompatibleWriter

from .local_services import FakeAnthropic


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[AnswerCache]:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    yield cache
    cache.close()


def test_a_key_alone_chooses_nobody_who_costs(anthropic: FakeAnthropic, cache: AnswerCache) -> None:
    assert isinstance(choose_writer("auto", cache), ExtractiveWriter)
    assert anthropic.came == 0


def test_a_writer_is_chosen_by_name(anthropic: FakeAnthropic, cache: AnswerCache) -> None:
    found = choose_writer("anthropic", cache, model="claude-haiku-4-5")
    assert isinstance(found, MessagesWriter) and found.name == "anthropic/claude-haiku-4-5"
    assert choose_writer("anthropic", cache).name == "anthropic/claude-haiku-5-5"
    assert isinstance(choose_writer("anthropic_batch", cache), BatchWriter)
    local = choose_writer("openai_compatible", cache, model="m", url="http://localhost:1/v1")
    assert isinstance(local, OpenAiCompatibleWriter) and local.name == "openai_compatible/m"
    assert choose_writer("extractive", cache).name == "extractive"
    assert anthropic.came == 0, "choosing sends nothing"


def test_the_variable_chooses_for_auto_alone(
    anthropic: FakeAnthropic, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WRITER_VARIABLE, "anthropic/claude-haiku-4-5")
    assert choose_writer("auto", cache).name == "anthropic/claude-haiku-4-5"
    assert choose_writer("auto", cache, model="claude-haiku-5-5").name == "anthropic/claude-haiku-5-5"
    assert choose_writer("extractive", cache).name == "extractive"
    monkeypatch.setenv(WRITER_VARIABLE, "openai_compatible/org/model-7b")
    assert choose_writer("auto", cache, url="http://localhost:1/v1").name == "openai_compatible/org/model-7b"
    for wrong in ("auto", "claude-haiku-5-5"):
        monkeypatch.setenv(WRITER_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{WRITER_VARIABLE}: there is no writer '{wrong}'"):
            choose_writer("auto", cache)
