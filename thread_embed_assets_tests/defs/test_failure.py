"""The sensor that tells of failed runs, over runs that really fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_status_sensor_definition import RunStatusSensorDefinition

from thread_embed_assets.alerts import SMTP_VARIABLE, WEBHOOK_VARIABLE, FailedRun
from thread_embed_assets.defs import failure
from thread_embed_assets.errors import InputError, TransientError
from thread_embed_assets_tests.defs.runs import definitions

CHAT = "quillona said hello"
PARTITIONS = dg.StaticPartitionsDefinition(["desk"])


@dg.asset(partitions_def=PARTITIONS)
def of_bad_input() -> None:
    raise InputError("users.json:1:2", "not valid JSON", "Export it again")


@dg.asset
def quotes_chat() -> None:
    raise KeyError(CHAT)


@dg.asset
def gave_up() -> None:
    error = InputError("the disk", "it is full", "Free space")
    raise dg.Failure(str(error), allow_retries=False) from error


@dg.asset(check_specs=[dg.AssetCheckSpec("non_empty", asset="refused", blocking=True)])
def refused() -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    yield dg.MaterializeResult()
    yield dg.AssetCheckResult(check_name="non_empty", passed=False, description=CHAT)


ASSETS: list[dg.AssetsDefinition] = [of_bad_input, quotes_chat, gave_up, refused]


@dg.definitions
def failing() -> dg.Definitions:
    return dg.Definitions(assets=ASSETS, sensors=[failure.run_failure])


class Told:
    """A way to tell that remembers, and fails where an error is set."""

    def __init__(self) -> None:
        self.runs: list[FailedRun] = []
        self.error: Exception | None = None

    def __call__(self, failed: FailedRun) -> None:
        if self.error:
            raise self.error
        self.runs.append(failed)


@pytest.fixture
def slack() -> Told:
    return Told()


@pytest.fixture
def mail() -> Told:
    return Told()


@pytest.fixture
def instance(slack: Told, mail: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setattr(failure, "senders", lambda: {"slack": slack, "mail": mail})
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def _fail(instance: dg.DagsterInstance, name: str) -> str:
    result = dg.materialize(
        ASSETS,
        selection=[name],
        instance=instance,
        partition_key="desk" if name == "of_bad_input" else None,
        raise_on_error=False,
    )
    assert not result.success
    return result.run_id


def _tick(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    sensor = failure.run_failure
    assert isinstance(sensor, RunStatusSensorDefinition)
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=failing().get_repository_def())
    return sensor.evaluate_tick(context)


@pytest.mark.parametrize(
    ("name", "problem", "remedy", "partition"),
    [
        ("of_bad_input", "users.json:1:2: not valid JSON. Export it again", "", "desk"),
        ("gave_up", "the disk: it is full. Free space", "", ""),
        ("quotes_chat", "an error of the kind KeyError", "Look at the run's log", ""),
        ("refused", "a blocking check refused what the step made", "Look at the check's page", ""),
    ],
)
def test_a_failed_run_is_told_once_without_foreign_words(
    name: str, problem: str, remedy: str, partition: str, instance: dg.DagsterInstance, slack: Told, mail: Told
) -> None:
    begun = _tick(instance)
    run_id = _fail(instance, name)
    ticked = _tick(instance, begun.cursor)
    [told] = slack.runs
    assert mail.runs == slack.runs
    assert (told.run_id, told.steps, told.problem, told.remedy, told.partition) == (
        run_id,
        (name,),
        problem,
        remedy,
        partition,
    )
    assert CHAT not in repr(told)
    assert ticked.dagster_run_reactions[0].error is None
    _tick(instance, ticked.cursor)
    assert len(slack.runs) == 1


@pytest.mark.parametrize("words", ["the process that ran it was killed", None], ids=["ours", "of the code server"])
def test_a_run_whose_process_was_killed_is_told_so(words: str | None, instance: dg.DagsterInstance, slack: Told) -> None:
    begun = _tick(instance)
    job = failing().resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, words)
    _tick(instance, begun.cursor)
    [told] = slack.runs
    assert told.problem.startswith("a process was killed") and told.remedy.startswith("Run it again") and told.steps == ()


def test_a_way_that_is_blocked_fails_the_tick_and_not_the_other_way(
    instance: dg.DagsterInstance, slack: Told, mail: Told
) -> None:
    slack.error = TransientError("THE_WEBHOOK", "it cannot be reached", "Check the network")
    begun = _tick(instance)
    run_id = _fail(instance, "gave_up")
    reaction = _tick(instance, begun.cursor).dagster_run_reactions[0]
    told = reaction.error.to_string()
    assert f"run {run_id} failed, and not everybody was told: THE_WEBHOOK: it cannot be reached" in told
    assert [failed.run_id for failed in mail.runs] == [run_id]


def test_nothing_set_skips_and_says_why(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "senders", dict)
    begun = _tick(instance)
    _fail(instance, "gave_up")
    skipped = _tick(instance, begun.cursor)
    assert skipped.skip_message == f"neither {WEBHOOK_VARIABLE} nor {SMTP_VARIABLE} is set, so nobody is told"


def test_it_ships_stopped() -> None:
    [sensor] = [s for s in definitions().sensors or () if s.name == "run_failure"]
    assert sensor is failure.run_failure and sensor.default_status is dg.DefaultSensorStatus.STOPPED
