"""Retraining by itself: whole-graph jobs, a weekly schedule, and sensors for new exports and for enough new conversations.

All of it ships stopped: `make automatic` starts it, `make manual` stops it, and so does a click in the UI.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import dagster as dg
from pydantic import Field, field_validator

from thread_embed_assets.defs.conversations.checks import conversation_checks, duplicate_checks, summary_checks
from thread_embed_assets.defs.gates import keys_of, not_passed
from thread_embed_assets.defs.killed_runs import close_killed_runs
from thread_embed_assets.defs.pairs.checks import hard_negative_checks, pair_checks
from thread_embed_assets.defs.partitions import CATALOG, MIXES
from thread_embed_assets.defs.resources import LayoutResource
from thread_embed_assets.defs.training.assets import PROFILE_VARIABLE
from thread_embed_assets.pairs.schema import HARD_NEGATIVES_FOLDER
from thread_embed_assets.sources.exports import from_json, look, own_exports, to_json
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint, final_checkpoint
from thread_embed_assets.training.config import PROFILES
from thread_embed_assets.training.news import news

SAMPLE = "sample_workspace"
ONE_AT_A_TIME = {"thread_embed/whole_graph": "yes"}  # data/dagster_home/dagster.yaml lets one run of the tag run at a time
INPUT_CHECKS = keys_of([*conversation_checks, *duplicate_checks, *summary_checks, *pair_checks, *hard_negative_checks])
_PROFILE = os.environ.get(PROFILE_VARIABLE, "quick")


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; there are {', '.join(known)}")
    return names


class DemoConfig(dg.Config):
    """The whole graph on the sample workspace."""

    profile: str = Field(_PROFILE, description="Training profile.")

    @field_validator("profile")
    @classmethod
    def _profile(cls, profile: str) -> str:
        return _known("profile", [profile], list(PROFILES))[0]


class RefreshDataConfig(dg.Config):
    """Sources that are read again; what follows from them is made again where they have changed."""

    sources: list[str] = Field([], description="Empty takes those that are on this machine, and all own exports.")

    @field_validator("sources")
    @classmethod
    def _sources(cls, sources: list[str]) -> list[str]:
        return list(_known("source", sources, list(CATALOG)))


class RetrainConfig(RefreshDataConfig):
    """The whole graph, from reading the sources to the decision on promotion."""

    mixes: list[str] = Field([], description="Empty takes those that have a checkpoint, else `all`.")
    profile: str = Field(_PROFILE, description="Training profile.")

    @field_validator("mixes")
    @classmethod
    def _mixes(cls, mixes: list[str]) -> list[str]:
        return list(_known("mix", mixes, list(MIXES)))

    @field_validator("profile")
    @classmethod
    def _profile(cls, profile: str) -> str:
        return _known("profile", [profile], list(PROFILES))[0]


class RetrainingResource(dg.ConfigurableResource["RetrainingResource"]):
    """When enough conversations are new; either is enough."""

    conversations: int = Field(default=500, ge=1, description="New train conversations.")
    share: float = Field(default=0.05, gt=0, description="New ones, of those that the model was trained on.")


def sources_here(layout: Layout) -> list[str]:
    """Those whose conversations are on this machine, and a team's own."""
    own = own_exports(CATALOG)
    return [name for name in CATALOG if name in own or layout.conversations(name).exists()]


def trained_mixes(layout: Layout) -> dict[str, Checkpoint]:
    """Those that have a checkpoint: results compare them all, so all of them are trained on what is new."""
    found = {mix: final_checkpoint(layout, mix) for mix in MIXES}
    return {mix: checkpoint for mix, checkpoint in found.items() if checkpoint is not None}


@dg.op(description="The whole graph on the sample workspace.")
def run_demo(context: dg.OpExecutionContext, config: DemoConfig) -> None:
    _run_graph(context, [SAMPLE], "--mix", SAMPLE, "--profile", config.profile)


@dg.op(description="Files, conversations, pairs and benchmark tasks of sources.")
def run_refresh_data(context: dg.OpExecutionContext, config: RefreshDataConfig, layout: LayoutResource) -> None:
    _run_graph(context, config.sources or sources_here(layout.layout()), "--data-only")


