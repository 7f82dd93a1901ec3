"""The one exception that people are meant to read."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Input or stored data cannot be used; the message names the place and the remedy.

    Args:
        place: file, or ``file:line``, or another name that leads to the fault.
        problem: what is wrong there.
        remedy: what the reader can do about it.
    """

    def __init__(self, place: str | Path, problem: str, remedy: str) -> None:
        self.place = str(place)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self.place}: {problem}. {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.place, self.problem, self.remedy)
