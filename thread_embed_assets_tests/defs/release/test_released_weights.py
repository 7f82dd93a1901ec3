from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from thread_embed_assets.benchmark.contenders import Contender
from thread_embed_assets.benchmark.readings import Reading, whole_and_by_window
from thread_embed_assets.release.standing import contender_name
from thread_embed_assets.release.weights import released_models, unpack
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets_tests.defs.runs import errors, run
from thread_embed_assets_tests.release.made import FREE, WITHHELD, Made, make

ASSET = "released_weights"
ASSETS = "thread_embed_assets.defs"


def _config(**fields: str) -> dict[str, Any]:
    return {"ops": {ASSET: {"config": {"name": "first", "trained_by": "make it", **fields}}}}


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    return made


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As though every check had passed."""
    for module in ("release", "benchmark"):
        monkeypatch.setattr(f"{ASSETS}.{module}.assets.require_passed", lambda *_: None)


def test_the_checkpoint_of_the_open_mix_is_packed_and_checked(made: Made, checked: None) -> None:
    made.checkpoint(FREE)
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(instance, [ASSET], None, _config())
    assert done.success, errors(done)
    assert {e.check_name: e.passed for e in done.get_asset_check_evaluations()} == {
        "restores_bit_for_bit": True,
        "may_be_passed_on": True,
    }
    [made_event] = done.get_asset_materialization_events()
    metadata = {name: value.value for name, value in made_event.materialization.metadata.items()}
    [released] = released_models(made.layout)
    assert metadata["weights_sha256"] == released.weights_sha256 and "# first" in metadata["card"]
    assert FREE in released.manifest["compared"], "compared with the tasks that are here"


def test_what_may_not_be_released_is_not(made: Made, checked: None) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        none = run(instance, [ASSET], None, _config())
        made.checkpoint(FREE, WITHHELD)
        refused = run(instance, [ASSET], None, _config())
        unknown = run(instance, [ASSET], None, _config(mix="everything"))
    assert "no checkpoint of open" in errors(none)
    assert f"{WITHHELD} may not be passed on" in errors(refused)
    assert "released_weights, field 'mix': unknown mix 'everything'" in errors(unknown)
    assert not released_models(made.layout)


def test_a_checkpoint_whose_check_never_ran_is_not_released(made: Made) -> None:
    made.checkpoint(FREE)
    with dg.DagsterInstance.ephemeral() as instance:
        refused = run(instance, [ASSET], None, _config())
    assert "loads_and_is_finite (has not run)" in errors(refused)


def test_a_released_model_is_a_contender(made: Made, checked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Contender] = []

    def evaluate(_: Path, source: str, contenders: Sequence[Contender], *__: object) -> None:
        seen.extend(contenders)
        raise RuntimeError(f"{source} would be scored now")

    made.checkpoint(FREE)
    monkeypatch.setattr(f"{ASSETS}.benchmark.assets.evaluate_source", evaluate)
    monkeypatch.setattr(f"{ASSETS}.benchmark.assets.reference_contenders", lambda: [])
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(instance, [ASSET], None, _config()).success
        run(instance, dg.AssetSelection.assets("benchmark_results").without_checks(), FREE)
    [released] = released_models(made.layout)
    [row] = [one for one in seen if one.name == contender_name(released)]
    assert row.role == "tuned" and row.readings == whole_and_by_window([Reading("speakers")])
    assert row.model is not None and row.model.location == unpack(released, made.layout)
    assert f"{row.name}+bm25" in {one.name for one in seen} and "ThreadEmbed-open" in {one.name for one in seen}
