from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, RawDataset, fetch
from thread_embed_assets.storage.layout import Layout

MakeSource = Callable[..., Source]


@pytest.fixture
def make_source() -> MakeSource:
    """A catalogue entry of the given format; keywords replace its fields."""

    def make(chat_format: str, **fields: Any) -> Source:
        entry = {
            "name": "planted",
            "title": "A planted source",
            "platform": "slack",
            "format": chat_format,
            "origin": {"kind": "folder", "path": "export"},
            "revision": "1",
            "licence": "none",
            "redistribute": False,
            "truth": "explicit",
            "roles": ["train"],
            "priority": "P2",
            "split": {"by": "published"},
        }
        return Source.model_validate(entry | fields)

    return make


@pytest.fixture(scope="session")
def real_source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Source, RawDataset]]:
    """A source of the catalogue, fetched from the mirror; once a session."""
    if not os.environ.get(MIRROR_VARIABLE):
        pytest.skip(f"{MIRROR_VARIABLE} is not set: the mirror of real chat data is not here")
    layout = Layout(tmp_path_factory.mktemp("real"))

    def get(name: str) -> tuple[Source, RawDataset]:
        source = load_catalog()[name]
        return source, fetch(source, layout)

    return get
