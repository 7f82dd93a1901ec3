"""Invented talks of one channel, for the tests of disentangling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from thread_embed_assets.chat.model import Kind, Message

MINUTE = 60.0
START = 1_600_000_000.0

_NAMES = ("arvel", "brisca", "corvin", "dellwyn", "emberly", "fenwick", "gorlan", "hestrid", "ivory_", "jorvik")
_TOPICS = (
    "printer driver cartridge paper tray queue spooler",
    "kernel module firmware wireless dongle signal channel",
    "tomato seedling compost greenhouse watering harvest",
    "bicycle chain gear brake saddle tyre puncture",
)


def said(lines: Iterable[tuple[str, str]], apart: float = 20.0, first: int = 0) -> list[Message]:
    """Messages of (author, text), so many seconds apart, with their number as id."""
    return [Message(str(n), author, text, START + n * apart) for n, (author, text) in enumerate(lines, first)]


def members(threads: Iterable[Sequence[Message]]) -> list[list[str]]:
    return [[message.id for message in thread] for thread in threads]


def babble(count: int, seed: int = 0, speakers: int = 200, addressed: float = 0.6) -> list[Message]:
    """A busy channel drawn from a few topics: talks of two or three people, four at a time, with new words all the while."""
    draw = Random(seed)
    talks: list[tuple[list[str], list[str]]] = []
    messages: list[Message] = []
    time = START
    for number in range(count):
        if len(talks) < 4 or draw.random() < 0.05:
            people = [f"{draw.choice(_NAMES)}{draw.randrange(speakers)}" for _ in range(draw.choice((2, 2, 3)))]
            talks = [*talks[-3:], (people, draw.choice(_TOPICS).split())]
        people, words = draw.choice(talks)
        author, other = draw.sample(people, 2)
        text = " ".join([*draw.sample(words, 3), f"w{draw.randrange(10 * count)}"])
        time += draw.choice((1.0, 5.0, 20.0))
        messages.append(Message(str(number), author, f"{other}: {text}" if draw.random() < addressed else text, time))
    return messages


def write_log(folder: Path, name: str, messages: Sequence[Message], first_annotated: int = 0) -> None:
    """An annotated log as ``sources/irc.py`` reads it; ``name`` is ``SPLIT/YYYY-MM-DD...``, ids are line numbers."""
    lines: list[str] = []
    links: list[str] = []
    for number, message in enumerate(messages):
        clock = datetime.fromtimestamp(message.time or 0.0, UTC).strftime("[%H:%M]")
        lines.append(f"=== {message.text}" if message.kind is Kind.SYSTEM else f"{clock} <{message.author}> {message.text}")
        if number >= first_annotated:
            links += [f"{parent} {number} -" for parent in message.parents or (number,)]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ascii.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / f"{name}.annotation.txt").write_text("\n".join(links) + "\n", encoding="utf-8")


def annotated_babble(count: int, seed: int = 0) -> list[Message]:
    """:func:`babble` in which every message of a talk but its first answers the talk's last one, and is marked so."""
    last: dict[str, str] = {}
    messages: list[Message] = []
    for message in babble(count, seed, addressed=1.0):
        other = message.text.partition(":")[0]
        parent = last.get(other)
        text = message.text if parent else message.text.partition(": ")[2] + "?"
        messages.append(Message(message.id, message.author, text, message.time, (parent,) if parent else ()))
        last[message.author] = message.id
    return messages
