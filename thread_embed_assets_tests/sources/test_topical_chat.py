from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.chat.model import Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources import topical_chat
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.fetch import RawDataset

from .conftest import MakeSource


def turns(*texts: str) -> dict[str, Any]:
    return {"content": [{"message": text, "agent": f"agent_{n % 2 + 1}"} for n, text in enumerate(texts)]}


@pytest.fixture
def source(make_source: MakeSource) -> Source:
    return make_source("topical_chat", platform="dialogue")


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / "conversations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def test_each_turn_answers_the_one_before(tmp_path: Path, source: Source) -> None:
    write(tmp_path, "valid_rare.json", {"t_1": turns("Hi", "Hello", "Bye")})
    [conversation] = topical_chat.parse(tmp_path, source)
    assert (conversation.id, conversation.channel, conversation.roster) == ("t_1", "topical_chat", frozenset())
    assert [m.author for m in conversation.messages] == ["agent_1", "agent_2", "agent_1"]
    assert [m.parents for m in conversation.messages] == [(), ("t_1:0",), ("t_1:1",)]
    assert conversation.start is None


def test_the_files_name_gives_the_split(tmp_path: Path, source: Source) -> None:
    for name in ("valid_freq", "valid_rare", "test_freq", "train"):
        write(tmp_path, f"{name}.json", {name: turns("Hi")})
    found = {c.id: c.published_split for c in topical_chat.parse(tmp_path, source)}
    assert found == {"valid_freq": Split.TRAIN, "valid_rare": Split.TRAIN, "train": Split.TRAIN, "test_freq": Split.TEST}


def test_a_truncated_file_is_named_with_line_and_column(tmp_path: Path, source: Source) -> None:
    path = write(tmp_path, "valid_freq.json", {"t_1": turns("Hi", "Hello")})
    path.write_text("\n".join(path.read_text(encoding="utf-8").split("\n")[:6]), encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON") as caught:
        list(topical_chat.parse(tmp_path, source))
    assert caught.value.place.startswith(f"{path}:6:")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ([], "valid_freq.json"),
        ({"t_1": {}}, "dialogue t_1"),
        ({"t_1": {"content": [{"message": "Hi", "agent": "agent_1"}, {"message": 3, "agent": "agent_2"}]}}, "t_1, turn 1"),
        ({"t_1": {"content": ["Hi"]}}, "t_1, turn 0"),
    ],
)
def test_a_malformed_dialogue_is_named(tmp_path: Path, source: Source, content: Any, place: str) -> None:
    write(tmp_path, "valid_freq.json", content)
    with pytest.raises(InputError) as caught:
        list(topical_chat.parse(tmp_path, source))
    assert caught.value.place.endswith(place)


@pytest.mark.real_data
def test_real_files_hold_two_parties_taking_turns(real_source: Callable[[str], tuple[Source, RawDataset]]) -> None:
    source, raw = real_source("topical_chat")
    found = list(topical_chat.parse(raw.folder, source))
    assert len(found) == len({c.id for c in found}) == 3 * 539
    assert all(a.author != b.author for c in found for a, b in zip(c.messages, c.messages[1:], strict=False))
