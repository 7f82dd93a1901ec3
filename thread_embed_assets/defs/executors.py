"""Where the steps of a run are executed: in processes of this machine, or as jobs of a Ray cluster.

A step's code does not know. It finds its inputs below ``THREAD_EMBED_ROOT``, which the cluster's nodes either share or
bring up to date from ``THREAD_EMBED_REMOTE_ROOT``, and the instance in the database that ``dagster.yaml`` names.
"""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.parallel import WORKERS_VARIABLE

EXECUTOR_VARIABLE = "THREAD_EMBED_EXECUTOR"
ADDRESS_VARIABLE = "THREAD_EMBED_RAY_ADDRESS"
CPUS_VARIABLE = "THREAD_EMBED_RAY_CPUS"
GPUS_VARIABLE = "THREAD_EMBED_RAY_GPUS"

PROCESSES = "processes"
RAY = "ray"
_LOCAL_ADDRESS = "http://127.0.0.1:8265"
_INSTALL = 'Install the extra: pip install -c constraints.txt "thread-embed-assets[cluster]"'


def executor_name() -> str:
    """What ``THREAD_EMBED_EXECUTOR`` chooses.

    Raises:
        InputError: it is neither ``processes`` nor ``ray``.
    """
    chosen = os.environ.get(EXECUTOR_VARIABLE) or PROCESSES
    if chosen not in (PROCESSES, RAY):
        raise InputError(EXECUTOR_VARIABLE, f"there is no executor {chosen!r}", f"Set it to {PROCESSES} or {RAY}")
    return chosen


def executor() -> dg.ExecutorDefinition:
    """The chosen executor, for every job.

    On Ray a step asks for ``THREAD_EMBED_RAY_CPUS`` cores and starts as many worker processes, so that nodes are not
    overbooked.

    Raises:
        InputError: an unknown executor, a package that is not installed, an address that is not HTTP, a wrong number.
    """
    if executor_name() == PROCESSES:
        return dg.multiprocess_executor.configured({"max_concurrent": 2})
    address = os.environ.get(ADDRESS_VARIABLE) or _LOCAL_ADDRESS
    if not address.startswith(("http://", "https://")):
        remedy = f"Give the address of Ray's job server, such as {_LOCAL_ADDRESS}; ray:// and HOST:6379 are other servers"
        raise InputError(ADDRESS_VARIABLE, f"{address!r} is not an HTTP address", remedy)
    cpus = _count(CPUS_VARIABLE, default=1, least=1)
    try:
        import ray.job_submission  # noqa: F401  absent, it would fail only once a run has begun
        from dagster_ray import ray_executor
    except ImportError as error:
        raise InputError(f"{EXECUTOR_VARIABLE}={RAY}", f"a package is not installed ({error})", _INSTALL) from error
    told = {EXECUTOR_VARIABLE: RAY, GPUS_VARIABLE: gpus(), WORKERS_VARIABLE: cpus}
    settings = {"address": address, "num_cpus": cpus, "env_vars": [f"{name}={value}" for name, value in told.items()]}
    chosen: dg.ExecutorDefinition = ray_executor.configured({"ray": settings})
    return chosen


def gpus() -> int:
    """How many GPUs a step that trains or embeds asks Ray for; a cluster without any would keep it waiting for ever."""
    return _count(GPUS_VARIABLE, default=0, least=0)


def gpu_tags() -> dict[str, Any]:
    """Tags of an op that a GPU makes fast."""
    return {"dagster-ray/config": {"num_gpus": gpus()}} if gpus() else {}


def _count(variable: str, default: int, least: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise InputError(variable, f"{text!r} is not a whole number from {least} up", "Mend it, or leave it away")
    return int(text)
