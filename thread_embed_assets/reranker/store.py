"""A workspace's threads in one DuckDB file: what is added stays through a kill at any moment, what is asked is found fast.

The log is the only truth. ``messages`` says which thread each message is in, ``words`` what each names, and both come with
it in one transaction; when a thread began and was last active, and what it is about, is read off them (the view
``thread_log``), so nothing can disagree. Whoever asks at a time is given nothing that was written after it.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.model import Kind, Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import Floats, Thread
from thread_embed_assets.reranker.entities import entities, keywords, runs
from thread_embed_assets.reranker.features import READ
from thread_embed_assets.reranker.store_file import INSERTS, SIZE, batches, code, open_file
from thread_embed_assets.storage.atomic import disk_full

QUOTAS = {"entity": 8, "recency": 6, "flow": 4, "embedding": 6}  # threads that each layer may add, in this order

_FLOW_TURNS = 300  # messages of a channel among which the flow layer looks for people
_THREADS_AT_ONCE = 64
_NO_TURN = 2**31 - 1

_KNOWN = """
    SELECT thread_id, messages.channel, text FROM messages JOIN threads USING (thread) WHERE message_id = $id
"""
_PAST = "channel = $channel AND sent_at <= $time AND turn < $before"
_RECENCY = (
    f"SELECT thread FROM messages WHERE {_PAST} GROUP BY thread ORDER BY max(sent_at) DESC, max(turn) DESC LIMIT $limit"
)
_FLOW = f"""
    SELECT thread FROM messages WHERE {_PAST} AND turn >= $latest - {_FLOW_TURNS} AND list_contains($people, author)
    GROUP BY thread ORDER BY bool_or(author <> $author) DESC, max(turn) DESC LIMIT $limit
"""
# A word tells the more, the fewer threads have it; as an entity, twice as much.
_ENTITY = """
    WITH hits AS (
        SELECT DISTINCT thread, code, is_entity FROM words
        SEMI JOIN (SELECT unnest($codes) AS code) USING (code)
        SEMI JOIN (SELECT thread FROM threads WHERE channel = $channel) USING (thread)
        WHERE sent_at <= $time AND turn < $before
    ), weighed AS (
        SELECT thread, (1 + is_entity::INTEGER) * ln(1 + $said / count(*) OVER (PARTITION BY code, is_entity)) AS weight
        FROM hits
    )
    SELECT thread FROM weighed GROUP BY thread ORDER BY sum(weight) DESC, thread DESC LIMIT $limit
"""
_NEAREST = f"""
    SELECT thread, thread_id, array_inner_product(vector, $vector::FLOAT[{SIZE}]) AS cosine
    FROM vectors JOIN threads USING (thread)
    WHERE known_until <= $time AND ($channel IS NULL OR channel = $channel)
    ORDER BY cosine DESC, thread LIMIT $limit
"""
_WITHOUT_VECTOR = """
    SELECT thread_id FROM threads JOIN (SELECT thread, max(sent_at) AS last FROM messages GROUP BY thread) USING (thread)
    LEFT JOIN vectors USING (thread) WHERE coalesce(known_until < last, true) ORDER BY last DESC, thread_id LIMIT $limit
"""
_SET_VECTORS = """
    INSERT INTO vectors SELECT thread, last, vector
    FROM given JOIN (SELECT thread, max(sent_at) AS last FROM messages GROUP BY thread) USING (thread)
"""
_LOAD = f"""
    SELECT thread, thread_id, title, message_id, author, text, sent_at, parents, last FROM (
        SELECT *, row_number() OVER (PARTITION BY thread ORDER BY sent_at, turn) AS place,
               count(*) OVER (PARTITION BY thread) AS n, max(turn) OVER (PARTITION BY thread) AS last
        FROM messages WHERE thread IN (SELECT unnest($threads)) AND {_PAST}
    ) JOIN threads USING (thread) WHERE place = 1 OR place > n - {READ - 1} ORDER BY thread, place
