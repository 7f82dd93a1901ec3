"""Small conversations tables and a fake encoder for the tests of benchmark and release."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.embeddings import Role
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES, microseconds
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

NOON = 1_600_000_000.0
WORDS = [
    a + b + c
    for a in ("ba", "de", "fi", "gor", "lu")
    for b in ("ka", "lam", "mi", "no")
    for c in ("tus", "vex", "ry", "zed")
]


@dataclass
class Thread:
    """A conversation as the tables hold it; ``lines`` are (person id, text), ``replies`` the places of messages' parents."""

    id: str
    lines: Sequence[tuple[str, str]]
    split: str = "test"
    truth: str = "explicit"
    channel: str = "general"
    start: float | None = NOON
    replies: Mapping[int, int] = field(default_factory=dict)


@dataclass
class HashEncoder:
    """Bags of hashed words; remembers what it was asked to embed."""

    fingerprint: str = "fake"
    size: int = 64
    prompts: bool = False
    seen: list[str] = field(default_factory=list)

    def role_key(self, role: Role) -> str:
        return role if self.prompts else ""

    def encode(self, texts: Sequence[str], role: Role) -> npt.NDArray[np.float64]:
        self.seen += texts
        vectors = np.zeros((len(texts), self.size))
        for row, text in enumerate(texts):
            for word in ["", *text.casefold().split()]:
                vectors[row, int(hashlib.sha1(word.encode()).hexdigest(), 16) % self.size] += 1
        return vectors


def person(number: int) -> str:
    return f"p_{number:010x}"


def talk(number: int, draw: Random, messages: int = 8, **more: object) -> Thread:
    """A thread about five words of its own, told by three people who sometimes mention each other."""
    topic = draw.sample(WORDS, 5)
    lines = []
    for _ in range(messages):
        speaker, other = draw.sample(range(3), 2)
        words = [*draw.sample(topic, 3), *draw.sample(WORDS, 4)]
        mention = f"<@{person(10 * number + other)}> " if draw.random() < 0.4 else ""
        lines.append((person(10 * number + speaker), mention + " ".join(words)))
    return Thread(f"c{number:04d}", lines, **more)  # type: ignore[arg-type]


def talks(count: int, seed: int = 1, dev: int = 0, **more: object) -> list[Thread]:
    """``count`` threads, the first ``dev`` of them in dev, three a day."""
    draw = Random(seed)
    return [
        talk(n, draw, split="dev" if n < dev else "test", start=NOON + 86_400 * (n // 3) + 600 * (n % 3), **more)
        for n in range(count)
    ]


def write_conversations(path: Path, threads: Iterable[Thread], source: str = "made") -> tuple[TableHandle, TableHandle]:
    with write_tables(path, {"conversations": CONVERSATIONS, "messages": MESSAGES}) as writer:
        for thread in threads:
            times = [None if thread.start is None else thread.start + 60.0 * n for n in range(len(thread.lines))]
            people = {person for person, _ in thread.lines}
            start, end = microseconds(times[0]), microseconds(times[-1])
            head = (thread.id, source, "slack", thread.channel, thread.truth, thread.split, start, end)
            writer.add("conversations", (*head, len(thread.lines), len(people), "en", 1.0, "made up"))
            for position, (author, text) in enumerate(thread.lines):
                sent = microseconds(times[position])
                parents = [f"{thread.id}-{thread.replies[position]}"] if position in thread.replies else []
                writer.add("messages", (thread.id, position, f"{thread.id}-{position}", author, text, sent, parents))
    return open_table(path, "conversations"), open_table(path, "messages")
