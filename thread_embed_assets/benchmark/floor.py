"""Whether a model keeps what its base can do in general, as the last run of the general tasks tells (:mod:`.regression`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.regression import NOT_RUN, RESULTS
from thread_embed_assets.errors import InputError

MOST_MEAN_DROP = 0.01


@dataclass(frozen=True)
class Floor:
    """What is known of the floor.

    Attributes:
        holds: None where it is not known: nothing was run, not all of it, or it was run with another model.
        words: why, in a sentence.
    """

    holds: bool | None
    words: str


def general_floor(folder: Path, identity: str) -> Floor:
    """The floor holds when the listed tasks drop by no more than a point on average, and none by more than its own floor.

    Args:
        folder: where ``regression.write_regression`` has written.
        identity: of the model that is asked about.

    Raises:
        InputError: the file of results is damaged.
    """
    path = folder / RESULTS
    if not path.exists():
        return Floor(None, f"{NOT_RUN}: the general tasks have not been run here (job regress)")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        model, rows, single = found.get("identity", ""), found["comparisons"], float(found["floor"])
        drops = [float(row["drop"]) for row in rows if row["drop"] is not None]
        below = [str(row["listed"]) for row in rows if row["below_floor"]]
    except (ValueError, KeyError, TypeError) as error:
        problem = f"these are no results of the general tasks ({type(error).__name__}: {error})"
        raise InputError(path, problem, "Materialise regression_results again") from error
    if model != identity:
        return Floor(None, f"{NOT_RUN}: the general tasks were last run with {model or 'a model that does not say which'}")
    if not drops:
        return Floor(None, f"{NOT_RUN}: the data of the general tasks are not on this machine")
    mean = sum(drops) / len(drops)
    words = f"{len(drops)} of {len(rows)} listed tasks drop by {100 * mean:+.2f} points on average"
    if mean > MOST_MEAN_DROP or below:
        more = f"; below {100 * single:g} points: {', '.join(below)}" if below else ""
        return Floor(False, f"{words}, {100 * MOST_MEAN_DROP:g} is allowed{more}")
    if len(drops) < len(rows):
        return Floor(None, f"{NOT_RUN} as a whole: {words}")
    return Floor(True, f"{words}, {100 * MOST_MEAN_DROP:g} is allowed")
