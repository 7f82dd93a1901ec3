"""The measuring script runs at a tiny size and prints what it says; times are never judged here."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from thread_embed_assets_tests.performance.thread_store import drawn_messages, main


def test_threads_interleave_and_times_rise() -> None:
    drawn = list(drawn_messages(600))
    numbers = [number for number, _ in drawn]
    assert len({message.id for _, message in drawn}) == 600
    assert [message.time for _, message in drawn] == sorted(message.time for _, message in drawn)
    assert 40 < len(set(numbers)) < 140 and sum(a == b for a, b in pairwise(numbers)) < 100


def test_the_report_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--messages", "200", "--asked", "8"])
    found = json.loads(capsys.readouterr().out)
    assert found["messages"] == 200 and found["threads"] > 20
    for step in ("retrieve", "retrieve_without_vector", "add"):
        assert found[step]["cpu_p50_ms"] > 0 and 0 < found[step]["p50_ms"] <= found[step]["p95_ms"]
    assert found["reached"] == {name: found["retrieve"][name] < found["aim_ms"] for name in ("p50_ms", "cpu_p50_ms")}
