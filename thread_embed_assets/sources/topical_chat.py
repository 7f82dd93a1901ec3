"""Topical-Chat (Gopalakrishnan et al. 2019, https://github.com/alexa/Topical-Chat): two people talking, without times.

Each file maps a dialogue id to its turns. There are only two parties, so each turn answers the one before it, which
is its parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thread_embed_assets.chat.model import Conversation, Message, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.text_files import read_json

CHANNEL = "topical_chat"
_SPLITS = {"train": Split.TRAIN, "valid": Split.TRAIN, "test": Split.TEST}  # the dev share is taken from train later


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """Every dialogue, file by file; one file is held at a time.

    Raises:
        InputError: a file is not JSON, or a dialogue or turn lacks a field; it names the dialogue and turn.
    """
    for path in sorted(folder.rglob("*.json")):
        dialogues = read_json(path)
        if not isinstance(dialogues, dict):
            raise InputError(path, "is not a mapping of dialogue ids", "Fetch the source again")
        split = _SPLITS.get(path.stem.split("_")[0])
        for dialogue, content in dialogues.items():
            turns = content.get("content") if isinstance(content, dict) else None
            if not isinstance(turns, list):
                raise InputError(
                    f"{path}, dialogue {dialogue}", "has no list 'content'", "Mend it, or fetch the source again"
                )
            yield Conversation(
                id=dialogue,
                source=source.name,
                platform=source.platform,
                channel=CHANNEL,
                truth=source.truth,
                messages=[_message(turn, dialogue, position, path) for position, turn in enumerate(turns)],
                published_split=split,
                origin=path.relative_to(folder).as_posix(),
            )


def _message(turn: Any, dialogue: str, position: int, path: Path) -> Message:
    text = turn.get("message") if isinstance(turn, dict) else None
    agent = turn.get("agent") if isinstance(turn, dict) else None
    if not isinstance(text, str) or not isinstance(agent, str):
        place = f"{path}, dialogue {dialogue}, turn {position}"
        raise InputError(place, "lacks the text fields 'message' and 'agent'", "Mend it, or fetch the source again")
    parents = (f"{dialogue}:{position - 1}",) if position else ()
    return Message(id=f"{dialogue}:{position}", author=agent, text=text, parents=parents)
