"""The measuring script runs at a tiny size and prints what it says; its times are never judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice

from thread_embed_assets_tests.performance.throughput import AIMS, GROWTH, NORMALISE, STRATEGIES, DrawnChat

TINY = 400


def test_it_prints_one_json_object_with_every_measurement_at_both_sizes() -> None:
    command = [sys.executable, "-m", "thread_embed_assets_tests.performance.throughput", "--messages", str(TINY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["aims"] == AIMS
    assert found["machine"]["cpu"] and found["machine"]["cores"] >= 1
    assert {"python", "duckdb", "pyarrow"} <= found["versions"].keys()
    assert found["normalise"].keys() == set(NORMALISE)
    assert found["pairs"].keys() == {*STRATEGIES, "overall"}
    runs = {**found["normalise"], **{name: found["pairs"][name] for name in STRATEGIES}}
    for name, (small, large) in runs.items():
        assert (small["messages"], large["messages"]) == (TINY, GROWTH * TINY)
        assert 0 < small["rows"] < large["rows"]
        assert all(run[key] > 0 for run in (small, large) for key in ("seconds", "cpu_seconds", "per_second", "peak_mib"))
        assert found["memory_growth"][name] > 0
    assert TINY <= runs["with_language"][0]["rows"] < TINY + 50
    assert found["pairs"]["overall"]["rows"] == sum(found["pairs"][name][1]["rows"] for name in STRATEGIES)
    assert all(value > 0 for value in found["reached"].values())


def test_the_drawn_chat_is_the_same_each_time_and_looks_like_chat() -> None:
    first, again = (list(islice(DrawnChat(TINY), 40)) for _ in range(2))
    assert first == again
    texts = [m.text for c in first for m in c.messages if len(m.text.split()) >= 5]
    assert len(set(texts)) == len(texts)
    assert all(len(c.roster) > 100 and {m.author for m in c.messages} <= c.roster for c in first)
    replies = [(m, c) for c in first for m in c.messages if m.parents]
    named = sum(m.text.split(":")[0] in c.roster for m, c in replies)
    assert 0.3 < named / len(replies) < 0.6
