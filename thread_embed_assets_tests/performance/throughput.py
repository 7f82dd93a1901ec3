"""How fast chat is normalised and pairs are built, on one core and on all, and whether memory stays flat; prints JSON.

    python -m thread_embed_assets_tests.performance.throughput --messages 20000

Each measurement runs in a process of its own, on one core, at N and at 10 N messages; then those that have workers run at
10 N on all cores. The chat is drawn from the words of the sample workspace, so lengths, mentions, links, code and names are
those of real chat; it needs no network and no mirror. Times are without the drawing of the chat and after a warm-up.
``per_second`` is by the clock; ``per_cpu_second`` leaves out what other processes took, and is the one to compare on a busy
machine.
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
from collections.abc import Iterable, Iterator, Sequence
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

AIMS = {
    "cleaned_messages_per_second": 50_000,
    "cleaned_messages_with_language_per_second": 25_000,
    "messages_per_second": 25_000,
    "pairs_per_second": 100_000,
}
GROWTH = 10
CLEANING = ("cleaning", "cleaning_with_language")
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


def _normalise(chat: Iterable[Conversation], path: Path) -> Normalised:
    from thread_embed_assets.chat.normalise import normalise
    from thread_embed_assets.chat.people import Masker
    from thread_embed_assets.chat.splits import boundaries, by_channel_and_time

    def plan(starts: Any) -> Any:
        limits = boundaries(starts, dev_share=0.1, test_share=0.15)
        return by_channel_and_time(_SOURCE, limits, embargo_hours=1)

    return normalise(chat, Masker(_SOURCE, bytes(16), {}), plan, path)


def _clean(chat: Iterable[Conversation], with_language: bool) -> int:
    """What happens to the texts alone: markup, secrets, names and, if asked, language. How many messages there were."""
    from thread_embed_assets.chat.cleaning import clean
    from thread_embed_assets.chat.language import identify
    from thread_embed_assets.chat.people import Masker
    from thread_embed_assets.chat.secrets import mask_secrets

    masker = Masker(_SOURCE, bytes(16), {})
    done = 0
    for conversation in chat:
        texts = []
        for message in conversation.messages:
            text = mask_secrets(clean(message.text, conversation.platform))
            texts.append(masker.mask(text, conversation.roster, conversation.onlookers))
            masker.person(message.author)
        if with_language:
            identify(texts)
        done += len(texts)
    return done


def measure(what: str, messages: int, folder: Path) -> dict[str, Any]:
    """Run one measurement in this process, and in workers if it may run on several cores.

    Args:
        what: one of :data:`CLEANING`, of :data:`NORMALISE`, or of :data:`STRATEGIES`; a strategy reads what
            ``with_language`` left in ``folder``.
        messages: how many messages are drawn.
        folder: where tables are written.

    Returns:
        rows (messages or pairs), seconds, rates and ``peak_mib``, the largest resident set of this process so far in MiB.
    """
    from thread_embed_assets.storage.parallel import worker_count

    _normalise(DrawnChat(_WARM_UP_MESSAGES), folder / "warm.duckdb")
    chat = DrawnChat(0 if what in STRATEGIES else messages)
    drawn: Iterable[Conversation] = chat
    if worker_count() > 1:  # workers would wait for what is drawn meanwhile
        drawn = list(chat)
        chat.seconds = chat.cpu_seconds = 0.0
    if what in STRATEGIES:
        _pairs(what, folder / "warm.duckdb", folder)
    start, cpu = time.perf_counter(), _cpu_seconds()
    if what in STRATEGIES:
        rows = _pairs(what, folder / f"{messages}.duckdb", folder)
    elif what in CLEANING:
        rows = _clean(drawn, what == "cleaning_with_language")
    elif what == "with_language":
        rows = _normalise(drawn, folder / f"{messages}.duckdb").counts["parsed_messages"]
    else:
        with patch("thread_embed_assets.chat.filters.identify", return_value=("en", 1.0)):
            rows = _normalise(drawn, folder / "plain.duckdb").counts["parsed_messages"]
    seconds, cpu_seconds = time.perf_counter() - start - chat.seconds, _cpu_seconds() - cpu - chat.cpu_seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"messages": messages, **_rates(rows, seconds, cpu_seconds), "peak_mib": round(peak, 1)}


def _pairs(strategy: str, path: Path, folder: Path) -> int:
    from thread_embed_assets.chat.normalise import open_normalised
    from thread_embed_assets.pairs.build import PairOptions, build_pairs
    from thread_embed_assets.pairs.schema import Strategy

    stored = open_normalised(path)
    tables = stored.conversations, stored.messages
    return build_pairs(Strategy(strategy), _SOURCE, *tables, PairOptions(), folder / f"{strategy}.duckdb").rows


def _cpu_seconds() -> float:
    """Of this process and of its workers that have ended."""
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + workers.ru_utime + workers.ru_stime


def _rates(rows: int, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    return {
        "rows": rows,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "per_second": round(rows / seconds),
        "per_cpu_second": round(rows / cpu_seconds),
    }


def _in_a_process(what: str, messages: int, folder: Path, *, all_cores: bool = False) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--messages", str(messages), "--measure", what, "--folder", str(folder)]
    command += ["--all-cores"] if all_cores else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(messages: int) -> dict[str, Any]:
    """All measurements at ``messages`` and ten times as many, with the machine, the versions and the aims."""
    sizes = (messages, GROWTH * messages)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            what: [_in_a_process(what, size, folder) for size in sizes] for what in (*CLEANING, *NORMALISE, *STRATEGIES)
        }
        on_all = {what: _in_a_process(what, sizes[-1], folder, all_cores=True) for what in ("with_language", *STRATEGIES)}
    large = [found[strategy][-1] for strategy in STRATEGIES]
    overall = _rates(*(sum(run[key] for run in large) for key in ("rows", "seconds", "cpu_seconds")))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform(), "pinned": _CAN_PIN},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "cleaning": {what: found[what] for what in CLEANING},
        "normalise": {what: found[what] for what in NORMALISE},
        "pairs": {**{what: found[what] for what in STRATEGIES}, "overall": overall},
        "all_cores": on_all,
        "speed_up_of_all_cores": {
            what: round(found[what][-1]["seconds"] / run["seconds"], 2) for what, run in on_all.items()
        },
        "memory_growth": {what: round(runs[-1]["peak_mib"] / runs[0]["peak_mib"], 2) for what, runs in found.items()},
        "aims": AIMS,
        "reached": {
            "cleaned_messages_per_second": found["cleaning"][-1]["per_second"],
            "cleaned_messages_per_cpu_second": found["cleaning"][-1]["per_cpu_second"],
            "cleaned_messages_with_language_per_second": found["cleaning_with_language"][-1]["per_second"],
            "cleaned_messages_with_language_per_cpu_second": found["cleaning_with_language"][-1]["per_cpu_second"],
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


def cpu_name() -> str:
    """The processor's, as the system gives it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000, help="N; every measurement is made at N and at 10 N")
    measurements = [*CLEANING, *NORMALISE, *STRATEGIES]
    parser.add_argument("--measure", choices=measurements, help="only this, in this process, at N")
    parser.add_argument("--all-cores", action="store_true", help="with --measure: on all cores rather than one")
    parser.add_argument("--folder", type=Path, help="with --measure: where the tables are")
    given = parser.parse_args(arguments)
    if given.measure and not given.folder:
        parser.error("--measure needs --folder")
    if given.measure and not given.all_cores:
        _pin()
    print(json.dumps(measure(given.measure, given.messages, given.folder) if given.measure else report(given.messages)))


if __name__ == "__main__":
    main()
