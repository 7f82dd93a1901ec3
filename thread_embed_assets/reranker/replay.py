"""A channel's log played again, message by message, with the threads as they stood before each.

Where people marked whom a message answers, threads grow as the marks say up to that message: two that a later message joins
are still two before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from thread_embed_assets.chat.cleaning import clean
from thread_embed_assets.chat.disentangle import disentangle
from thread_embed_assets.chat.model import Kind, Message, Split, Truth
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.secrets import mask_secrets
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import Thread
from thread_embed_assets.reranker.features import READ
from thread_embed_assets.sources.irc import ROOM, AnnotatedLog
from thread_embed_assets.storage.tables import connect_read_only

PAST = 500  # threads of a channel that are remembered, by activity
SILVER = " (silver)"  # follows the name of a source whose threads an automatic disentangler marked

_ORDER = tuple(Split)  # what is held out later may not be a candidate for what comes earlier in it


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a channel.

    Attributes:
        message: masked, as the tables hold it.
        begins: the id of the thread that it begins if it continues none.
        continues: ids of threads; the one whose message it answers last comes first. Several are joined by it, and go on
            under the id of the one that began first.
        split: of the message, and of its thread.
        asked: whether it is known where it belongs; of others it is guessed.
        marked: where threads are guessed, those whose messages it is marked to answer, in the order of ``continues``; None
            where it is put where it is marked to belong.
    """

    message: Message
    begins: str
    continues: tuple[str, ...]
    split: Split
    asked: bool = True
    marked: tuple[str, ...] | None = None

    @property
    def right(self) -> tuple[str, ...]:
        """The threads that it continues in truth, the one that it answers last first; empty if it begins one."""
        return self.continues if self.marked is None else self.marked


@dataclass(frozen=True, slots=True)
class Channel:
    """The log of a channel, or a stretch of it that stands by itself.

    Attributes:
        origin: name of the source, with ``SILVER`` after it where its threads are predicted.
        turns: in the order of the log; read once.
    """

    origin: str
    name: str
    turns: Iterable[Turn]


@dataclass(slots=True)
class _Open:
    messages: list[Message]
    first: int
    last: int
    split: Split


class OpenThreads:
    """The threads of one channel, the longest silent first; of each its first message and its last ``READ - 1``.

    Args:
        most: threads remembered; the longest silent is forgotten.
    """

    def __init__(self, most: int = PAST) -> None:
        self._most = most
        self._threads: dict[str, _Open] = {}
        self._position = 0

    def active(self, count: int, split: Split = Split.TEST) -> list[Thread]:
        """The last active ones of ``split`` or one before it (train, dev, test), the latest first.

        What they hold changes with :meth:`take`.
        """
        found: list[Thread] = []
        for name, thread in reversed(self._threads.items()):
            if len(found) == count:
                break
            if _ORDER.index(thread.split) <= _ORDER.index(split):
                found.append(self._thread(name, thread))
        return found

    def named(self, names: Iterable[str]) -> list[Thread]:
        """Those with these ids, the latest first."""
        found = sorted(((name, self._threads[name]) for name in names), key=lambda item: -item[1].last)
        return [self._thread(name, thread) for name, thread in found]

    def _thread(self, name: str, thread: _Open) -> Thread:
        return Thread(name, thread.messages, self._position - thread.last - 1)

    def take(self, turn: Turn) -> str:
        """Put a message to its thread; the thread's id."""
        name = turn.begins
        known = {thread: found for thread in turn.continues if (found := self._threads.pop(thread, None))}
        if turn.continues:
            name = min(known, key=lambda thread: known[thread].first) if known else turn.continues[0]
        here = self._position
        thread = known.pop(name, None) or self._threads.pop(name, None) or _Open([], here, here, turn.split)
        if known:
            joined = (message for other in known.values() for message in other.messages)
            thread.messages = _in_time_order([*thread.messages, *joined])
        thread.messages.append(turn.message)
        del thread.messages[1 : max(1, len(thread.messages) - READ + 1)]
        thread.last = here
        self._threads[name] = thread
        self._position += 1
        if len(self._threads) > self._most:
            del self._threads[next(iter(self._threads))]
        return name


def _in_time_order(messages: list[Message]) -> list[Message]:
    return sorted(messages, key=lambda message: message.time or 0.0)


def masked(log: AnnotatedLog, masker: Masker, platform: str) -> list[Message]:
    """All lines of a log as the conversations table writes them: cleaned, people and secrets masked. Texts may be empty."""
    return [
        message
        if message.kind is Kind.SYSTEM
        else replace(
            message,
            author=masker.person(message.author),
            text=masker.mask(mask_secrets(clean(message.text, platform)), log.roster, log.onlookers),
        )
        for message in log.messages
    ]


