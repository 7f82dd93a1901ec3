"""200 secrets in a Slack export, and names: none reaches a table, a manifest or a log, and the checks see unmasked ones."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import duckdb
import pytest

from thread_embed_assets.benchmark.tasks import build_tasks
from thread_embed_assets.chat import quality
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.language_models.summaries import SummaryOptions, build_summaries
from thread_embed_assets.pairs import quality as pair_quality
from thread_embed_assets.pairs.build import STRATEGIES, PairOptions, build_pairs
from thread_embed_assets.pairs.hard_negatives import HardNegativeOptions, mine
from thread_embed_assets.sources.conversations import build_conversations
from thread_embed_assets.sources.fetch import fetch
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.chat.planted_secrets import Planted, planted_secrets
from thread_embed_assets_tests.defs.export import PEOPLE, export_source, write_export

PLANTED = planted_secrets()
NAME = "planted"
NAMES = [form for name in PEOPLE.values() for part in name.split() for form in (part, part.lower(), f"@{part.lower()}_")]


def plant(export: Path) -> Path:
    """One secret in each of 200 messages of an export, escaped and linked as Slack does, and names in the others."""
    places = [(path, n) for path in sorted(export.glob("*/*.json")) for n, _ in enumerate(json.loads(path.read_text()))]
    chosen = dict(zip(Random(7).sample(places, len(PLANTED)), PLANTED, strict=True))
    for path in {path for path, _ in chosen}:
        messages = json.loads(path.read_text())
        for number, message in enumerate(messages):
            if planted := chosen.get((path, number)):
                message["text"] += " " + _as_slack_writes(planted)
            else:
                message["text"] += f", as {NAMES[number % len(NAMES)]} said"
        path.write_text(json.dumps(messages))
    return export


def _as_slack_writes(planted: Planted) -> str:
    text = html.escape(planted.sentence, quote=False)
    linked = {"email": "mailto", "phone_international": "tel"}.get(planted.kind)
    if linked and planted.sentence.endswith("please"):
        return text.replace(planted.secret, f"<{linked}:{planted.secret}|{planted.secret}>")
    return text


def build(root: Path) -> tuple[Layout, Normalised, list[TableHandle]]:
    """The export through every step that writes text."""
    layout = Layout(root)
    source = export_source(NAME, plant(write_export(root / "export")))
    fetch(source, layout)
    built = build_conversations(source, layout)
    tables = (built.conversations, built.messages)
    options = SummaryOptions(writer="extractive")
    summaries = build_summaries(NAME, built, options, layout.summaries(NAME), root / "data" / "answers.sqlite")
    pairs = [build_pairs(s, NAME, *tables, PairOptions(), layout.pairs(s, NAME), summaries=summaries) for s in STRATEGIES]
    mine(pairs, HardNegativeOptions(), layout.pairs("hard_negatives", NAME))
    build_tasks(NAME, *tables, {}, layout.tasks(NAME))
    return layout, built, pairs


def written(layout: Layout) -> Iterator[tuple[str, str]]:
    """All that was written outside the raw and the private folder: every row of every table, and every other file."""
    for path in sorted(layout.data.rglob("*")):
        if not path.is_file() or path.is_relative_to(layout.raw(NAME)) or path.is_relative_to(layout.private):
            continue
        yield str(path), path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    rows = connection.execute(f'SELECT "{table}"::VARCHAR FROM "{table}"').fetchall()
                    yield f"{path}, {table}", "\n".join(row[0] for row in rows)


def surviving(texts: Iterator[tuple[str, str]]) -> set[tuple[str, str]]:
    """Kinds of secrets of which a piece stands in a text, with the text's place."""
    return {
        (planted.kind, place)
        for place, text in texts
        for planted in PLANTED
        if any(piece in text for piece in (planted.secret, *planted.distinctive))
    }


def test_no_secret_survives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        layout, built, pairs = build(tmp_path)
    assert surviving(written(layout)) == set()
    pieces = [part for name in PEOPLE.values() for part in name.lower().split()]
    assert [place for place, text in written(layout) if any(piece in text.lower() for piece in pieces)] == []
    assert caplog.text
    assert not any(piece in caplog.text.lower() for piece in pieces)
    assert surviving(iter([("log", caplog.text)])) == set()
    assert [verdict.description for verdict in verdicts(built, pairs) if not verdict.passed] == []
    assert quality.speaker_names_gone(built, layout.people(NAME)).passed
    assert built.messages.rows > 300


def verdicts(built: Normalised, pairs: list[TableHandle]) -> list[quality.Verdict]:
    return [quality.no_private_data(built), *map(pair_quality.no_private_data, pairs)]


def test_with_masking_off_they_survive_and_every_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thread_embed_assets.chat.filters.mask_secrets", lambda text: text)
    layout, built, pairs = build(tmp_path)
    found = surviving(written(layout))
    tables = {place.rpartition(", ")[2] for _, place in found}
    assert {"messages", "pairs", "queries", "corpus", "hard_negatives"} <= tables
    assert {kind for kind, _ in found} == {planted.kind for planted in PLANTED}
    assert [verdict.passed for verdict in verdicts(built, pairs)] == [False] * 5
    assert quality.no_private_data(built).numbers["faults"] > 150
