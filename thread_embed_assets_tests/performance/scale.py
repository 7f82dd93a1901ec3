"""Builds a corpus of full size from drawn text, takes it through normalising and pair building, and watches memory.

    python -m thread_embed_assets_tests.performance.scale discord_dialogues --folder /tmp/scale --make 7300000
    python -m thread_embed_assets_tests.performance.scale discord_dialogues --folder /tmp/scale --messages 2000000
    python -m thread_embed_assets_tests.performance.scale ubuntu_irc --folder /tmp/scale --make 45000000 --messages 2000000

With ``--make`` the raw files of that size (rows of dialogue, or messages of IRC) are written; with ``--messages`` the first
so many of them are taken through, and one JSON object is printed: rows, seconds, rates, how large each process was in each
quarter of the time, and how long the whole size would take. Each step runs in a process of its own, as it does in Dagster.
Texts are drawn from the words of the sample workspace, nicks are invented.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import thread_embed_assets
from thread_embed_assets_tests.performance.throughput import cpu_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thread_embed_assets.chat.model import Conversation

FULL = {"discord_dialogues": 7_300_966, "ubuntu_irc": 45_000_000}
STEPS = ("conversations", "thread", "response", "temporal")
MEMORY_AIM_MIB = 1_500.0
QUARTERS = 4

_SEED = 20_040_705
_CHUNK = 20_000  # texts drawn at once
_TURNS = (0.0, 0.0, 0.8, 0.12, 0.06, 0.02)  # share of dialogues by turns: 2.3 a row
_WORDS_A_TURN, _WORDS_A_LINE = 9.0, 11.0  # means
_ADDRESSED, _ACTIONS, _LINKS, _CODE = 0.4, 0.02, 0.02, 0.01  # shares of lines
_DAY_LINES = (6_000, *[600] * 5, *[50] * 20)  # of each channel, on one day
_LINES_A_NICK = 8
_NICKS = 300_000
_FIRST_DAY = date(2004, 7, 5).toordinal()
_SHARD_MESSAGES = 500_000


@dataclass
class Drawn:
    """Texts of drawn words, the same for the same seed; a word is as frequent as in the sample workspace."""

    mean_words: float
    _words: NDArray[np.object_] = field(init=False, repr=False)
    _draw: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        package = Path(thread_embed_assets.__file__).parent
        files = sorted((package / "sources" / "sample_workspace").glob("*/*.json"))
        texts = (row.get("text", "") for path in files for row in json.loads(path.read_text(encoding="utf-8")))
        self._words = np.array([word for text in texts for word in re.findall(r"(?<!\S)[a-z']+(?!\S)", text)], dtype=object)
        self._draw = np.random.default_rng(_SEED)

    def texts(self, count: int) -> list[str]:
        lengths = 1 + self._draw.geometric(1 / self.mean_words, count)
        words = self._words[self._draw.integers(0, len(self._words), int(lengths.sum()))].tolist()
        ends = lengths.cumsum().tolist()
        texts = [" ".join(words[end - length : end]) for end, length in zip(ends, lengths.tolist(), strict=True)]
        for share, what in ((_LINKS, " https://example.org/a/page"), (_CODE, " `make all`")):
            for place in self._places(count, share):
                texts[place] += what
        for place in self._places(count, 0.25):
            texts[place] += "?"
        return texts

    def _places(self, count: int, share: float) -> list[int]:
        return (self._draw.random(count) < share).nonzero()[0].tolist()

    def integers(self, high: int, count: int) -> NDArray[np.int64]:
        return self._draw.integers(0, high, count)

    def some(self, shares: Sequence[float], count: int) -> NDArray[np.int64]:
        """Numbers drawn by their shares."""
        return np.searchsorted(np.cumsum(shares), self._draw.random(count), side="right").clip(0, len(shares) - 1)


def make_dialogues(folder: Path, rows: int) -> None:
    """``data/train.parquet`` of ``rows`` dialogues of two parties, written as ChatML in the column ``text``."""
    drawn = Drawn(_WORDS_A_TURN)
    path = folder / "data" / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        for start in range(0, rows, _CHUNK):
            turns = drawn.some(_TURNS, min(_CHUNK, rows - start)).tolist()
            texts = iter(drawn.texts(sum(turns)))
            dialogues = [
                "".join(
                    f"<|im_start|>{'assistant' if place % 2 else 'user'}\n{text}<|im_end|>\n"
                    for place, text in enumerate(islice(texts, count))
                )
                for count in turns
            ]
            writer.write_batch(pa.RecordBatch.from_pydict({"text": dialogues}))


def make_irc_days(folder: Path, messages: int) -> None:
    """Shards of gzipped JSON Lines, a row for each channel's day, until there are ``messages`` lines."""
    drawn = Drawn(_WORDS_A_LINE)
    folder = folder / "v0" / "documents"
    folder.mkdir(parents=True, exist_ok=True)
    rows = _days(drawn, messages)
    shard, more = 0, True
    while more:
        written = 0
        with gzip.open(folder / f"{shard:05}_ubuntu.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as file:
            for count, row in rows:
                file.write(json.dumps(row) + "\n")
                written += count
                if written >= _SHARD_MESSAGES:
                    break
            else:
                more = False
        shard += 1


def _days(drawn: Drawn, messages: int) -> Iterator[tuple[int, dict[str, Any]]]:
    day = _FIRST_DAY
    while True:
        for channel, lines in enumerate(_DAY_LINES):
            count = min(lines, messages)
            if not count:
                return
            yield count, _row(drawn, date.fromordinal(day).isoformat(), f"#ubuntu-{channel}", count)
            messages -= count
        day += 1


def _row(drawn: Drawn, day: str, channel: str, count: int) -> dict[str, Any]:
    names = [f"zorkle{number:06x}" for number in drawn.integers(_NICKS, 2 + count // _LINES_A_NICK).tolist()]
    authors = drawn.integers(len(names), count).tolist()
    called = drawn.integers(len(names), count).tolist()
    minutes = np.sort(drawn.integers(24 * 60, count)).tolist()
    ways = drawn.some((_ADDRESSED, _ACTIONS, 1.0), count).tolist()
    lines = []
    for minute, author, other, way, text in zip(minutes, authors, called, ways, drawn.texts(count), strict=True):
        time_of_day = f"[{minute // 60:02}:{minute % 60:02}]"
        if way == 0:
            lines.append(f"{time_of_day} <{names[author]}> {names[other]}: {text}")
        elif way == 1:
            lines.append(f"{time_of_day}  * {names[author]} {text}")
        else:
            lines.append(f"{time_of_day} <{names[author]}> {text}")
    about = {"license": "Public Domain", "channel": channel}
    return {"id": f"{day}-{channel}", "text": "\n".join(lines), "created": day, "metadata": about}


MAKE: dict[str, Callable[[Path, int], None]] = {"discord_dialogues": make_dialogues, "ubuntu_irc": make_irc_days}


@dataclass
class Watch:
    """The largest resident set, in MiB, of a process and of each of its workers, by quarter of the time it ran."""

    samples: list[tuple[float, float, float]] = field(default_factory=list)  # seconds, the process, its largest worker

    def until_done(self, process: subprocess.Popen[Any], every: float = 1.0) -> None:
        watched, start = psutil.Process(process.pid), time.monotonic()
        while process.poll() is None:
            try:
                own = watched.memory_info().rss
                workers = [child.memory_info().rss for child in watched.children(recursive=True)]
                self.samples.append((time.monotonic() - start, own / 2**20, max(workers, default=0) / 2**20))
            except psutil.NoSuchProcess:  # one of them has just ended
                pass
            time.sleep(every)

    def quarters(self, column: int) -> list[float]:
        end = self.samples[-1][0] + 1e-9 if self.samples else 1.0
        found = [0.0] * QUARTERS
        for sample in self.samples:
            quarter = int(QUARTERS * sample[0] / end)
            found[quarter] = round(max(found[quarter], sample[column]), 1)
        return found


def run_step(step: str, name: str, folder: Path, messages: int) -> dict[str, int]:
    """Run one step in this process on the first ``messages`` of the source; rows read and written."""
    from thread_embed_assets.chat.normalise import open_normalised
    from thread_embed_assets.pairs.build import PairOptions, build_pairs
    from thread_embed_assets.pairs.schema import Strategy
    from thread_embed_assets.pairs.volume import most_pairs
    from thread_embed_assets.sources import conversations
    from thread_embed_assets.sources.catalog import load_catalog
    from thread_embed_assets.storage.layout import Layout

    source, layout = load_catalog()[name], Layout(folder)
    if step == "conversations":
        parse = conversations.parse

        def first(*arguments: Any) -> Iterator[Conversation]:
            left = messages
            for conversation in parse(*arguments):
                yield conversation
                left -= len(conversation.messages)
                if left <= 0:
                    return

        with patch.object(conversations, "parse", first):
            built = conversations.build_conversations(source, layout)
        return {"messages": built.counts["parsed_messages"], "rows": built.messages.rows, **built.counts}
    stored = open_normalised(layout.conversations(name))
    path = layout.pairs(step, name)
    options = PairOptions(most_pairs=most_pairs(step, source.most_pairs))
    pairs = build_pairs(Strategy(step), name, stored.conversations, stored.messages, options, path)
    return {"messages": stored.messages.rows, "rows": pairs.rows, **pairs.counts}


def measure(step: str, name: str, folder: Path, messages: int, every: float = 1.0) -> dict[str, Any]:
    """Run one step in a process of its own, and watch it."""
    command = [sys.executable, "-m", __spec__.name, name, "--folder", str(folder), "--messages", str(messages)]
    before, start = _cpu_of_children(), time.monotonic()
    watch = Watch()
    with subprocess.Popen([*command, "--step", step], stdout=subprocess.PIPE, text=True) as process:
        watch.until_done(process, every)
        out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{step} of {name} failed")
    seconds, cpu_seconds = time.monotonic() - start, _cpu_of_children() - before
    counts: dict[str, int] = json.loads(out.splitlines()[-1])
    own, worker = watch.quarters(1), watch.quarters(2)
    return {
        "messages": counts["messages"],
        "rows": counts["rows"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "messages_per_second": round(counts["messages"] / seconds),
        "messages_per_cpu_second": round(counts["messages"] / cpu_seconds),
        "peak_mib": {"process": max(own), "worker": max(worker)},
        "mib_by_quarter": {"process": own, "worker": worker},
        "under_memory_aim": max(*own, *worker) < MEMORY_AIM_MIB,
        "counts": counts,
    }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(name: str, folder: Path, messages: int, steps: Sequence[str], every: float = 1.0) -> dict[str, Any]:
    """All steps on the first ``messages`` of a source, and how long its full size would take at that rate."""
    found = {step: measure(step, name, folder, messages, every) for step in steps}
    parsed = found["conversations"]["counts"] if "conversations" in found else {}
    unit = parsed.get("parsed_conversations" if name == "discord_dialogues" else "parsed_messages", 0)
    share = unit / FULL[name]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {package: version(package) for package in ("duckdb", "pyarrow", "numpy")},
        "source": name,
        "full_size": FULL[name],
        "share_measured": round(share, 4),
        "steps": found,
        "full_size_hours": {step: round(run["seconds"] / share / 3_600, 2) for step, run in found.items()} if share else {},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", choices=sorted(FULL))
    parser.add_argument("--folder", type=Path, required=True, help="the root folder; raw files go below its data/raw")
    parser.add_argument("--make", type=int, help="write the raw files: rows of dialogue, or messages of IRC")
    parser.add_argument("--messages", type=int, help="take the first so many messages through")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--step", choices=STEPS, help="only this one, in this process")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if given.make:
        start = time.monotonic()
        MAKE[given.source](given.folder / "data" / "raw" / given.source / "files", given.make)
        print(json.dumps({"source": given.source, "made": given.make, "seconds": round(time.monotonic() - start, 1)}))
    if given.step:
        print(json.dumps(run_step(given.step, given.source, given.folder, given.messages)))
    elif given.messages:
        print(json.dumps(report(given.source, given.folder, given.messages, given.steps)))


if __name__ == "__main__":
    main()
