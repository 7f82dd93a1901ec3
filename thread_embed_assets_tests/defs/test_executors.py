from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from thread_embed_assets.defs.executors import (
    ADDRESS_VARIABLE,
    CPUS_VARIABLE,
    EXECUTOR_VARIABLE,
    GPUS_VARIABLE,
    executor,
    gpu_tags,
)
from thread_embed_assets.errors import InputError

CLUSTER = ("ray", "dagster_ray")
needs_ray = pytest.mark.skipif(
    any(find_spec(name) is None for name in CLUSTER), reason="the extra `cluster` is not installed (ray, dagster-ray)"
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (EXECUTOR_VARIABLE, ADDRESS_VARIABLE, CPUS_VARIABLE, GPUS_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def _ray_settings(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the executor is configured with."""
    import dagster_ray

    class Definition:
        def configured(self, settings: dict[str, Any]) -> dict[str, Any]:
            return settings

    for name, value in {EXECUTOR_VARIABLE: "ray", **variables}.items():
        monkeypatch.setenv(name, value)
    assert executor().name == "ray"
    monkeypatch.setattr(dagster_ray, "ray_executor", Definition())
    settings: Any = executor()
    return dict(settings["ray"])


def test_without_a_word_steps_run_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert executor().name == "multiprocess"
    monkeypatch.setenv(EXECUTOR_VARIABLE, "")
    assert executor().name == "multiprocess"


def test_an_unknown_executor_is_named_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "slurm")
    with pytest.raises(InputError, match=r"no executor 'slurm'\. Set it to processes or ray"):
        executor()


@pytest.mark.parametrize("package", CLUSTER)
def test_a_missing_package_is_named_with_the_command_that_installs_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *given: Any, **options: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        if name.split(".")[0] in CLUSTER:
            return None
        return imported(name, *given, **options)

    monkeypatch.setenv(EXECUTOR_VARIABLE, "ray")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"No module named '{package}'.*thread-embed-assets\[cluster\]"):
        executor()


@needs_ray
def test_a_step_asks_ray_for_a_core_and_starts_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _ray_settings(monkeypatch, {})
    assert settings["address"] == "http://127.0.0.1:8265" and settings["num_cpus"] == 1
    assert "THREAD_EMBED_WORKERS=1" in settings["env_vars"]


@needs_ray
def test_a_step_asks_for_as_many_cores_as_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _ray_settings(
        monkeypatch, {ADDRESS_VARIABLE: "https://ray.example:8265", CPUS_VARIABLE: "8", GPUS_VARIABLE: "2"}
    )
    assert settings["address"] == "https://ray.example:8265" and settings["num_cpus"] == 8
    assert settings["env_vars"] == [f"{EXECUTOR_VARIABLE}=ray", f"{GPUS_VARIABLE}=2", "THREAD_EMBED_WORKERS=8"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [(ADDRESS_VARIABLE, "ray://head:10001"), (ADDRESS_VARIABLE, "head:6379"), (CPUS_VARIABLE, "0"), (CPUS_VARIABLE, "two")],
)
def test_a_setting_that_ray_would_trip_over_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR_VARIABLE, "ray")
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=repr(value)) as caught:
        executor()
    assert caught.value.place == variable


def test_no_gpu_is_asked_for_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_tags() == {}
    monkeypatch.setenv(GPUS_VARIABLE, "2")
    assert gpu_tags() == {"dagster-ray/config": {"num_gpus": 2}}
    monkeypatch.setenv(GPUS_VARIABLE, "-1")
    with pytest.raises(InputError, match="from 0 up"):
        gpu_tags()


def test_every_op_of_the_gpu_pool_and_every_scoring_asks_for_the_gpus() -> None:
    code = (
        "import dagster as dg\n"
        "from thread_embed_assets.definitions import defs\n"
        "ops = [a.op for a in defs().assets if isinstance(a, dg.AssetsDefinition)]\n"
        "asks = {op.name: op.tags.get('dagster-ray/config') for op in ops}\n"
        "import json; print(json.dumps({'asks': asks, 'pools': {op.name: op.pool for op in ops}}))"
    )
    environment = {**os.environ, GPUS_VARIABLE: "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    pool = {name for name, pool in told["pools"].items() if pool == "gpu"}
    assert len(pool) >= 4
    asks = {name: json.loads(config) for name, config in told["asks"].items() if config}
    assert asks == {name: {"num_gpus": 2} for name in (*pool, "benchmark_results", "regression_results")}
