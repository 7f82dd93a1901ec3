from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thread_embed_assets.release.pack import pack
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets_tests.defs.runs import errors, run, run_check
from thread_embed_assets_tests.release.made import FREE, TRAINED_BY, Made, make

PACKAGE, ONNX = "model_package", "onnx_model"
LOADS, EXPORTED = "loads_plainly_and_encodes_the_same", "exported_encodes_the_same"


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A root with a released model ``small``."""
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    pack(made.checkpoint(FREE), made.layout, made.catalog, "small", trained_by=TRAINED_BY)
    return made


def _released(name: str) -> dict[str, Any]:
    return {"ops": {PACKAGE: {"config": {"released": name}}}}


def _check(instance: dg.DagsterInstance, asset: str, name: str) -> tuple[bool, str]:
    [found] = run_check(instance, asset, name, None).get_asset_check_evaluations()
    return found.passed, found.description or ""


def test_a_released_model_is_packaged_exported_and_checked(made: Made) -> None:
    layout = made.layout
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(instance, [PACKAGE, ONNX], None, _released("small"))
        assert done.success, errors(done)
        assert {e.check_name: e.passed for e in done.get_asset_check_evaluations()} == {LOADS: True, EXPORTED: True}
        package, onnx = (
            {n: value.value for n, value in event.materialization.metadata.items()}
            for event in done.get_asset_materialization_events()
        )
        assert "# small" in package["card"] and onnx["difference"] <= 1e-4 and onnx["cosine_int8"] > 0.9
        assert onnx["model_int8.onnx"] < onnx["model.onnx"]

        settings = layout.onnx_package / "thread_embed.json"
        kept = settings.read_text()
        settings.write_text(kept.replace(FREE, "another"))
        assert _check(instance, ONNX, EXPORTED) == (
            False,
            "thread-embed-onnx was exported from another model. Materialise onnx_model",
        )
        settings.write_text(kept)

        modules = layout.promoted_model / "modules.json"
        modules.write_text(modules.read_text().replace("sentence_transformers.", "ours."))
        passed, told = _check(instance, PACKAGE, LOADS)
        assert not passed and "code that is not the library's: ours." in told
        refused = run(instance, [ONNX], None)
        assert not refused.success and f"blocked by {PACKAGE}/{LOADS} (failed)" in errors(refused)


def test_a_released_model_that_is_not_there_is_named(made: Made) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        refused = run(instance, [PACKAGE], None, _released("large"))
    assert "released model 'large': there is none of that name. There are: small" in errors(refused)
    assert not made.layout.promoted_model.exists()
