from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.stores.choose import STORES, open_store


def test_an_unknown_store_and_a_name_that_no_store_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no store 'shelf'\. Choose one of duckdb, chroma, "):
        open_store("shelf", tmp_path)
    with pytest.raises(InputError, match="letters, digits and underscores"):
        open_store("duckdb", tmp_path, "threads; DROP TABLE people")


@pytest.mark.parametrize("name", [name for name, kind in STORES.items() if kind.url_needed])
def test_a_store_without_a_server_says_which_variable_names_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORES[name].url_variable, raising=False)
    with pytest.raises(InputError, match=f"store {name}: NOT RUN: no server is named. Set {STORES[name].url_variable}"):
        open_store(name, tmp_path)


@pytest.mark.parametrize("name", [name for name in STORES if name != "duckdb"])
def test_a_store_whose_package_is_missing_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_installed(module: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module.split(".")[0])

    if STORES[name].url_needed:
        monkeypatch.setenv(STORES[name].url_variable, "http://127.0.0.1:9")
    monkeypatch.setattr(importlib, "import_module", nothing_installed)
    with pytest.raises(InputError, match=r"store \w+: the package \w+ is not installed. .*thread-embed-assets\[stores\]"):
        open_store(name, tmp_path)
