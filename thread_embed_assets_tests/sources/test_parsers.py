from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.parsers import PARSERS, aliases, parse

from .conftest import MakeSource


def test_the_format_picks_the_parser(tmp_path: Path, make_source: MakeSource) -> None:
    (tmp_path / "test_freq.json").write_text(json.dumps({"t": {"content": [{"message": "Hi", "agent": "agent_1"}]}}))
    [conversation] = parse(tmp_path, make_source("topical_chat", name="talk", platform="dialogue", truth="explicit"))
    assert (conversation.source, conversation.platform, conversation.truth) == ("talk", "dialogue", "explicit")


def test_aliases_are_known_for_exports_only(tmp_path: Path, make_source: MakeSource) -> None:
    (tmp_path / "users.json").write_text(json.dumps([{"id": "U1", "name": "ada"}]))
    assert aliases(tmp_path, make_source("slack_export")) == {"U1": "ada"}
    assert aliases(tmp_path, make_source("irc_annotated")) == {}


@pytest.mark.parametrize("chat_format", sorted(PARSERS))
def test_files_that_are_not_there_are_missed_at_once(tmp_path: Path, make_source: MakeSource, chat_format: str) -> None:
    with pytest.raises(InputError, match="Materialise its raw_dataset first"):
        parse(tmp_path / "files", make_source(chat_format))
