from __future__ import annotations

from collections.abc import Iterator

import pytest

from thread_embed_assets.language_models import anthropic_api, choose, openai_compatible

from .local_services import KEY, FakeAnthropic, FakeOpenAi, serving


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's environment has, these tests reach nobody."""
    for name in (
        anthropic_api.KEY_VARIABLE,
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        choose.WRITER_VARIABLE,
        openai_compatible.KEY_VARIABLE,
        openai_compatible.URL_VARIABLE,
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def anthropic(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAnthropic]:
    service = FakeAnthropic()
    with serving(service, monkeypatch):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", service.url)
        monkeypatch.setenv(anthropic_api.KEY_VARIABLE, KEY)
        yield service


@pytest.fixture
def local_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAi]:
    service = FakeOpenAi()
    with serving(service, monkeypatch):
        monkeypatch.setenv(openai_compatible.URL_VARIABLE, f"{service.url}/v1")
        monkeypatch.setenv(openai_compatible.KEY_VARIABLE, KEY)
        yield service
