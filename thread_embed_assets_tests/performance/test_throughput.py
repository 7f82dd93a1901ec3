"""The measuring script runs at a tiny size and prints what it says; its times are never judged here."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from thread_embed_assets.storage.parallel import WORKERS_VARIABLE
from thread_embed_assets_tests.performance import throughput
from thread_embed_assets_tests.performance.throughput import (
    AIMS,
    CLEANING,
    GROWTH,
    NORMALISE,
    STRATEGIES,
    DrawnChat,
    measure,
)

TINY, DRAWN = 300, 400


def test_it_prints_one_json_object_with_every_measurement_at_both_sizes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All in this process, since to start eighteen takes most of a minute."""
    monkeypatch.setenv(WORKERS_VARIABLE, "1")
    monkeypatch.setattr(throughput, "_pin", lambda: None)
    monkeypatch.setattr(throughput, "_in_a_process", lambda what, size, folder, all_cores=False: measure(what, size, folder))
    throughput.main(["--messages", str(TINY)])
    found = json.loads(capsys.readouterr().out)
    assert found["aims"] == AIMS
    assert found["machine"]["cpu"] and found["machine"]["cores"] >= 1
    assert {"python", "duckdb", "pyarrow"} <= found["versions"].keys()
    assert found["cleaning"].keys() == set(CLEANING)
    assert found["normalise"].keys() == set(NORMALISE)
    assert found["pairs"].keys() == {*STRATEGIES, "overall"}
    runs = {**found["cleaning"], **found["normalise"], **{name: found["pairs"][name] for name in STRATEGIES}}
    for name, (small, large) in runs.items():
        assert (small["messages"], large["messages"]) == (TINY, GROWTH * TINY)
        assert 0 < small["rows"] < large["rows"]
        assert all(run[key] > 0 for run in (small, large) for key in ("seconds", "cpu_seconds", "per_second", "peak_mib"))
        assert found["memory_growth"][name] > 0
    assert TINY <= runs["with_language"][0]["rows"] < TINY + 50
    assert found["all_cores"].keys() == found["speed_up_of_all_cores"].keys() == {"with_language", *STRATEGIES}
    for name, run in found["all_cores"].items():
        assert run["rows"] == runs[name][-1]["rows"]
    assert found["pairs"]["overall"]["rows"] == sum(found["pairs"][name][1]["rows"] for name in STRATEGIES)
    assert all(value > 0 for value in found["reached"].values())


def test_a_measurement_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    one = throughput._in_a_process("with_language", TINY, tmp_path)
    all_cores = throughput._in_a_process("with_language", TINY, tmp_path, all_cores=True)
    assert TINY <= one["rows"] == all_cores["rows"] < TINY + 50


def test_the_drawn_chat_is_the_same_each_time_and_looks_like_chat() -> None:
    first, again = (list(islice(DrawnChat(DRAWN), 40)) for _ in range(2))
    assert first == again
    texts = [m.text for c in first for m in c.messages if len(m.text.split()) >= 5]
    assert len(set(texts)) == len(texts)
    assert all(len(c.roster) > 100 and {m.author for m in c.messages} <= c.roster for c in first)
    replies = [(m, c) for c in first for m in c.messages if m.parents]
    named = sum(m.text.split(":")[0] in c.roster for m, c in replies)
    assert 0.3 < named / len(replies) < 0.6
