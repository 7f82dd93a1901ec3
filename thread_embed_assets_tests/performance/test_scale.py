"""The measuring script runs at a tiny size and prints what it says; times and memory are never judged here."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.parsers import parse
from thread_embed_assets_tests.performance import scale
from thread_embed_assets_tests.performance.scale import FULL, MAKE, QUARTERS, Watch


def made(name: str, folder: Path, size: int) -> Path:
    files = folder / "data" / "raw" / name / "files"
    MAKE[name](files, size)
    return files


def test_dialogues_have_the_shape_of_the_real_ones(tmp_path: Path) -> None:
    files = made("discord_dialogues", tmp_path, 2_000)
    rows = pq.read_table(files / "data" / "train.parquet")["text"].to_pylist()
    assert len(rows) == 2_000 == len(set(rows))
    assert all(row.startswith("<|im_start|>user\n") and row.rstrip().endswith("<|im_end|>") for row in rows)
    talks = list(parse(files, load_catalog()["discord_dialogues"]))
    assert len(talks) == 2_000
    assert 2.2 < sum(len(c.messages) for c in talks) / len(talks) < 2.4
    assert {m.author for c in talks for m in c.messages} == {"user", "assistant"}


def test_irc_days_have_the_shape_of_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_DAY_LINES", (300, 40))
    monkeypatch.setattr(scale, "_SHARD_MESSAGES", 400)
    files = made("ubuntu_irc", tmp_path, 1_000)
    shards = sorted(files.rglob("*_ubuntu.jsonl.gz"))
    assert [path.name for path in shards] == ["00000_ubuntu.jsonl.gz", "00001_ubuntu.jsonl.gz"]
    rows = [json.loads(line) for path in shards for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [row["id"] for row in rows[:3]] == ["2004-07-05-#ubuntu-0", "2004-07-05-#ubuntu-1", "2004-07-06-#ubuntu-0"]
    assert sum(row["text"].count("\n") + 1 for row in rows) == 1_000
    talks = list(parse(files, load_catalog()["ubuntu_irc"]))
    assert Counter(m.kind for c in talks for m in c.messages) == {"text": 1_000}
    assert {c.channel for c in talks} == {"#ubuntu-0", "#ubuntu-1"}
    assert all(m.author in c.roster for c in talks for m in c.messages)


@pytest.mark.parametrize("name", sorted(FULL))
def test_what_is_drawn_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    one, two = (made(name, tmp_path / folder, 500) for folder in "ab")
    source = load_catalog()[name]
    assert list(parse(one, source)) == list(parse(two, source))


def test_it_prints_one_json_object_with_rates_and_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", scale.__name__, "discord_dialogues", "--folder", str(tmp_path)]
    arguments = ["--make", "600", "--messages", "1000", "--steps", "conversations", "response"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    making, found = map(json.loads, done.stdout.splitlines())
    assert (making["source"], making["made"]) == ("discord_dialogues", 600)
    assert found["steps"].keys() == found["full_size_hours"].keys() == {"conversations", "response"}
    parsed = found["steps"]["conversations"]["counts"]["parsed_conversations"]
    assert found["share_measured"] == round(parsed / FULL["discord_dialogues"], 4)
    assert 1_000 <= found["steps"]["conversations"]["messages"] < 1_010
    for run in found["steps"].values():
        assert run["rows"] > 0
        assert run["under_memory_aim"]
        assert all(len(quarters) == QUARTERS for quarters in run["mib_by_quarter"].values())
        assert 30 < run["peak_mib"]["process"] < 1_500
        assert all(run[key] > 0 for key in ("seconds", "cpu_seconds", "messages_per_second", "messages_per_cpu_second"))


def test_memory_is_told_by_quarters_of_the_time() -> None:
    watch = Watch([(second, 100.0 + second, 10.0 if second == 5 else 5.0) for second in range(1, 9)])
    assert watch.quarters(1) == [102.0, 104.0, 106.0, 108.0]
    assert watch.quarters(2) == [5.0, 5.0, 10.0, 5.0]
    assert Watch().quarters(1) == [0.0] * QUARTERS


def test_the_largest_worker_is_watched(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'x = bytes([1]) * 200_000_000; import time; "
    )
    code += "time.sleep(2)']).wait()"
    watch = Watch()
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        watch.until_done(process, 0.1)
    assert max(watch.quarters(1)) < 100 < 190 < max(watch.quarters(2)) < 300
