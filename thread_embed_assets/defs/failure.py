"""A run that failed is told: the sensor that says it to Slack or by mail. It ships stopped; the UI starts it."""

import re
from collections.abc import Sequence

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster_shared.error import SerializableErrorInfo

from thread_embed_assets.alerts import SMTP_VARIABLE, WEBHOOK_VARIABLE, FailedRun, senders
from thread_embed_assets.errors import InputError

_OURS = ("InputError", "TransientError")
_CRASH = "ChildProcessCrashException"
_LOG = "Look at the run's log"
_KILLED = (
    "a process was killed, or ended without a word: memory ran out, or the machine went away",
    "Run it again: it goes on from what is there",
)
_WHY_KILLED = re.compile("process that ran it was killed|failed from outside the execution context")


@dg.run_failure_sensor(
    name="run_failure",
    description=f"Tells {WEBHOOK_VARIABLE} (Slack) and {SMTP_VARIABLE} (mail), whichever is set, of each run that fails.",
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
)
def run_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    ways = senders()
    if not ways:
        return dg.SkipReason(f"neither {WEBHOOK_VARIABLE} nor {SMTP_VARIABLE} is set, so nobody is told")
    failed = failed_run(context.dagster_run, context.failure_event, context.get_step_failure_events())
    faults = []
    for name, send in ways.items():
        try:
            send(failed)
        except InputError as error:  # one way that is blocked must not block the other
            context.log.error("%s: %s", name, error)
            faults.append(str(error))
    if faults:
        raise dg.Failure(f"run {failed.run_id} failed, and not everybody was told: {'; '.join(faults)}")
    return None


def failed_run(run: dg.DagsterRun, event: dg.DagsterEvent, steps: Sequence[dg.DagsterEvent]) -> FailedRun:
    """What is told of a run that failed: of the first step's error, or where no step failed of the run's own event."""
    errors = [step.step_failure_data.error for step in steps]
    problem, remedy = _told(errors[0]) if errors and errors[0] else _of_run(event)
    keys = tuple(dict.fromkeys(step.step_key or "" for step in steps))
    return FailedRun(run.job_name, run.run_id, problem, remedy, run.tags.get(PARTITION_NAME_TAG, ""), keys)


def _told(error: SerializableErrorInfo) -> tuple[str, str]:
    """Problem and remedy: of an error that was written for people its words, of any other its kind alone."""
    chain = [error]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    for one in reversed(chain):
        if one.cls_name in _OURS:
            return one.message.partition(": ")[2].strip(), ""
    if any(one.cls_name == _CRASH for one in chain):
        return _KILLED
    if any(one.cls_name == "DagsterAssetCheckFailedError" for one in chain):
        return "a blocking check refused what the step made", "Look at the check's page"
    return f"an error of the kind {chain[-1].cls_name}", _LOG


def _of_run(event: dg.DagsterEvent) -> tuple[str, str]:
    return _KILLED if _WHY_KILLED.search(event.message or "") else ("it failed outside its steps", _LOG)
