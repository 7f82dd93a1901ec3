"""A small Slack export of an invented team, drawn from a seed, and its catalogue entry."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from wordfreq import top_n_list

from thread_embed_assets.sources.catalog import Source

PEOPLE = {"U1": "Quillona Vestrup", "U2": "Tibbold Sarnow", "U3": "Ondrake Pellwyn", "U4": "Maristel Duvoy"}
CHANNELS = ("garden", "workshop")
MARCH = 1_741_000_000
# Everyday words in so many combinations that two threads hardly ever say five in a row alike.
_WORDS = [word for word in top_n_list("en", 4_000) if word.isascii() and word.isalpha() and 5 <= len(word) <= 9]
_SMALL = (
    *("the", "my", "our", "this", "that", "and", "with", "near", "before", "after"),
    *("under", "because", "while", "without", "about", "from", "into", "has", "is", "was"),
)


def _sentence(draw: Random, topic: list[str], asks: bool) -> str:
    words = [*draw.sample(topic, 2), *draw.sample(_WORDS, 4)]
    draw.shuffle(words)
    text = " ".join(f"{draw.choice(_SMALL)} {draw.choice(_SMALL)} {word}" for word in words)
    return f"why is it that {text}?" if asks else f"i think {text}"


def write_export(folder: Path, threads: int = 40, messages: int = 9, seed: int = 1) -> Path:
    """``threads`` English threads of ``messages`` messages in two channels, one every three hours."""
    draw = Random(seed)
    days: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for number in range(threads):
        channel = CHANNELS[number % 2]
        topic = draw.sample(_WORDS, 4)
        start = MARCH + number * 10_800
        for position in range(messages):
            ts = f"{start + 60 * position}.000100"
            day = datetime.fromtimestamp(start + 60 * position, UTC).date().isoformat()
            user = draw.choice(list(PEOPLE))
            text = _sentence(draw, topic, position % 3 == 0)
            entry = {"type": "message", "ts": ts, "user": user, "text": text, "thread_ts": f"{start}.000100"}
            days[folder / channel / f"{day}.json"].append(entry)
    users = [{"id": key, "name": name.split()[0].lower(), "real_name": name} for key, name in PEOPLE.items()]
    days[folder / "users.json"] = users
    days[folder / "channels.json"] = [{"id": f"C{i}", "name": name} for i, name in enumerate(CHANNELS)]
    for path, content in days.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def tear_threads(folder: Path, whole: int = 1) -> None:
    """Spoil all but so many days of a channel as an export without thread ids would: every message by itself."""
    for day in sorted(folder.glob("*/*.json"))[whole:]:
        entries = json.loads(day.read_text(encoding="utf-8"))
        day.write_text(json.dumps([entry | {"thread_ts": entry["ts"]} for entry in entries]), encoding="utf-8")


def export_source(name: str, export: Path) -> Source:
    return Source.model_validate(
        {
            "name": name,
            "title": "A small export",
            "platform": "slack",
            "format": "slack_export",
            "origin": {"kind": "folder", "path": str(export)},
            "revision": "1",
            "licence": "none",
            "redistribute": False,
            "truth": "explicit",
            "roles": ["train", "benchmark"],
            "priority": "P2",
            "workspace": True,
            "split": {"by": "channel_time", "test_share": 0.3, "dev_share": 0.2, "embargo_hours": 1},
            "filter_bounds": [0.0, 0.5],
        }
    )
