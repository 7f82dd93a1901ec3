"""What one source's conversations look like, in figures: what an exploration notebook would show first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message, Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.secrets import Kind
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.distribution import Distribution, distribution
from thread_embed_assets.storage.tables import connect_read_only

FIGURES_FILE = "figures.json"
EXAMPLES = 10
EXAMPLE_MESSAGES = 8
EXAMPLE_CHARACTERS = 200
TOP_CHANNELS = 12

# A mention is one word, and one character however long the person's id is.
_WORDS = r"len(regexp_extract_all(text, '\S+'))"
_CHARACTERS = "length(regexp_replace(text, '<@p_[0-9a-f]{10}>', '@', 'g'))"
_PEOPLE = "(SELECT person_id, count(*) AS said FROM messages GROUP BY person_id)"
_GAPS = "(SELECT epoch(sent_at - lag(sent_at) OVER (PARTITION BY conversation_id ORDER BY position)) AS gap FROM messages)"

_WHOLE = """
    SELECT min(source), min(platform), count(*), count(DISTINCT channel), epoch(min(started_at)), epoch(max(ended_at))
    FROM conversations
"""
_SPLITS = """
    SELECT split, count(DISTINCT conversation_id), count(*), count(DISTINCT person_id), count(DISTINCT channel)
    FROM conversations JOIN messages USING (conversation_id) GROUP BY split
"""
_CONTENTS = """
    SELECT count(*) FILTER (len(parents) > 0), count(*) FILTER (regexp_matches(text, '`[^`]+`')),
           count(*) FILTER (contains(text, '[URL]')), count(*) FILTER (contains(text, '<@p_'))
    FROM messages
"""
_MARKS = "|".join(re.escape(kind.mark) for kind in Kind)
_MASKS = f"""
    SELECT mask, count(*) FROM (SELECT unnest(regexp_extract_all(text, '{_MARKS}')) AS mask FROM messages)
    GROUP BY mask ORDER BY 2 DESC, 1
"""
_TIMELINE = """
    SELECT date_trunc('{interval}', sent_at)::DATE, count(*) FROM messages WHERE sent_at IS NOT NULL GROUP BY 1 ORDER BY 1
"""
_WEEK = "SELECT isodow(sent_at), hour(sent_at), count(*) FROM messages WHERE sent_at IS NOT NULL GROUP BY 1, 2"
_CHANNELS = f"""
    SELECT channel, count(*), sum(message_count)::BIGINT FROM conversations
    GROUP BY channel ORDER BY 3 DESC, 1 LIMIT {TOP_CHANNELS}
"""
# Held-out text is shown to nobody, who might then fit what they build to it.
_EXAMPLES = f"""
    SELECT conversation_id, channel, epoch(started_at), truth, message_count, participant_count
    FROM conversations WHERE split = '{Split.TRAIN}'
    ORDER BY md5('example ' || source || ' ' || conversation_id) LIMIT {EXAMPLES}
"""
_EXAMPLE_MESSAGES = f"""
    SELECT message_id, person_id, text FROM messages
    WHERE conversation_id = $conversation AND position < {EXAMPLE_MESSAGES} ORDER BY position
