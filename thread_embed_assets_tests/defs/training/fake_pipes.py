"""A Pipes client that starts no process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from thread_embed_assets.training.job import Job


@dataclass
class _Completed:
    messages: list[dict[str, Any]]

    def get_custom_messages(self) -> list[dict[str, Any]]:
        return self.messages


class FakePipes(dg.PipesSubprocessClient):
    """Remembers the commands and jobs it was asked to run, and answers with the same messages each time."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        super().__init__()
        self.messages = messages
        self.commands: list[Sequence[str]] = []
        self.jobs: list[Job] = []

    def run(self, *, command: Sequence[str], extras: Mapping[str, Any], **_: Any) -> Any:  # type: ignore[override]
        self.commands.append(command)
        self.jobs.append(Job.load(Path(extras["job"])))
        return _Completed(self.messages)
