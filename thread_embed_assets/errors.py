"""The exception that people are meant to read, and its kind that passes with time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


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


class TransientError(InputError):
    """What stands in the way passes with time: a busy server, a cut network, another process. The same call may do later."""


def wrong_field(
    error: ValidationError, place: str | Path, remedy: str, inside: str = "", whole: str = "(file)"
) -> InputError:
    """The first fault that pydantic found, as an InputError that names the field.

    Args:
        place: what was validated.
        remedy: what the reader can do about it.
        inside: goes before the field's name, where what was validated is itself a part.
        whole: stands for the field where no single one is at fault.
    """
    first = error.errors()[0]
    field = ".".join(str(part) for part in (*filter(None, [inside]), *first["loc"])) or whole
    return InputError(f"{place}, field '{field}'", first["msg"], remedy)
