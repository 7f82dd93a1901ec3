"""Which lines of a thread match a query, and what to show of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from thread_embed_assets.benchmark.by_window import placed_windows
from thread_embed_assets.chat.formats import MENTION, TextFormat
from thread_embed_assets.chat.model import Message

_WORD = re.compile(r"(?u)\b\w\w+\b")  # what BM25 counts
_ENOUGH = 0.5  # of what the best line has of the query's words
_WORTH_A_LOOK = 0.2  # of what all of the query's words are worth


@dataclass(frozen=True)
class Line:
    """A message of a thread that was found.

    Attributes:
        author: how its author is shown.
        sent_at: None where the source has no times.
        text: mentions of people as ``@`` and how they are shown.
        matches: whether it is what was looked for.
        marks: where words of the query stand in ``text``: (start, end).
    """

    message_id: str
    author: str
    sent_at: datetime | None
    text: str
    matches: bool
    marks: tuple[tuple[int, int], ...] = ()


def lines_of(
    messages: Sequence[Message], shown: Mapping[str, str], worth: Mapping[str, float], near: frozenset[int]
) -> tuple[Line, ...]:
    """A thread's lines, in order; of those near in meaning, only the ones with words of the query, if there are any, match.

    Args:
        messages: of the thread, masked.
        shown: person to how they are shown.
        worth: the query's words, and what each is worth.
        near: the places of the messages that are nearest in meaning; see :func:`nearest`.
    """
    texts = [MENTION.sub(lambda found: "@" + shown.get(found[1], "somebody"), message.text) for message in messages]
    found = [[match for match in _WORD.finditer(text) if match[0].lower() in worth] for text in texts]
    scores = [sum(worth[word] for word in {match[0].lower() for match in some}) for some in found]
    least = max(_ENOUGH * max(scores, default=0.0), _WORTH_A_LOOK * sum(worth.values()), 1e-9)
    by_words = {place for place, score in enumerate(scores) if score >= least}
    matching = by_words if by_words & near else by_words | near
    return tuple(
        Line(
            message.id,
            shown.get(message.author, "somebody"),
            None if message.time is None else datetime.fromtimestamp(message.time, UTC),
            text,
            place in matching,
            tuple(match.span() for match in some),
        )
        for place, (message, text, some) in enumerate(zip(messages, texts, found, strict=True))
    )


def nearest(messages: Sequence[Message], text_format: TextFormat, window: int) -> frozenset[int]:
    """The places of the messages that stand in one of the windows of a thread as the model reads it."""
    found = placed_windows(text_format.render(messages))[window]
    places: set[int] = set()
    line = 0
    for place, message in enumerate(messages):
        more = text_format.render([message]).count("\n") + 1
        if line <= found.last and found.first < line + more:
            places.add(place)
        line += more
    return frozenset(places)


def in_context(lines: Sequence[Line], most: int) -> Iterator[int | Line]:
    """At most ``most`` of the lines, in order, and how many are left out wherever some are.

    Those that match come first, then the first line, then their neighbours.
    """
    matching = [place for place, line in enumerate(lines) if line.matches]
    wanted = [*matching, 0, *(near for place in matching for near in (place + 1, place - 1)), *range(len(lines))]
    kept = sorted(list(dict.fromkeys(place for place in wanted if 0 <= place < len(lines)))[: max(most, 1)])
    before = 0
    for place in kept:
        if place > before:
            yield place - before
        yield lines[place]
        before = place + 1
    if before < len(lines):
        yield len(lines) - before