@dg.op(description="The whole graph, on what is new.")
def run_retrain(context: dg.OpExecutionContext, config: RetrainConfig, layout: LayoutResource) -> None:
    place = layout.layout()
    mixes = config.mixes or list(trained_mixes(place)) or ["all"]
    arguments = ("--mix", ",".join(mixes), "--profile", config.profile)
    _run_graph(context, config.sources or sources_here(place), *arguments)


def _run_graph(context: dg.OpExecutionContext, sources: Sequence[str], *arguments: str) -> None:
    """Run ``defs.run_graph`` in a process group of its own, which ends with this step, unless this is killed itself.

    Its steps are runs of their own, so a killed one is gone on from by launching the job again.
    """
    if not sources:
        raise dg.Failure("no source is on this machine; name some in the launchpad", allow_retries=False)
    command = [sys.executable, "-m", "thread_embed_assets.defs.run_graph", "--sources", ",".join(sources), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:  # noqa: S603  ourselves
        try:
            for line in child.stdout or ():
                context.log.info(line.rstrip())
        except BaseException:  # a person has stopped the run: an interrupt, which is no Exception
            # A milder signal ends the training process alone, which is then retried; all of it goes on from a kill.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            close_killed_runs(context.instance)
            raise
    if child.returncode:
        raise dg.Failure(f"it ended with status {child.returncode}; the lines above say why", allow_retries=False)


@dg.job(tags=ONE_AT_A_TIME, description="The whole graph on the sample workspace, as `make demo` runs it.")
def demo() -> None:
    run_demo()


@dg.job(
    tags=ONE_AT_A_TIME, description="Sources read again: files, conversations, pairs, benchmark tasks; nothing is trained."
)
def refresh_data() -> None:
    run_refresh_data()


@dg.job(
    tags=ONE_AT_A_TIME, description="Sources read again, models trained on them, scored, and promoted if they are better."
)
def retrain() -> None:
    run_retrain()


weekly_retraining = dg.ScheduleDefinition(
    name="weekly_retraining",
    job=retrain,
    cron_schedule="0 3 * * 0",
    description="Sundays at 3:00 UTC. What is as it was is not trained again.",
)


@dg.sensor(job=refresh_data, minimum_interval_seconds=300)
def changed_exports(context: dg.SensorEvaluationContext, layout: LayoutResource) -> dg.SensorResult:
    """An export of `own_chat.yaml` that is new, or whose content is: its data are made again."""
    found = look(own_exports(CATALOG), layout.layout(), from_json(json.loads(context.cursor or "{}")))
    for missing in found.missing.values():
        context.log.warning("an export is not there: %s", missing)
    cursor = json.dumps(to_json(found.seen))
    if not found.changed:
        return dg.SensorResult(skip_reason="no export has changed", cursor=cursor)
    config = dg.RunConfig(ops={"run_refresh_data": RefreshDataConfig(sources=list(found.changed))})
    return dg.SensorResult(run_requests=[dg.RunRequest(run_config=config)], cursor=cursor)


@dg.sensor(job=retrain, minimum_interval_seconds=3600)
def enough_new_conversations(
    context: dg.SensorEvaluationContext, layout: LayoutResource, retraining: RetrainingResource
) -> dg.RunRequest | dg.SkipReason:
    """Enough conversations have come since a model was trained, and all checks of what it would learn from have passed."""
    place = layout.layout()
    told = []
    for mix, checkpoint in trained_mixes(place).items():
        sources = [source for source in MIXES[mix] if place.pairs(HARD_NEGATIVES_FOLDER, source).exists()]
        found = news(checkpoint, sources, place)
        if not found.enough(retraining.conversations, retraining.share):
            told.append(f"{mix}: {found}")
            continue
        blocked = [f"{source}: {name}" for source in sources for name in not_passed(context.instance, INPUT_CHECKS, source)]
        if not blocked:
            return dg.RunRequest(run_key=f"{mix} {checkpoint.fingerprint} {of_json(found.now)}")
        told.append(f"{mix}: {found}, but blocked by {'; '.join(blocked[:3])}")
    return dg.SkipReason("; ".join(told) or "no model has been trained yet")


whole_graph_jobs = [demo, refresh_data, retrain]
schedules = [weekly_retraining]
sensors = [changed_exports, enough_new_conversations]
