"""The embedded sample is what the demo, and half of the tests, stand on."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.sources import slack_export
from thread_embed_assets.sources.catalog import CATALOG, PackageOrigin, Source, load_catalog
from thread_embed_assets.sources.slack_export import parse
from thread_embed_assets.sources.summaries import read_summaries
from thread_embed_assets.storage.fingerprint import of_folder

Thread = list[dict[str, Any]]


@pytest.fixture(scope="module")
def source() -> Source:
    return load_catalog()["sample_workspace"]


@pytest.fixture(scope="module")
def folder(source: Source) -> Path:
    assert isinstance(source.origin, PackageOrigin)
    return CATALOG.parent / source.origin.path


@pytest.fixture(scope="module")
def entries(folder: Path) -> dict[str, Thread]:
    """The entries of every day, by channel."""
    found: dict[str, Thread] = defaultdict(list)
    for path in sorted(folder.glob("*/*.json")):
        found[path.parent.name] += json.loads(path.read_text(encoding="utf-8"))
    return dict(found)


@pytest.fixture(scope="module")
def threads(entries: dict[str, Thread]) -> dict[tuple[str, str], Thread]:
    """Messages of people by (channel, thread_ts), threads of two or more messages only."""
    found: dict[tuple[str, str], Thread] = defaultdict(list)
    for channel, said in entries.items():
        for entry in said:
            if "thread_ts" in entry and not entry.get("bot_id") and entry.get("subtype") in (None, "thread_broadcast"):
                found[channel, entry["thread_ts"]].append(entry)
    return {key: said for key, said in found.items() if len(said) > 1}


@pytest.fixture(scope="module")
def side(folder: Path) -> Thread:
    return [json.loads(line) for line in (folder / "threads.jsonl").read_text(encoding="utf-8").splitlines()]


def test_it_is_as_large_as_promised(entries: dict[str, Thread], threads: dict[tuple[str, str], Thread]) -> None:
    assert len(entries) >= 6
    assert len(threads) >= 150
    assert sum(map(len, threads.values())) >= 1_200


def test_the_catalogue_names_these_files(folder: Path, source: Source) -> None:
    assert of_folder(folder) == source.sha256


def test_every_summary_belongs_to_a_thread_and_every_thread_has_one(
    folder: Path, source: Source, side: Thread, threads: dict[tuple[str, str], Thread]
) -> None:
    keys = [(entry["channel"], entry["thread_ts"]) for entry in side]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(threads)
    conversations = {c.id for c in parse(folder, source)}
    assert set(read_summaries(folder, source)) <= conversations
    assert all(entry["title"].strip() and len(entry["summary"].split()) >= 6 for entry in side)
    assert len({entry["summary"] for entry in side}) == len({entry["title"] for entry in side}) == len(side)


def test_summaries_are_in_other_words(side: Thread, threads: dict[tuple[str, str], Thread]) -> None:
    """No summary is copied from its thread: no six words in a row stand in it."""
    for entry in side:
        text = " ".join(m["text"] for m in threads[entry["channel"], entry["thread_ts"]]).lower()
        said = " ".join(re.findall(r"\w+", text))
        words = re.findall(r"\w+", entry["summary"].lower())
        assert not any(" ".join(words[n : n + 6]) in said for n in range(len(words) - 5)), entry["title"]


def test_confounders_point_at_other_threads(side: Thread, threads: dict[tuple[str, str], Thread]) -> None:
    confounded = [entry for entry in side if entry["confounder"]]
    assert len(confounded) >= 40
    for entry in confounded:
        assert tuple(entry["confounder"]) in threads
        assert tuple(entry["confounder"]) != (entry["channel"], entry["thread_ts"])


def test_all_ids_are_known(folder: Path, entries: dict[str, Thread]) -> None:
    users = json.loads((folder / "users.json").read_text(encoding="utf-8"))
    channels = json.loads((folder / "channels.json").read_text(encoding="utf-8"))
    members = {user["id"] for user in users}
    rooms = {channel["id"] for channel in channels}
    assert {channel["name"] for channel in channels} == set(entries)
    assert all(set(channel["members"]) <= members for channel in channels)
    for said in entries.values():
        for entry in said:
            assert entry.get("user", next(iter(members))) in members
            assert set(re.findall(r"<@([^>|]+)", entry.get("text", ""))) <= members
            assert set(re.findall(r"<#([^>|]+)", entry.get("text", ""))) <= rooms
    assert len(members) == len(users) == len(slack_export.members(folder))


def test_timestamps_are_unique_and_in_the_file_of_their_day(folder: Path, entries: dict[str, Thread]) -> None:
    for path in folder.glob("*/*.json"):
        stamps = [entry["ts"] for entry in json.loads(path.read_text(encoding="utf-8"))]
        assert stamps == sorted(stamps), path
    for said in entries.values():
        stamps = [entry["ts"] for entry in said]
        assert len(stamps) == len(set(stamps))


def test_threads_begin_with_their_first_message(entries: dict[str, Thread]) -> None:
    for said in entries.values():
        stamps = {entry["ts"] for entry in said}
        for entry in said:
            root = entry.get("thread_ts", entry["ts"])
            assert root in stamps
            assert root <= entry["ts"]


def test_threads_of_a_channel_interleave(threads: dict[tuple[str, str], Thread]) -> None:
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (channel, _), said in threads.items():
        stamps = [float(m["ts"]) for m in said]
        spans[channel].append((min(stamps), max(stamps)))
    overlapping = sum(
        any(start < other_end and other_start < end for other_start, other_end in room if other_start != start)
        for room in spans.values()
        for start, end in room
    )
    assert overlapping > len(threads) / 2


def test_it_has_what_a_real_export_has(entries: dict[str, Thread]) -> None:
    everything = [entry for said in entries.values() for entry in said]
    subtypes = {entry.get("subtype") for entry in everything}
    assert {"channel_join", "bot_message"} <= subtypes
    assert any("edited" in entry or entry.get("subtype") == "message_changed" for entry in everything)
    text = "\n".join(entry.get("text", "") for entry in everything)
    for pattern in (r"<@U\w+>", r"<https?://", r"`[^`]+`", r"```", r":[a-z_]+:", r"\b[a-z]+_[a-z]+\b"):
        assert re.search(pattern, text), pattern


def test_people_speak_in_more_than_one_thread(threads: dict[tuple[str, str], Thread]) -> None:
    rooms: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for key, said in threads.items():
        for entry in said:
            rooms[entry["user"]].add(key)
    assert len(rooms) >= 10
    assert sum(len(seen) > 3 for seen in rooms.values()) >= 10
