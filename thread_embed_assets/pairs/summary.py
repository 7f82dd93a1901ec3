"""Strategy D: what somebody wrote about a thread, and the thread, or the window of it that it fits best.

This is what a search does: a line from somebody who was not there, in other words than the thread's own. The lines come from
``conversation_summaries``: a summary, a title and questions, by a language model or by the offline stand-in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from thread_embed_assets.chat.near_copies import word_set
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.chat.windows import cut
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.candidates import Candidate
from thread_embed_assets.storage.tables import TableHandle

LONGEST_WHOLE = 24  # messages; what comes after them is beyond what a model reads
WHOLE_SHARE = 0.5  # of the lines about a thread that has windows


def make(conversation: StoredConversation, sizes: Sequence[int], draw: Random) -> Iterator[Candidate]:
    """Each line with the whole thread or, if that is longer than a window, half of the time with one window."""
    messages = conversation.messages
    whole = range(len(messages))
    windows = cut(len(messages), sizes, draw) if len(messages) > sizes[-1] else []
    for line in conversation.lines:
        wants_whole = draw.random() < WHOLE_SHARE
        if not windows or (wants_whole and len(messages) <= LONGEST_WHOLE):
            yield Candidate((), whole, line)
        else:
            yield Candidate((), _fitting(conversation, windows, line), line)


def _fitting(conversation: StoredConversation, windows: Sequence[range], line: str) -> range:
    """The window that shares the most different words with the line; of several the first."""
    words = word_set(line)
    shared = [words & word_set(message.text) for message in conversation.messages]
    return max(windows, key=lambda window: len(frozenset().union(*(shared[place] for place in window))))


class Lines:
    """Reads the lines of a ``summaries`` table along with the conversations that they are about; both have one order."""

    def __init__(self, summaries: TableHandle) -> None:
        self._path = summaries.path
        columns = ["conversation_id", "summary", "title", "questions"]
        self._rows = summaries.rows_as_dicts(columns)
        self._next: dict[str, Any] | None = next(self._rows, None)

    def take(self, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Conversation id to what is written about it, of the next conversations in stored order."""
        wanted = frozenset(ids)
        found: dict[str, tuple[str, ...]] = {}
        while self._next is not None and self._next["conversation_id"] in wanted:
            row = self._next
            found[row["conversation_id"]] = tuple(dict.fromkeys((row["summary"], row["title"], *row["questions"])))
            self._next = next(self._rows, None)
        return found

    def finish(self) -> None:
        """Raises InputError if a line is left that belongs to no conversation."""
        if self._next is not None:
            problem = f"{self._next['conversation_id']!r} is no train or dev conversation, or out of order"
            raise InputError(self._path, problem, "Materialise conversation_summaries of that source again")
