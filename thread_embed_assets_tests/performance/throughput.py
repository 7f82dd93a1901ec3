"""How fast one core normalises chat and builds pairs, and whether memory stays flat; prints one JSON object.

    python -m thread_embed_assets_tests.performance.throughput --messages 20000

Each measurement runs in a process of its own, on one core, at N and at 10 N messages. The chat is drawn from the words of
the sample workspace, so lengths, mentions, links, code and names are those of real chat; it needs no network and no mirror.
Times are without the drawing of the chat and after a warm-up. ``per_second`` is by the clock; ``per_cpu_second`` leaves out
what other processes took, and is the one to compare on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from thread_embed_assets.chat.model import Conversation
    from thread_embed_assets.chat.normalise import Normalised

AIMS = {"messages_per_second": 25_000, "pairs_per_second": 100_000}
GROWTH = 10
NORMALISE = ("with_language", "without_language")
STRATEGIES = ("thread", "response", "temporal")

_SOURCE = "drawn_chat"
_PACKAGES = ("duckdb", "pyarrow", "numpy", "ftfy", "fasttext-predict")
_WARM_UP_MESSAGES = 500
_FILE_MESSAGES = 500
_FILES_PER_CHANNEL = 20
_ROSTER = 150
_SPEAKERS = 6
_LONGEST_THREAD = 24
_ADDRESSED_SHARE = 0.45  # of replies in Ubuntu IRC
_DRAWN_WORD_SHARE = 0.4  # high enough that no drawn message is a near-copy of another


@dataclass
class DrawnChat:
    """Conversations drawn from ids, the same in every process; ``seconds`` and ``cpu_seconds`` are what drawing took."""

    messages: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _lines: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from thread_embed_assets.sources.catalog import load_catalog
        from thread_embed_assets.sources.parsers import parse

        source = load_catalog()["sample_workspace"]
        package = Path(sys.modules["thread_embed_assets"].__file__ or "").parent
        sample = parse(package / "sources" / "sample_workspace", source)
        self._lines = [m.text.split(" ") for c in sample for m in c.messages if m.kind == "text"]

    def __iter__(self) -> Iterator[Conversation]:
        drawn = 0
        for number in range(-(-self.messages // _FILE_MESSAGES)):
            with self._timed():
                conversations = self._file(number)
            for conversation in conversations:
                if drawn >= self.messages:
                    return
                drawn += len(conversation.messages)
                yield conversation

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu

    def _file(self, number: int) -> list[Conversation]:
        from thread_embed_assets.chat.model import Conversation, Truth
        from thread_embed_assets.storage.fingerprint import seed

        draw = Random(seed(_SOURCE, number))
        words = [word.lower() for line in self._lines for word in line if word.isalnum()]
        roster = sorted({f"{draw.choice(words)[:9]}{draw.randrange(1000)}" for _ in range(_ROSTER)})
        channel = number // _FILES_PER_CHANNEL
        clock = 1_600_000_000.0 + 86_400.0 * (number % _FILES_PER_CHANNEL)
        found: list[Conversation] = []
        left = _FILE_MESSAGES
        while left > 0:
            size = min(left, 2 + int(draw.random() * draw.random() * _LONGEST_THREAD))
            thread = f"{number}-{len(found)}"
            messages = self._messages(thread, size, clock + 3_600.0 * len(found) / 20, draw.sample(roster, _SPEAKERS), draw)
            found.append(
                Conversation(
                    thread, _SOURCE, "slack", f"channel-{channel}", Truth.EXPLICIT, messages, roster=frozenset(roster)
                )
            )
            left -= size
        return found

    def _messages(self, thread: str, size: int, clock: float, speakers: list[str], draw: Random) -> list[Any]:
        from thread_embed_assets.chat.model import Message

        messages: list[Message] = []
        for place in range(size):
            author = draw.choice(speakers)
            line = [
                draw.choice(draw.choice(self._lines)) if draw.random() < _DRAWN_WORD_SHARE else word
                for word in draw.choice(self._lines)
            ]
            parents: tuple[str, ...] = ()
            if place:
                parent = messages[draw.randrange(place)]
                parents = (parent.id,)
                if draw.random() < _ADDRESSED_SHARE:
                    line.insert(0, f"{parent.author}:")
            messages.append(Message(f"{thread}-{place}", author, " ".join(line), clock + 40.0 * place, parents))
        return messages


def _normalise(chat: DrawnChat, path: Path) -> Normalised:
    from thread_embed_assets.chat.normalise import normalise
    from thread_embed_assets.chat.people import Masker
    from thread_embed_assets.chat.splits import boundaries, by_channel_and_time

    def plan(starts: Any) -> Any:
        limits = boundaries(starts, dev_share=0.1, test_share=0.15)
        return by_channel_and_time(_SOURCE, limits, embargo_hours=1)

    return normalise(chat, Masker(_SOURCE, bytes(16), {}), plan, path)


def measure(what: str, messages: int, folder: Path) -> dict[str, Any]:
    """Run one measurement in this process.

    Args:
        what: one of :data:`NORMALISE`, or of :data:`STRATEGIES`; a strategy reads what ``with_language`` left in ``folder``.
        messages: how many messages are drawn.
        folder: where tables are written.

    Returns:
        rows (messages or pairs), seconds, rates and ``peak_mib``, the largest resident set of this process so far in MiB.
    """
    from thread_embed_assets.chat.normalise import open_normalised
    from thread_embed_assets.pairs.build import PairOptions, build_pairs
    from thread_embed_assets.pairs.schema import Strategy

    if what == "without_language":
        patch("thread_embed_assets.chat.normalise.identify", return_value=("en", 1.0)).start()
    warm = _normalise(DrawnChat(_WARM_UP_MESSAGES), folder / "warm.duckdb")
    table = folder / f"{messages}.duckdb"
    if what in NORMALISE:
        chat = DrawnChat(messages)
        target = table if what == "with_language" else folder / "plain.duckdb"
        start, cpu = time.perf_counter(), time.process_time()
        rows = _normalise(chat, target).counts["parsed_messages"]
        seconds = time.perf_counter() - start - chat.seconds
        cpu_seconds = time.process_time() - cpu - chat.cpu_seconds
    else:
        strategy, stored = Strategy(what), open_normalised(table)
        build_pairs(strategy, _SOURCE, warm.conversations, warm.messages, PairOptions(), folder / "warm_pairs.duckdb")
        start, cpu = time.perf_counter(), time.process_time()
        pairs = folder / f"{what}.duckdb"
        rows = build_pairs(strategy, _SOURCE, stored.conversations, stored.messages, PairOptions(), pairs).rows
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    rates = _rates(rows, seconds, cpu_seconds)
    return {"messages": messages, **rates, "peak_mib": round(peak, 1)}


def _rates(rows: int, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "per_second": round(rows / seconds),
        "per_cpu_second": round(rows / cpu_seconds),
    }


def _in_a_process(what: str, messages: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--messages", str(messages), "--measure", what, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(messages: int) -> dict[str, Any]:
    """All measurements at ``messages`` and ten times as many, with the machine, the versions and the aims."""
    sizes = (messages, GROWTH * messages)
    with tempfile.TemporaryDirectory() as folder:
        found = {what: [_in_a_process(what, size, Path(folder)) for size in sizes] for what in (*NORMALISE, *STRATEGIES)}
    large = [found[strategy][-1] for strategy in STRATEGIES]
    overall = _rates(*(sum(run[key] for run in large) for key in ("rows", "seconds", "cpu_seconds")))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform(), "pinned": _CAN_PIN},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "normalise": {what: found[what] for what in NORMALISE},
        "pairs": {**{what: found[what] for what in STRATEGIES}, "overall": overall},
        "memory_growth": {what: round(runs[-1]["peak_mib"] / runs[0]["peak_mib"], 2) for what, runs in found.items()},
        "aims": AIMS,
        "reached": {
            "messages_per_second": found["with_language"][-1]["per_second"],
            "messages_per_cpu_second": found["with_language"][-1]["per_cpu_second"],
            "pairs_per_second": overall["per_second"],
            "pairs_per_cpu_second": overall["per_cpu_second"],
        },
    }


_CAN_PIN = hasattr(os, "sched_setaffinity")


def _pin() -> None:
    if _CAN_PIN:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000, help="N; every measurement is made at N and at 10 N")
    parser.add_argument("--measure", choices=[*NORMALISE, *STRATEGIES], help="only this, in this process, at N")
    parser.add_argument("--folder", type=Path, help="with --measure: where the tables are")
    given = parser.parse_args(arguments)
    if given.measure and not given.folder:
        parser.error("--measure needs --folder")
    _pin()
    print(json.dumps(measure(given.measure, given.messages, given.folder) if given.measure else report(given.messages)))


if __name__ == "__main__":
    main()
