from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.summaries import read_summaries

from .conftest import MakeSource

ENTRY = {"channel": "general", "thread_ts": "1741165330.101905", "title": "t", "summary": "what it was about"}


def write(folder: Path, *lines: str) -> Path:
    (folder / "threads.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def test_summaries_by_conversation_id(tmp_path: Path, make_source: MakeSource) -> None:
    other = ENTRY | {"channel": "ops", "summary": "grün"}
    folder = write(tmp_path, json.dumps(ENTRY), json.dumps(other, ensure_ascii=False))
    found = read_summaries(folder, make_source("slack_export"))
    assert found == {"general:1741165330.101905": "what it was about", "ops:1741165330.101905": "grün"}


def test_sources_without_summaries(tmp_path: Path, make_source: MakeSource) -> None:
    assert read_summaries(tmp_path, make_source("slack_export")) == {}
    assert read_summaries(write(tmp_path, json.dumps(ENTRY)), make_source("irc_annotated", platform="irc")) == {}


@pytest.mark.parametrize(
    "line", ['{"channel": "general"', "[]", '"text"', "", '{"channel": "general", "thread_ts": "1.0"}', "null", "7"]
)
def test_a_wrong_line_is_told(tmp_path: Path, make_source: MakeSource, line: str) -> None:
    folder = write(tmp_path, json.dumps(ENTRY), line)
    with pytest.raises(InputError, match="not an object with channel, thread_ts and summary") as caught:
        read_summaries(folder, make_source("slack_export"))
    assert caught.value.place == f"{tmp_path / 'threads.jsonl'}:2"
    assert "Mend or remove that line" in caught.value.remedy
