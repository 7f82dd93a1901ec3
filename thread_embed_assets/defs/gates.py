"""The state of blocking checks, read back: a run launched alone must not go on from data that a check has refused.

``blocking=True`` stops what is downstream in the same run only, so runs that train, score and release ask for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from thread_embed_assets.errors import InputError

_STATES = {AssetCheckExecutionRecordStatus.PLANNED: "is running, or was cut off"}


def not_passed(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], partition: str | None) -> list[str]:
    """The checks whose latest execution on this partition failed or is not done, or that have never been run on it."""
    found = []
    for key in checks:
        filtered = None if partition is None else PartitionKeyFilter(key=partition)
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, partition_filter=filtered)
        if not history or history[0].status is not AssetCheckExecutionRecordStatus.SUCCEEDED:
            state = _STATES.get(history[0].status, "failed") if history else "has not run"
            found.append(f"{key.asset_key.to_user_string()}/{key.name} ({state})")
    return found


def keys_of(checks: Iterable[dg.AssetChecksDefinition]) -> list[dg.AssetCheckKey]:
    return [key for definition in checks for key in definition.check_keys]


def require_passed(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey], partition: str | None = None) -> None:
    """Raises InputError unless every blocking check has passed on this partition's data, or on that without partitions."""
    names = not_passed(instance, checks, partition)
    if names:
        remedy = "Look at the checks' pages, mend the data, and materialise it again together with its checks"
        raise InputError(f"partition {partition!r}" if partition else "its inputs", f"blocked by {', '.join(names)}", remedy)
