"""A Pipes client that starts no process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass
class _Completed:
    messages: list[dict[str, Any]]

    def get_custom_messages(self) -> list[dict[str, Any]]:
        return self.messages


class FakePipes(dg.PipesSubprocessClient):
    """Remembers the commands it was asked to run, and answers with the same messages each time."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        super().__init__()
        self.messages = messages
        self.commands: list[Sequence[str]] = []

    def run(self, *, command: Sequence[str], **_: Any) -> Any:
        self.commands.append(command)
        return _Completed(self.messages)
