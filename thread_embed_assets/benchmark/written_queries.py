"""Sentences that people wrote about held-out threads in words of their own: the queries of the summary task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.summaries import read_summaries

FOLDER = Path(__file__).with_name("written_queries")


@dataclass(frozen=True)
class WrittenQuery:
    """What somebody would ask to find a thread again.

    Attributes:
        text: the query.
        paraphrase: the same in other words; empty where nobody wrote any.
    """

    text: str
    paraphrase: str = ""


def written_queries(raw: Path, source: Source, folder: Path = FOLDER) -> dict[str, WrittenQuery]:
    """Conversation id to its query: from ``<source>.jsonl`` of this package, else the summaries that the source brings.

    A line of the file is an object with ``conversation_id``, ``query`` and ``paraphrase``. Ids are those of the pinned
    revision; the file holds no text of the source.

    Raises:
        InputError: a line is not such an object, or a conversation stands twice.
    """
    path = folder / f"{source.name}.jsonl"
    if not path.exists():
        return {name: WrittenQuery(text) for name, text in read_summaries(raw, source).items()}
    found: dict[str, WrittenQuery] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{path}:{number}"
        try:
            entry = json.loads(line)
            name, query = str(entry["conversation_id"]), WrittenQuery(str(entry["query"]), str(entry["paraphrase"]))
        except (ValueError, KeyError, TypeError) as error:
            problem = f"not an object with conversation_id, query and paraphrase ({error!r})"
            raise InputError(place, problem, "Mend or remove that line") from error
        if name in found:
            raise InputError(place, f"conversation {name!r} stands there twice", "Remove one of the lines")
        found[name] = query
    return found
