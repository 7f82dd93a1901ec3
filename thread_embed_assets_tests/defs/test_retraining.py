from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel

from thread_embed_assets.defs import retraining
from thread_embed_assets.defs.partitions import CATALOG
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.defs.retraining import (
    ONE_AT_A_TIME,
    SAMPLE,
    RefreshDataConfig,
    RetrainConfig,
    RetrainingResource,
    changed_exports,
    enough_new_conversations,
    sources_here,
    trained_mixes,
    weekly_retraining,
    whole_graph_jobs,
)
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.export import export_source, write_export
from thread_embed_assets_tests.defs.runs import check, definitions, errors, log, plant
from thread_embed_assets_tests.test_layers import PACKAGE

PROJECT = PACKAGE.parent
FEW = RetrainingResource(conversations=1, share=1.0)


def test_everything_is_stopped_until_it_is_started() -> None:
    repository = definitions().get_repository_def()
    assert [s.name for s in repository.schedule_defs] == ["weekly_retraining"]
    assert sorted(s.name for s in repository.sensor_defs) == ["changed_exports", "enough_new_conversations", "run_failure"]
    assert {s.default_status for s in repository.schedule_defs} == {dg.DefaultScheduleStatus.STOPPED}
    assert {s.default_status for s in repository.sensor_defs} == {dg.DefaultSensorStatus.STOPPED}


def test_make_manual_stops_all_that_make_automatic_starts() -> None:
    recipe = (PROJECT / "Makefile").read_text(encoding="utf-8").partition("\nmanual:")[2].partition("\n\n")[0]
    repository = definitions().get_repository_def()
    assert re.findall(r"dagster schedule stop (\w+)", recipe) == [s.name for s in repository.schedule_defs]
    assert sorted(re.findall(r"dagster sensor stop (\w+)", recipe)) == sorted(s.name for s in repository.sensor_defs)


def test_one_whole_graph_is_let_run_at_a_time() -> None:
    home = yaml.safe_load((PROJECT / "data" / "dagster_home" / "dagster.yaml").read_text(encoding="utf-8"))
    [limit] = home["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limit["limit"] == 1 and set(ONE_AT_A_TIME) == {limit["key"]}
    repository = definitions().get_repository_def()
    tagged = {name for name in repository.job_names if ONE_AT_A_TIME.items() <= repository.get_job(name).tags.items()}
    assert tagged == {*(job.name for job in whole_graph_jobs), "release"}


def test_freshness_is_watched_of_conversations_checkpoints_and_the_leaderboard() -> None:
    graph = definitions().resolve_asset_graph()
    watched = {key.path[-1] for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy is not None}
    assert watched == {"conversations", "stage1_checkpoint", "stage2_checkpoint", "stage3_checkpoint", "leaderboard"}


def test_a_tick_of_the_schedule_asks_for_one_retraining_with_its_defaults() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, scheduled_execution_time=datetime(2026, 11, 29, 3, tzinfo=UTC))
        data = weekly_retraining.evaluate_tick(context)
    [request] = data.run_requests or []
    assert weekly_retraining.job_name == "retrain"
    job = definitions().resolve_job_def("retrain")
    assert dg.validate_run_config(job, request.run_config)["ops"]["run_retrain"]["config"]["sources"] == []


