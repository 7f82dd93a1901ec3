from __future__ import annotations

from thread_embed_assets.benchmark.readings import Reading, in_formats, whole_and_by_window


def test_each_reading_is_offered_whole_first_and_then_by_window() -> None:
    readings = whole_and_by_window([*in_formats(["times"]), Reading(fitted=True)])
    assert [str(reading) for reading in readings] == ["times", "plain, fitted", "times by window", "plain, fitted by window"]
