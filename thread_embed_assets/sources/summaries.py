"""Summaries that people wrote for a source's threads: the truth of the summary task."""

from __future__ import annotations

import json
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source

SIDE_FILE = "threads.jsonl"


def read_summaries(folder: Path, source: Source) -> dict[str, str]:
    """Conversation id to its summary; empty where the source brings none.

    A Slack export may hold ``threads.jsonl`` beside ``channels.json``: one object a line with ``channel``, ``thread_ts`` and
    ``summary``.

    Raises:
        InputError: a line is not such an object.
    """
    path = folder / SIDE_FILE
    if source.format != "slack_export" or not path.exists():
        return {}
    found: dict[str, str] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                found[f"{entry['channel']}:{entry['thread_ts']}"] = str(entry["summary"])
            except (ValueError, KeyError, TypeError) as error:
                problem = f"not an object with channel, thread_ts and summary ({error!r})"
                raise InputError(f"{path}:{number}", problem, "Mend or remove that line") from error
    return found