def _only_own(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may have declared exports."""
    for name in [name for name in CATALOG if CATALOG[name].origin.kind == "folder" and name != source]:
        monkeypatch.delitem(CATALOG, name)


def _look(layout: Path, cursor: str | None) -> tuple[list[list[str]], str]:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=definitions().get_repository_def())
        found = changed_exports(context, layout=LayoutResource(root=str(layout)))
    assert isinstance(found, dg.SensorResult)
    asked = [
        dict(request.run_config)["ops"]["run_refresh_data"]["config"]["sources"] for request in found.run_requests or []
    ]
    return asked, found.cursor or ""


def test_an_export_is_read_again_for_its_content_and_not_for_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = tmp_path / "export"
    write_export(export)
    _only_own(SOURCE, monkeypatch)
    monkeypatch.setitem(CATALOG, SOURCE, export_source(SOURCE, export))
    asked, cursor = _look(tmp_path, None)
    assert asked == [[SOURCE]]
    assert _look(tmp_path, cursor) == ([], cursor)
    for path in export.rglob("*.json"):
        path.touch()
    asked, touched = _look(tmp_path, cursor)
    assert asked == [] and touched != cursor
    write_export(export, seed=2)
    assert _look(tmp_path, touched)[0] == [[SOURCE]]


def _enough(instance: dg.DagsterInstance, policy: RetrainingResource) -> dg.RunRequest | str:
    context = dg.build_sensor_context(instance, repository_def=definitions().get_repository_def())
    found = enough_new_conversations(context, layout=LayoutResource(), retraining=policy)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found if isinstance(found, dg.RunRequest) else found.skip_message or ""


def test_new_conversations_ask_for_training_when_they_are_enough_and_their_checks_have_passed(
    workspace: Workspace, instance: dg.DagsterInstance
) -> None:
    assert re.fullmatch(rf"{SOURCE}: 0 new train conversations, \d+ when it was trained", str(_enough(instance, FEW)))
    for strategy in ("thread", "response", "temporal", "summary"):
        table = workspace.layout.pairs(strategy, SOURCE)
        plant(
            table,
            "INSERT INTO pairs SELECT * REPLACE ('new ' || conversation_id AS conversation_id, pair_id || 'n' AS pair_id) "
            "FROM pairs WHERE split = 'train' QUALIFY row_number() OVER (PARTITION BY conversation_id) = 1 LIMIT 3",
        )
    assert "3 new train conversations" in str(_enough(instance, RetrainingResource(conversations=4, share=1.0)))
    asked = _enough(instance, FEW)
    assert isinstance(asked, dg.RunRequest)
    assert isinstance(_enough(instance, RetrainingResource(conversations=1_000, share=0.01)), dg.RunRequest), "a share, too"
    again = _enough(instance, FEW)
    assert isinstance(again, dg.RunRequest) and again.run_key == asked.run_key, "asked for once"

    plant(workspace.layout.pairs("thread", SOURCE), "UPDATE pairs SET split = 'test' WHERE split = 'dev'")
    assert not check(instance, "thread_pairs", "no_held_out_text", SOURCE).passed
    blocked = _enough(instance, FEW)
    assert "3 new train conversations" in str(blocked)
    assert f"blocked by {SOURCE}: thread_pairs/no_held_out_text (failed)" in str(blocked)


def test_nothing_is_asked_for_before_there_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREAD_EMBED_ROOT", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        assert _enough(instance, FEW) == "no model has been trained yet"


def test_defaults_are_what_is_on_this_machine(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_own(SOURCE, monkeypatch)
    assert sources_here(workspace.layout) == [SOURCE] and list(trained_mixes(workspace.layout)) == [SOURCE]


def _launched(
    job: str, config: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, script: str = "print('[1/1] done')"
) -> tuple[dg.ExecuteInProcessResult, list[str], list[str]]:
    """Run a job whose process is a small script: result, what the graph was to be run with, and the log."""
    asked: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: Sequence[str], **options: Any) -> Any:
        asked.append(list(command[1:]))
        return real([sys.executable, "-c", script], **options)

    monkeypatch.setattr(retraining.subprocess, "Popen", popen)
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance, run_config={"ops": {f"run_{job}": {"config": dict(config)}}}, raise_on_error=False
            )
        )
        return result, asked[0] if asked else [], log(instance, result.run_id)


@pytest.mark.parametrize(
    ("job", "config", "arguments"),
    [
        ("demo", {"profile": "quick"}, ["--sources", SAMPLE, "--mix", SAMPLE, "--profile", "quick"]),
        ("refresh_data", {"sources": [SOURCE, "topical_chat"]}, ["--sources", f"{SOURCE},topical_chat", "--data-only"]),
        (
            "retrain",
            {"sources": [SOURCE], "mixes": ["all", SOURCE], "profile": "hours"},
            ["--sources", SOURCE, "--mix", f"all,{SOURCE}", "--profile", "hours"],
        ),
    ],
)
def test_a_job_runs_the_whole_graph_in_a_process_and_shows_what_it_says(
    job: str, config: dict[str, Any], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked, lines = _launched(job, config, monkeypatch)
    assert result.success and asked == ["-m", "thread_embed_assets.defs.run_graph", *arguments]
    assert "[1/1] done" in lines


def test_without_a_word_it_takes_what_is_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_own(SOURCE, monkeypatch)
    _, asked, _ = _launched("retrain", {}, monkeypatch)
    assert asked[2:] == ["--sources", SOURCE, "--mix", SOURCE, "--profile", "quick"]


def test_a_graph_that_fails_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _, lines = _launched("demo", {}, monkeypatch, "print('[3/5] train: failed'); raise SystemExit(1)")
    assert not result.success and "[3/5] train: failed" in lines and "it ended with status 1" in errors(result)


def test_a_run_that_is_ended_takes_its_process_and_all_that_this_has_started_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "child"
    child = f"""
import os, time
with open({str(mark) + ".part"!r}, "w") as file:
    file.write(str(os.getpid()))
os.rename({str(mark) + ".part"!r}, {str(mark)!r})
print("up", flush=True)
time.sleep(600)
"""
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dagster._core.log_manager.DagsterLogManager.info", interrupted)
    result, _, _ = _launched("demo", {}, monkeypatch, script)
    assert not result.success
    pid = int(mark.read_text())
    assert _ends(pid)


def _ends(pid: int) -> bool:
    """Within a minute; a zombie that nobody has waited for yet counts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (RefreshDataConfig, {"sources": ["irc_disentangel"]}, "unknown source 'irc_disentangel'; there are "),
        (RetrainConfig, {"mixes": ["without_telex"]}, "unknown mix 'without_telex'; there are all, "),
        (RetrainConfig, {"profile": "enormous"}, "unknown profile 'enormous'; there are quick"),
    ],
)
def test_what_nobody_knows_is_named(kind: type[BaseModel], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**config)
