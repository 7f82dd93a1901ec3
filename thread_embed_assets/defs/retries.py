"""What is tried again, and after which pause: what passes with time is, what was given or is stored is not.

A request inside a step has its own attempts first (``sources/download.py``, ``language_models/service.py``); a run whose
worker died is run again by the daemon (``run_retries`` of the instance).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError

from thread_embed_assets.errors import InputError, TransientError

# The pauses, in seconds, are some 30, 90 and 210; a server that is down for longer needs somebody.
NETWORK = dg.RetryPolicy(max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# Some 10 and 30: a step on a GPU that was killed (memory, a spot machine) goes on from its last checkpoint.
KILLED = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def only_what_passes() -> Iterator[None]:
    """Let a step's retry policy see TransientErrors and killed processes alone; whatever else is raised fails at once."""
    try:
        yield
    except (TransientError, DagsterPipesExecutionError, dg.Failure):
        raise
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    # Bad data can raise anything, and a policy would try all of it again.
    except Exception as error:
        raise dg.Failure(f"{type(error).__name__}, told below", allow_retries=False) from error
