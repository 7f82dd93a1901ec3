from __future__ import annotations

import pytest

from thread_embed_assets.storage.addresses import fault_of


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://api.example.org", "http://[::1]:8080", "http://10.0.0.7"]
)
def test_a_base_url_is_taken(url: str) -> None:
    assert fault_of(url) == ""


@pytest.mark.parametrize(
    "url", ["", "nowhere", "localhost:8000", "ftp://host/x", "http://", "http://:80", "http://host:port", "http://[::1"]
)
def test_what_is_none_is_shown(url: str) -> None:
    assert fault_of(url) == f"{url!r} is no URL"


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:pass-7731@host/v1",
        "https://pass-7731@host",
        "ada:pass-7731@host",
        "https://host/v1?key=pass-7731",
        "https://host/#pass-7731",
    ],
)
def test_one_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    assert "which logs would show" in fault_of(url) and "7731" not in fault_of(url)
