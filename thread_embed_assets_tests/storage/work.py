"""What workers do in the tests of parallel work; a module of its own, so that workers start quickly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.parallel import ordered_map


def square(number: int) -> int:
    """The square; odd numbers take longer, so that results come in another order than they are asked for."""
    time.sleep(0.004 if number % 2 else 0)
    return number * number


def process(_: int) -> int:
    return os.getpid()


def refuse_seven(number: int) -> int:
    if number == 7:
        raise InputError("file:7", "is no good", "Mend line 7")
    return number


def end_at_seven(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@dataclass
class Counting:
    """Remembers how often it was called."""

    start: int
    calls: int = 0

    def __call__(self, _: int) -> tuple[int, int]:
        self.calls += 1
        return os.getpid(), self.start + self.calls


def report(item: tuple[str, float]) -> None:
    folder, seconds = item
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(seconds)


def squares_in_workers(path: str) -> None:
    Path(path).write_text(" ".join(map(str, ordered_map(square, range(20), workers=2))))


def work_for_ever(folder: str) -> None:
    """Keep two workers busy, then let them wait for work most of the time."""

    def items() -> Iterator[tuple[str, float]]:
        yield from repeat((folder, 0.05), 20)
        for number in count():
            yield folder, 0.0
            time.sleep(0.1)
            if number == 10:
                (Path(folder) / "waiting").touch()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, ignore it
    for _ in ordered_map(report, items(), workers=2):
        pass
