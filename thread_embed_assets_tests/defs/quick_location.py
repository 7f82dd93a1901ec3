"""The code location as it is, without what a test would wait for: a process for each step, and a schedule's Sunday."""

from __future__ import annotations

import dagster as dg

from thread_embed_assets import definitions


@dg.definitions
def defs() -> dg.Definitions:
    found = definitions.defs()
    for schedule in found.schedules or ():
        assert isinstance(schedule, dg.ScheduleDefinition)
        schedule._cron_schedule = "* * * * *"
    return dg.Definitions(
        assets=found.assets,
        asset_checks=found.asset_checks,
        jobs=found.jobs,
        schedules=found.schedules,
        sensors=found.sensors,
        resources=found.resources,
        executor=dg.in_process_executor,
    )
