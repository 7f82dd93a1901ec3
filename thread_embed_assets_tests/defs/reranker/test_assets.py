"""The reranker's assets, from examples of a few simulated users to a package that routes messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

import thread_embed_assets
from thread_embed_assets.chat.model import Message
from thread_embed_assets.defs.automation import RERANK
from thread_embed_assets.defs.reranker.assets import with_base
from thread_embed_assets.reranker.origins import SYNTHETIC
from thread_embed_assets.reranker.package import ROUTER, open_router
from thread_embed_assets.reranker.results import FEATURES_ONLY, FUSED, TEXT_ONLY
from thread_embed_assets.reranker.router import Outcome
from thread_embed_assets.reranker.store import ThreadStore
from thread_embed_assets.reranker.synthetic import generate
from thread_embed_assets.reranker.train import MANIFEST, latest_reranker
from thread_embed_assets.storage.layout import ROOT_VARIABLE, Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.defs.runs import content, errors, made, materialization, plant, run
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config

_CONFIG_FIELDS = ("base_model", "batch_size", "learning_rate", "max_tokens", "message_tokens", "save_every", "log_every")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    root = tmp_path_factory.mktemp("reranker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(root))
        patch.setattr(generate, "_PROFILES", {"quick": 14})
        yield Layout(root)


@pytest.fixture(scope="module")
def instance(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path_factory.mktemp("home"))) as instance:
        yield instance


def config(tiny_model: Path) -> dict[str, object]:
    tiny = tiny_config(tiny_model).model_dump(mode="json")
    overrides = {name: tiny[name] for name in _CONFIG_FIELDS} | {
        "curriculum": [{"epochs": 3}],
        "learning_rate": 1e-3,
        "max_train_messages": 60,
    }
    return {"ops": {"reranker_checkpoint": {"config": {"profile": "quick", "overrides": overrides}}}}


@pytest.fixture(scope="module")
def reranked(instance: dg.DagsterInstance, layout: Layout, tiny_model: Path) -> dg.ExecuteInProcessResult:
    return run(instance, RERANK, None, config(tiny_model))


def test_the_whole_chain_runs_without_any_source_and_passes_its_checks(
    reranked: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, layout: Layout
) -> None:
    assert reranked.success, errors(reranked)
    assert made(reranked) == sorted(RERANK)
    checks = {(e.asset_key.path[-1], e.check_name): e.passed for e in reranked.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(
        [
            ("reranker_examples", "split_by_profile_and_wording"),
            ("reranker_examples", "nothing_from_the_future"),
            ("reranker_examples", "one_right_candidate"),
            ("reranker_checkpoint", "head_is_trained"),
            ("reranker_package", "scores_as_trained"),
        ],
        True,
    )
    rows = list(open_table(layout.reranker_results, "summary").rows_as_dicts(where="dimension = 'tier'"))
    assert {row["system"] for row in rows} == {FUSED, FEATURES_ONLY, TEXT_ONLY}
    assert {(row["population"], row["slice"]) for row in rows} == {(SYNTHETIC, tier) for tier in ("easy", "medium", "hard")}
    shown = materialization(instance, "reranker_results", None).metadata
    assert {"hit@1", "differences", "outcomes", "calibration"} <= set(shown)


def test_the_package_routes_messages(reranked: dg.ExecuteInProcessResult, layout: Layout, tmp_path: Path) -> None:
    with ThreadStore(tmp_path / "threads.duckdb") as store:
        router = open_router(layout.reranker_package, store)
        first = router.route(Message("m0", "user", "which paint dries fastest on oak?", 0.0), "chat")
        second = router.route(Message("m1", "user", "and on pine, would it be the same?", 90.0), "chat")
    assert first.outcome is Outcome.NEW
    assert sum(option.probability for option in second.options) == pytest.approx(1)


def _no_head_moved(layout: Layout) -> None:
    path = latest_reranker(layout.reranker_checkpoints).folder / MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"moved": manifest["moved"] | {"head": 0.0}}))


def _other_normalisation(layout: Layout) -> None:
    router = layout.reranker_package / ROUTER
    assert router.exists()
    model = layout.reranker_package / "model.onnx"
    model.write_bytes((layout.reranker_package / "model_int8.onnx").read_bytes())


def _in_table(statement: str) -> Callable[[Layout], None]:
    return lambda layout: plant(layout.reranker_examples(SYNTHETIC), statement)


FAULTS: list[tuple[str, str, Callable[[Layout], None]]] = [
    (
        "reranker_examples",
        "split_by_profile_and_wording",
        _in_table("UPDATE examples SET profile = (SELECT min(profile) FROM examples WHERE split = 'train')"),
    ),
    (
        "reranker_examples",
        "nothing_from_the_future",
        _in_table("UPDATE examples SET known_until = sent_at + INTERVAL 1 MINUTE WHERE label = 1"),
    ),
    ("reranker_examples", "one_right_candidate", _in_table("UPDATE examples SET label = 1")),
    ("reranker_checkpoint", "head_is_trained", _no_head_moved),
    ("reranker_package", "scores_as_trained", _other_normalisation),
]


@pytest.mark.parametrize(("asset", "name", "fault"), FAULTS)
def test_a_planted_fault_is_caught_and_what_follows_is_refused(
    asset: str,
    name: str,
    fault: Callable[[Layout], None],
    reranked: dg.ExecuteInProcessResult,
    instance: dg.DagsterInstance,
    layout: Layout,
    tiny_model: Path,
) -> None:
    kept = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    before = content(layout.reranker_package)
    fault(layout)
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)
    try:
        checked = run(instance, dg.AssetSelection.checks(key), None)
        [evaluation] = checked.get_asset_check_evaluations()
        assert not evaluation.passed, evaluation.description
        follows = {"reranker_examples": "reranker_checkpoint", "reranker_checkpoint": "reranker_results"}.get(asset)
        if follows:
            refused = run(
                instance,
                dg.AssetSelection.assets(follows).without_checks(),
                None,
                config(tiny_model) if follows == "reranker_checkpoint" else None,
            )
            assert not refused.success and f"blocked by {asset}/{name} (failed)" in errors(refused)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
        assert run(instance, dg.AssetSelection.checks(key), None).success
    assert content(layout.reranker_package) == before


def test_the_base_is_the_released_model_unless_another_is_named(tmp_path: Path) -> None:
    place = Layout(tmp_path)
    assert with_base({"seed": 1}, place) == {"seed": 1}
    released = Path(thread_embed_assets.__file__).parents[1] / "models" / "released"
    place.models.mkdir()
    place.released.symlink_to(released)
    found = Path(str(with_base({}, place)["base_model"]))
    assert found.is_relative_to(tmp_path) and (found / "model.safetensors").exists()
    assert with_base({"base_model": "minilm"}, place) == {"base_model": "minilm"}