def log_channel(log: AnnotatedLog, messages: Sequence[Message], origin: str, guessed: bool = False) -> Channel:
    """An annotated log, without the lines of the server.

    The threads of its context, which nobody annotated, are those of the disentangler. A message that answers only lines of
    the server is not asked about: it neither continues a thread nor means to begin one.

    Args:
        messages: the log's lines as :func:`masked` gives them.
        guessed: all threads are the disentangler's, as where links are guessed one after the other and faults add up; right
            is the thread with the message that was marked as answered.
    """
    assert log.split is not None, f"{log.name} belongs to no published split"
    return Channel(origin, ROOM, _log_turns(log, messages, log.split, guessed))


def _log_turns(log: AnnotatedLog, messages: Sequence[Message], split: Split, guessed: bool) -> Iterator[Turn]:
    lines = [line for line, message in enumerate(log.messages) if message.kind is not Kind.SYSTEM]
    line_of = {log.messages[line].id: line for line in lines}
    guesses: Mapping[int, list[int]] = {
        line_of[message.id]: [line_of[parent] for parent in message.parents]
        for thread in disentangle(log.messages[line] for line in lines)
        for message in thread
    }
    begun_by = list(range(len(log.messages)))

    def top(line: int) -> int:
        while begun_by[line] != line:
            begun_by[line] = begun_by[begun_by[line]]
            line = begun_by[line]
        return line

    def threads_with(answered: Iterable[int]) -> list[int]:
        return list(dict.fromkeys(top(line) for line in sorted(answered, reverse=True)))

    for line in lines:
        annotated = log.parents.get(line)
        spoken = [parent for parent in annotated or () if messages[parent].kind is not Kind.SYSTEM]
        follows_guess = guessed or annotated is None
        threads = threads_with(guesses[line] if follows_guess else spoken)
        yield Turn(
            message=messages[line],
            begins=messages[line].id,
            continues=_ids(messages, threads),
            split=split,
            asked=annotated is not None and (bool(spoken) or not annotated),
            marked=_ids(messages, threads_with(spoken)) if follows_guess else None,
        )
        for thread in threads:
            begun_by[thread] = min(threads)
        begun_by[line] = min(threads, default=line)


def _ids(messages: Sequence[Message], lines: Iterable[int]) -> tuple[str, ...]:
    return tuple(messages[line].id for line in lines)


_QUERY = """
    SELECT c.channel, m.conversation_id, m.position, m.message_id, m.person_id, m.text, epoch(m.sent_at) AS sent, c.split
    FROM messages m JOIN conversations c USING (conversation_id)
    ORDER BY c.channel, m.sent_at, m.conversation_id, m.position
"""


def table_channels(tables: Normalised) -> Iterator[Channel]:
    """The channels of a source from its conversations, whose messages are brought into the order in which they were sent.

    Each channel must be read before the next. Of a source whose threads are predicted only the test split is asked about.

    Raises:
        InputError: messages have no times, so that nobody knows which came before which; or the threads are guessed.
    """
    with connect_read_only([tables.conversations, tables.messages]) as connection:
        told = connection.execute("SELECT DISTINCT channel, source, truth FROM conversations").fetchall()
        origins = {channel: _origin(source, Truth(truth), tables) for channel, source, truth in told}
        batches = connection.sql(_QUERY).to_arrow_reader(8_192)
        rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
        for name, found in groupby(rows, key=itemgetter(0)):
            yield Channel(origins[name], name, _table_turns(found, origins[name].endswith(SILVER), tables))


def _origin(source: str, truth: Truth, tables: Normalised) -> str:
    if truth is Truth.GUESSED:
        problem = f"the threads of {source} are guessed: they would teach and measure the guess"
        raise InputError(tables.conversations.path, problem, "Take sources with annotated or explicit threads")
    return source + SILVER if truth is Truth.PREDICTED else source


def _table_turns(rows: Iterable[tuple[Any, ...]], silver: bool, tables: Normalised) -> Iterator[Turn]:
    for _, conversation, position, message_id, person, text, sent, split in rows:
        if sent is None:
            problem = f"message {message_id} has no time, so nobody knows what was said before it"
            raise InputError(tables.messages.path, problem, "Leave sources without times out of the reranker's data")
        continues = (conversation,) if position else ()
        asked = not silver or split == Split.TEST
        yield Turn(Message(message_id, person, text, sent), conversation, continues, Split(split), asked)
