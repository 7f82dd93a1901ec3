"""The measuring script runs at a tiny size; times are never judged here."""

from __future__ import annotations

import json

from thread_embed_assets_tests.benchmark.stored import HashEncoder
from thread_embed_assets_tests.performance.search_index import drawn_threads, measure


def test_the_messages_are_as_many_as_asked_for_and_the_same_each_time() -> None:
    threads = drawn_threads(500)
    assert sum(len(thread.lines) for thread in threads) == 500
    assert 20 < len(threads) < 100 and len({thread.id for thread in threads}) == len(threads)
    assert threads == drawn_threads(500)


def test_only_what_has_gone_on_is_embedded_again() -> None:
    found = json.loads(json.dumps(measure(1_500, 4, HashEncoder(), "plain")))
    threads = found["threads"]
    assert found["first_index"]["threads_embedded"] == threads > 100
    assert found["second_index"]["threads_embedded"] == -(-threads // 100)
    assert 0 < found["search"]["p50_ms"] <= found["search"]["p95_ms"]
    assert found["first_index"]["seconds"] > 0 and found["index_mib"] > 0
