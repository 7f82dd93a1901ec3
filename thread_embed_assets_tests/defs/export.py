"""A small Slack export of an invented team, drawn from a seed, and its catalogue entry."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from thread_embed_assets.sources.catalog import Source

PEOPLE = {"U1": "Quillona Vestrup", "U2": "Tibbold Sarnow", "U3": "Ondrake Pellwyn", "U4": "Maristel Duvoy"}
CHANNELS = ("garden", "workshop")
MARCH = 1_741_000_000
_WORDS = """
ladder shovel greenhouse lantern barrel kettle pump fence rope basket wheel bench bucket window carpet engine
cupboard mirror candle blanket hammer orchard bridge curtain pillow saddle teapot anchor compass helmet
breaks leaks rattles works squeaks freezes wobbles stops shines bends melts floats sticks cracks turns
"""
_NOUNS, _VERBS = _WORDS.split()[:30], _WORDS.split()[30:]
_TIMES = (
    "again today",
    "after lunch",
    "since monday",
    "every morning",
    "when it rains",
    "all night long",
    "for no reason",
    "as usual",
    "most of the time",
    "near the door",
    "on the second floor",
)


def _sentence(draw: Random, topic: list[str], asks: bool) -> str:
    first, second = draw.sample(topic, 2)
    other = draw.choice(_NOUNS)
    tail = f"{first} {draw.choice(_VERBS)} {draw.choice(_TIMES)} and the {second} next to my {other} {draw.choice(_VERBS)}"
    return f"does anyone know why the {tail}?" if asks else f"i think the {tail} {draw.choice(_TIMES)}"


def write_export(folder: Path, threads: int = 40, messages: int = 9, seed: int = 1) -> Path:
    """``threads`` English threads of ``messages`` messages in two channels, one every three hours."""
    draw = Random(seed)
    days: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for number in range(threads):
        channel = CHANNELS[number % 2]
        topic = draw.sample(_NOUNS, 4)
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