"""


class ThreadStore:
    """The file, opened by one process at a time; not for several threads of it at once.

    Turns are counted as messages arrive, and times may fall. What came before a message that is in the store is what arrived
    before it and is not later; before any other message, all that is not later.

    Args:
        path: made, with its folder, where it is not there.

    Raises:
        InputError: another process has the file open, it is damaged, or something else than a store of threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_file(path)

    def __enter__(self) -> ThreadStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def add(self, message: Message, channel: str, thread_id: str | None = None) -> str:
        """Keep a message in a thread of its channel, by default in a new one, and say which.

        A message that is there already stays where it is, so a step that was cut off can be done again.

        Raises:
            InputError: the message cannot be kept, differs from that of the same id, or the channel has no such thread.
        """
        self._check(message, channel)
        known = self._rows(_KNOWN, id=message.id)
        if known:
            kept, *same = known[0]
            if same != [channel, message.text]:
                raise self._error(
                    f"message {message.id!r} is there with another text or channel", "Give it an id of its own"
                )
            return str(kept)
        if thread_id is None:
            thread_id = _thread_id(channel, message.id)
        elif not self._rows(
            "SELECT 1 FROM threads WHERE thread_id = $id AND channel = $channel", id=thread_id, channel=channel
        ):
            raise self._error(f"channel {channel!r} has no thread {thread_id!r}", "Give None to start a thread")
        self._keep([(message, channel, thread_id)])
        return thread_id

    def load(self, threads: Iterable[tuple[str, Sequence[Message]]]) -> int:
        """Keep whole threads, such as those of an export, all or nothing; their turns are in the order of time.

        Args:
            threads: channel and messages of each. Messages that are there already are left out, and those that are not text.

        Returns:
            How many messages were added.

        Raises:
            InputError: a message cannot be kept.
        """
        return self._keep(self._named(threads))

    def rename(self, thread_id: str, title: str) -> None:
        """Give a thread a title.

        Raises:
            InputError: there is no such thread.
        """
        (number,) = self._numbers([thread_id])
        with self._transaction():
            self._connection.execute(
                "UPDATE threads SET title = $title WHERE thread = $thread", {"title": title, "thread": number}
            )

    def set_vector(self, thread_id: str, vector: Floats) -> None:
        """Keep one thread's vector; see :meth:`set_vectors`."""
        self.set_vectors({thread_id: vector})

    def set_vectors(self, vectors: Mapping[str, Floats]) -> None:
        """Keep threads' vectors, which rest on all that was said in them up to now, in place of those before.

        Args:
            vectors: float [SIZE] by thread id; any length but 0.

        Raises:
            InputError: there is no such thread, or a vector has another size or no direction. None is kept then.
        """
        numbers = self._numbers(vectors)
        directions = [self._direction(vector) for vector in vectors.values()]
        given = pa.table(
            {"thread": pa.array(numbers, pa.int32()), "vector": pa.array(directions, pa.list_(pa.float32(), SIZE))}
        )
        with self._transaction(), self._registered("given", given):
            self._connection.execute("DELETE FROM vectors WHERE thread IN (SELECT thread FROM given)")
            self._connection.execute(_SET_VECTORS)

    def without_vector(self, limit: int = 1_000) -> list[str]:
        """Ids of threads that have none, or that have gone on since they were given one; the latest first."""
        return [str(thread) for (thread,) in self._rows(_WITHOUT_VECTOR, limit=limit)]

    def nearest(
        self, vector: Floats, limit: int, channel: str | None = None, time: float = math.inf
    ) -> list[tuple[str, float]]:
        """Thread ids and the cosines of their vectors, the best first: of all channels or of one, known by a time.

        Raises:
            InputError: the vector has another size or no direction.
        """
        found = self._rows(_NEAREST, vector=self._direction(vector), limit=limit, channel=channel, time=time)
        return [(str(thread_id), float(cosine)) for _, thread_id, cosine in found]

    def thread_of(self, message_id: str) -> str | None:
        """The thread that a message is in; None of one that is not there."""
        known = self._rows(_KNOWN, id=message_id)
        return str(known[0][0]) if known else None

    def threads(self, thread_ids: Sequence[str]) -> list[Thread]:
        """Threads as they are now, in the order given; each holds what :meth:`retrieve` says.

        Raises:
            InputError: there is no such thread.
        """
        numbers = self._numbers(thread_ids)
        channels = dict(
            self._rows("SELECT thread, channel FROM threads WHERE thread IN (SELECT unnest($threads))", threads=numbers)
        )
        pasts = [(number, {"channel": channels[number], "time": math.inf, "before": _NO_TURN}) for number in numbers]
        return [thread for number, past in pasts for thread in self._threads([number], past, self._latest(past))]

    def threads_before(self, channel: str, time: float) -> Iterator[Thread]:
        """A channel's threads as they were before a time, the last active first; each holds what :meth:`retrieve` says."""
        past = {"channel": channel, "time": math.nextafter(time, -math.inf), "before": _NO_TURN}
        numbers = [number for (number,) in self._rows(_RECENCY, **past, limit=_NO_TURN)]
        latest = self._latest(past)
        for start in range(0, len(numbers), _THREADS_AT_ONCE):
            yield from self._threads(numbers[start : start + _THREADS_AT_ONCE], past, latest)

    def retrieve(self, message: Message, channel: str, vector: Floats | None = None, limit: int = 20) -> list[Thread]:
        """The threads of its channel that a message may continue; none where the channel is empty.

        Each layer names up to its share of ``QUOTAS``, best first: ``entity`` the threads that have most of what the message
        names, rare things first; ``recency`` the last active; ``flow`` those in which somebody whom it mentions spoke last,
        then those of its author; ``embedding`` those with the nearest vectors. The first of each are taken in the order of
        the layers, then the second of each, and so on; what is left of ``limit`` goes to the last active.

        Args:
            message: need not be in the store.
            vector: of the message [SIZE]; without it there is no embedding layer.
            limit: of threads, above 0.

        Returns:
            Threads with their first message and the last ``features.READ - 1`` of those that came before.

        Raises:
            InputError: the message has no time, or an argument is out of range.
        """
        time = self._check(message, channel)
        if limit < 1:
            raise self._error(f"no {limit} threads can be retrieved", "Give a limit of 1 or more")
        own = self._rows(
            "SELECT turn FROM messages WHERE message_id = $id AND channel = $channel", id=message.id, channel=channel
        )
        past = {"channel": channel, "time": time, "before": own[0][0] if own else _NO_TURN}
        # A vector of the message's own thread knows the message, too, and has its time.
        known = math.nextafter(time, -math.inf) if own else time
        latest = self._latest(past)
        layers = {
            name: [row[0] for row in self._rows(query, **parameters, limit=max(limit, QUOTAS[name]))]
            for name, query, parameters in self._layers(message, vector, past, latest, known)
        }
        ranks = range(max(QUOTAS.values()))
        first = [layer[rank] for rank in ranks for name, layer in layers.items() if rank < min(len(layer), QUOTAS[name])]
        chosen = list(dict.fromkeys([*first, *layers["recency"]]))[:limit]
        return list(self._threads(chosen, past, latest))

    def _layers(
        self, message: Message, vector: Floats | None, past: dict[str, Any], latest: int, known: float
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each layer's name, and the query that finds its threads, best first."""
        words = entities(message.text) | runs(message.text) | set(keywords(message.text))
        people = [message.author, *MENTION.findall(message.text)]
        yield "entity", _ENTITY, {**past, "codes": list(map(code, words)), "said": latest + 1}
        yield "recency", _RECENCY, past
        yield "flow", _FLOW, {**past, "latest": latest, "people": people, "author": message.author}
        if vector is not None:
            yield "embedding", _NEAREST, {"channel": past["channel"], "time": known, "vector": self._direction(vector)}

    def _latest(self, past: dict[str, Any]) -> int:
        """The turn of the last message that came before; -1 without any."""
        return int(self._rows(f"SELECT coalesce(max(turn), -1) FROM messages WHERE {_PAST}", **past)[0][0])

    def _threads(self, numbers: list[int], past: dict[str, Any], latest: int) -> Iterator[Thread]:
        """In the order given."""
        messages: dict[int, list[Message]] = {number: [] for number in numbers}
        heads: dict[int, tuple[str, str, int]] = {}
        for number, thread_id, title, message_id, author, text, sent_at, parents, last in self._rows(
            _LOAD, **past, threads=numbers
        ):
            messages[number].append(Message(message_id, author, text, sent_at, tuple(parents)))
            heads[number] = thread_id, title, latest - last
        for number in numbers:
            thread_id, title, turns_since = heads[number]
            yield Thread(thread_id, messages[number], turns_since, title)

    def _named(self, threads: Iterable[tuple[str, Sequence[Message]]]) -> Iterator[tuple[Message, str, str]]:
        for channel, messages in threads:
            said = [message for message in messages if message.kind is Kind.TEXT]
            for message in said:
                self._check(message, channel)
                yield message, channel, _thread_id(channel, said[0].id)

    def _keep(self, messages: Iterable[tuple[Message, str, str]]) -> int:
        with self._transaction():
            for batch in batches(messages):
                with self._registered("batch", batch):
                    self._connection.execute("INSERT INTO arrived SELECT * FROM batch")
            for statement in INSERTS:
                self._connection.execute(statement)
            added = self._rows("SELECT count(*) FROM numbered")[0][0]
            self._connection.execute("DROP TABLE numbered; DELETE FROM arrived")
        return int(added)

    def _check(self, message: Message, channel: str) -> float:
        """The time of a message that can be kept and placed.

        Raises:
            InputError: it cannot.
        """
        if not (message.id and message.author and channel):
            raise self._error(f"message {message.id!r} has no id, author or channel", "Give it one")
        if message.time is None or not math.isfinite(message.time):
            raise self._error(f"message {message.id!r} has no time", "Give the seconds since 1970 at which it was sent")
        try:
            "\0".join((message.id, message.author, message.text, channel, *message.parents)).encode()
        except UnicodeEncodeError as error:
            raise self._error(f"message {message.id!r} is not valid Unicode", "Clean it as chat/cleaning.py does") from error
        return message.time

    def _direction(self, vector: Floats) -> Floats:
        values = np.asarray(vector, dtype=np.float64)
        length = float(np.linalg.norm(values)) if values.shape == (SIZE,) else 0.0
        if not math.isfinite(length) or length == 0:
            raise self._error(
                f"a vector of shape {values.shape} has no direction here", f"Give {SIZE} finite numbers, not all 0"
            )
        direction: Floats = (values / length).astype(np.float32)
        return direction

    def _numbers(self, thread_ids: Iterable[str]) -> list[int]:
        """In the order given."""
        wanted = list(thread_ids)
        found = dict(
            self._rows("SELECT thread_id, thread FROM threads WHERE thread_id IN (SELECT unnest($ids))", ids=wanted)
        )
        missing = [thread_id for thread_id in wanted if thread_id not in found]
        if missing:
            raise self._error(f"there is no thread {missing[0]!r}", "Give an id that add or retrieve returned")
        return [int(found[thread_id]) for thread_id in wanted]

    def _rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    @contextmanager
    def _registered(self, name: str, rows: pa.RecordBatch | pa.Table) -> Iterator[None]:
        self._connection.register(name, rows)
        try:
            yield
        finally:
            self._connection.unregister(name)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, on the disk when the block is left."""
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException as error:
            with suppress(duckdb.Error):  # a failed commit has rolled back already
                self._connection.rollback()
            if isinstance(error, duckdb.Error) and os.strerror(errno.ENOSPC) in str(error):
                raise disk_full(self.path) from error
            raise

    def _error(self, problem: str, remedy: str) -> InputError:
        return InputError(self.path, problem, remedy)


def _thread_id(channel: str, first: str) -> str:
    """Of a thread by its first message, so that the same log gives the same ids."""
    return "t_" + hashlib.sha256(f"{channel}\0{first}".encode()).hexdigest()[:12]