"""
# Up to so many days from first to last message: the interval of the timeline, and its days.
_INTERVALS = ((100.0, "day", 1), (800.0, "week", 7), (math.inf, "month", 28))
_LANGUAGE = "language_"


@dataclass(frozen=True)
class SplitSize:
    """What one split holds."""

    split: str
    conversations: int
    messages: int
    people: int
    channels: int


@dataclass(frozen=True)
class ChannelSize:
    """What one channel holds."""

    channel: str
    conversations: int
    messages: int


@dataclass(frozen=True)
class Example:
    """A conversation to look at: its first messages, cut, with people numbered.

    Attributes:
        messages: how many it has in all.
        lines: at most ``EXAMPLE_MESSAGES``.
    """

    channel: str
    day: str
    truth: str
    messages: int
    people: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SourceFigures:
    """Figures of one source.

    Attributes:
        first, last: times of the first and last message; None for a source without times.
        splits: train, dev and test, those that there are.
        truths: who drew the threads, to conversations.
        conversation_seconds: from a conversation's first message to its last.
        gap_seconds: from a message to the next of its conversation.
        timeline: first day of each interval of ``timeline_days`` to messages.
        week: messages by weekday from Monday, and by hour, in UTC; empty for a source without times.
        languages: language to parsed conversations, as far as identified before filtering.
        language_percent: certainty of the language identification of kept conversations.
        with_parent, with_code, with_url, with_mention: messages.
        masks: what stands where something private stood, apart from people, to how often.
        counts: what the filters removed and kept, by the names that ``chat/normalise.py`` gives.
        largest_channels: at most ``TOP_CHANNELS``, by messages.
        examples: at most ``EXAMPLES``, of the train split only.
    """

    source: str
    platform: str
    conversations: int
    messages: int
    people: int
    channels: int
    first: datetime | None
    last: datetime | None
    splits: tuple[SplitSize, ...]
    truths: Mapping[str, int]
    messages_per_conversation: Distribution
    people_per_conversation: Distribution
    messages_per_person: Distribution
    words_per_message: Distribution
    characters_per_message: Distribution
    conversation_seconds: Distribution | None
    gap_seconds: Distribution | None
    timeline: Mapping[date, int]
    timeline_days: int
    week: tuple[tuple[int, ...], ...]
    languages: Mapping[str, int]
    language_percent: Distribution
    with_parent: int
    with_code: int
    with_url: int
    with_mention: int
    masks: Mapping[str, int]
    counts: Mapping[str, int]
    largest_channels: tuple[ChannelSize, ...]
    examples: tuple[Example, ...]

    @property
    def removed_share(self) -> float | None:
        """Share of parsed conversations that are not kept."""
        parsed = self.counts.get("parsed_conversations", 0)
        return 1 - self.counts.get("kept_conversations", 0) / parsed if parsed else None


def explore(stored: Normalised) -> SourceFigures:
    """Count everything that :class:`SourceFigures` holds; seconds for a million messages, in bounded memory."""
    with connect_read_only([stored.conversations, stored.messages]) as connection:

        def rows(query: str, **values: str) -> list[Any]:
            return connection.execute(query, values).fetchall()

        def spread(number: str, relation: str) -> Distribution:
            found = distribution(connection, number, relation)
            assert found is not None, f"{relation} is empty"
            return found

        [(source, platform, conversations, channels, first, last)] = rows(_WHOLE)
        [(with_parent, with_code, with_url, with_mention)] = rows(_CONTENTS)
        interval, days = next((name, days) for most, name, days in _INTERVALS if (last or 0) - (first or 0) <= most * 86_400)
        week = [[0] * 24 for _ in range(7)] if first is not None else []
        for day, hour, count in rows(_WEEK):
            week[day - 1][hour] = count
        languages = {
            name.removeprefix(_LANGUAGE): count for name, count in stored.counts.items() if name.startswith(_LANGUAGE)
        }
        return SourceFigures(
            source=source,
            platform=platform,
            conversations=conversations,
            messages=stored.messages.rows,
            people=rows(f"SELECT count(*) FROM {_PEOPLE}")[0][0],
            channels=channels,
            first=_moment(first),
            last=_moment(last),
            splits=tuple(SplitSize(*row) for row in sorted(rows(_SPLITS), key=lambda row: list(Split).index(row[0]))),
            truths=dict(rows("SELECT truth, count(*) FROM conversations GROUP BY truth ORDER BY 2 DESC, 1")),
            messages_per_conversation=spread("message_count", "conversations"),
            people_per_conversation=spread("participant_count", "conversations"),
            messages_per_person=spread("said", _PEOPLE),
            words_per_message=spread(_WORDS, "messages"),
            characters_per_message=spread(_CHARACTERS, "messages"),
            conversation_seconds=distribution(connection, "epoch(ended_at - started_at)", "conversations"),
            gap_seconds=distribution(connection, "gap", _GAPS),
            timeline=dict(rows(_TIMELINE.format(interval=interval))),
            timeline_days=days,
            week=tuple(map(tuple, week)),
            languages=languages or dict(rows("SELECT language, count(*) FROM conversations GROUP BY 1 ORDER BY 1")),
            language_percent=spread("100 * language_score", "conversations"),
            with_parent=with_parent,
            with_code=with_code,
            with_url=with_url,
            with_mention=with_mention,
            masks=dict(rows(_MASKS)),
            counts=stored.counts,
            largest_channels=tuple(ChannelSize(*row) for row in rows(_CHANNELS)),
            examples=tuple(
                Example(channel, _day(start), truth, said, people, _shown(rows(_EXAMPLE_MESSAGES, conversation=name)))
                for name, channel, start, truth, said, people in rows(_EXAMPLES)
            ),
        )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _day(seconds: float | None) -> str:
    moment = _moment(seconds)
    return "" if moment is None else moment.date().isoformat()


def _shown(messages: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """A line for each message, cut, with people numbered."""
    on_one_line = [Message(name, person, " ".join(text.split())) for name, person, text in messages]
    return tuple(cut(line, EXAMPLE_CHARACTERS) for line in FORMATS["speakers"].render(on_one_line).split("\n"))


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


_FILE = TypeAdapter(SourceFigures)


def figures_to_json(figures: SourceFigures) -> str:
    return _FILE.dump_json(figures, indent=1).decode()


def read_figures(folder: Path) -> SourceFigures:
    """What :func:`figures_to_json` gave, from ``FIGURES_FILE`` in a source's report.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    path = folder / FIGURES_FILE
    remedy = "Materialise the source_report that writes it"
    if not path.exists():
        raise InputError(path, "there is no such report yet", remedy)
    try:
        return _FILE.validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(path, f"the figures are damaged ({error.errors()[0]['msg']})", remedy) from error
