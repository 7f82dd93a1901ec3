"""Search from Python: open a workspace or a source, and ask.

with open_workspace("our_team") as searcher:
    reply = searcher.search("why did the deploy fail", Filters(channels=["ops"]), top=3)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import duckdb
import numpy as np

from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import Encoder, checked_unit
from thread_embed_assets.benchmark.retrievers import best_first, tokens
from thread_embed_assets.chat.formats import FORMATS, MENTION
from thread_embed_assets.chat.model import Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.current_model import encoder_of, model_for_search
from thread_embed_assets.search.filters import Filters, allowed
from thread_embed_assets.search.fusion import fuse
from thread_embed_assets.search.index import Progress, Updated, content_of, index_file, is_current, update
from thread_embed_assets.search.matches import Line, lines_of, nearest
from thread_embed_assets.search.ranking import Index, load
from thread_embed_assets.search.rooms import Room, source_room, workspace_room
from thread_embed_assets.storage.layout import Layout

logger = logging.getLogger(__name__)

LONGEST_QUERY = 2_000
"""Characters that are read of a query; an encoder reads fewer still."""


@dataclass(frozen=True)
class Hit:
    """A thread that was found.

    Attributes:
        score: how well it fits (:mod:`.fusion`); higher is better, and only comparable within one reply.
        started, ended: its first and its last message; None where the source has no times.
        people: who takes part, as they are shown, in the order in which they appear.
        lines: all of its messages; those that match are marked.
    """

    thread_id: str
    channel: str
    score: float
    started: datetime | None
    ended: datetime | None
    people: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Reply:
    """What a search gives.

    Attributes:
        hits: best first.
        searched: threads that the filters left.
        threads: threads there are.
    """

    hits: tuple[Hit, ...]
    searched: int
    threads: int


class Searcher:
    """A room with its index; may be asked from several threads.

    Args:
        room: gives what is searched; asked again by :meth:`refresh`.
        encoder: the model.
        text_format: how it was trained to read a thread.
        progress: told how far a first index is.

    Raises:
        InputError: there is nothing to search, or another process is writing to its index.
    """

    def __init__(
        self, room: Callable[[], Room], encoder: Encoder, text_format: str, progress: Progress | None = None
    ) -> None:
        self._open, self._encoder, self._format, self._progress = room, encoder, text_format, progress
        self._lock = threading.Lock()
        self.updated = Updated(0, 0, 0)
        self._room = room()
        self._index = self._current()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    @property
    def name(self) -> str:
        return self._room.name

    @property
    def channels(self) -> list[str]:
        return sorted(set(self._index.channels))

    @property
    def threads(self) -> int:
        return len(self._index.ids)

    def refresh(self) -> Updated:
        """Read an export that has changed again, and embed what is new in it."""
        with self._lock:
            self._room = self._open()
            self._index = self._current(self._index)
        return self.updated

    def _current(self, held: Index | None = None) -> Index:
        stored = self._room.stored
        path = index_file(self._room.folder, self._encoder)
        if not is_current(path, stored, self._encoder, self._format):
            self.updated = update(path, stored, self._encoder, self._format, self._progress)
            logger.info("%s: %s", self.name, self.updated)
        elif held is not None and held.content == content_of(stored):
            return held
        return self._loaded(path)

    def _loaded(self, path: Path) -> Index:
        try:
            return load(path)
        except (duckdb.Error, ValueError) as error:
            logger.warning("%s cannot be read (%s); it is made anew", path, str(error).splitlines()[0])
            path.unlink(missing_ok=True)
            self.updated = update(path, self._room.stored, self._encoder, self._format, self._progress)
            return load(path)

    def search(self, query: str, filters: Filters | None = None, top: int = 5) -> Reply:
        """The ``top`` threads that fit the query best, among those that the filters leave.

        Raises:
            InputError: the query has no word but names of people, or there is no such channel, person or stretch of time.
        """
        with self._lock:
            index, names = self._index, self._room.names
            text = " ".join(names.masked(query[:LONGEST_QUERY]).split())
            if not any(char.isalnum() for char in text):
                raise _blank(query)
            narrowed = filters or Filters()
            keep = allowed(narrowed, index.channels, index.people, index.started, index.ended, names)
            places = np.flatnonzero(keep)
            if top < 1 or not len(places):
                return Reply((), len(places), len(index.ids))
            [words] = tokens([text])
            vector = checked_unit(self._encoder.encode([text], "query"), 1, self._encoder.fingerprint)
            bm25, worth = index.weights(words, places)
            dense = index.dense(vector, places)
            scores = fuse(bm25[None], dense[None], np.array([len(set(words))]))[0]
            best = best_first(np.round(scores, 6), top)
            windows = [index.best_window(vector, int(places[at])) for at in best]
            return Reply(
                self._hits(places[best].tolist(), scores[best].tolist(), windows, worth), len(places), len(index.ids)
            )

    def _hits(
        self, places: Sequence[int], scores: Sequence[float], windows: Sequence[int], worth: dict[str, float]
    ) -> tuple[Hit, ...]:
        messages = self._messages([self._index.ids[place] for place in places])
        hits = []
        for place, score, window in zip(places, scores, windows, strict=True):
            said = messages[self._index.ids[place]]
            people = self._room.names.in_thread(_people(said))
            lines = lines_of(said, people, worth, nearest(said, FORMATS[self._format], window))
            authors = tuple(dict.fromkeys(people[message.author] for message in said))
            span = (_moment(self._index.started[place]), _moment(self._index.ended[place]))
            head = (self._index.ids[place], self._index.channels[place], score)
            hits.append(Hit(*head, *span, authors, lines))
        return tuple(hits)

    def _messages(self, ids: Sequence[str]) -> dict[str, list[Message]]:
        quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in ids)
        columns = ["conversation_id", "message_id", "person_id", "text", "sent_at", "position"]
        rows = self._room.stored.messages.rows_as_dicts(columns, f"conversation_id IN ({quoted})")
        found: dict[str, list[Message]] = {name: [] for name in ids}
        for row in sorted(rows, key=lambda row: int(row["position"])):
            sent = row["sent_at"].timestamp() if row["sent_at"] is not None else None
            found[row["conversation_id"]].append(Message(row["message_id"], row["person_id"], row["text"], sent))
        return found


def open_workspace(
    name: str, layout: Layout | None = None, model: str | None = None, progress: Progress | None = None
) -> Searcher:
    """Search in all threads of a workspace's own export, with the names of its people.

    Args:
        name: of an entry of ``own_chat.yaml``, or of a workspace of the catalogue.
        layout: where everything lies; by default as ``THREAD_EMBED_ROOT`` says.
        model: a model folder, a released model's name or an id; by default the promoted or the released one.
        progress: told how far an index is that has to be made.

    Raises:
        InputError: there is no such workspace or model, or the export cannot be read.
    """
    where = layout or Layout.from_environment()
    return _opened(lambda: workspace_room(name, where), where, model, progress)


def open_source(
    name: str, layout: Layout | None = None, model: str | None = None, progress: Progress | None = None
) -> Searcher:
    """Search in the conversations of a source that are materialised; its people stay masked. See :func:`open_workspace`."""
    where = layout or Layout.from_environment()
    return _opened(lambda: source_room(name, where), where, model, progress)


def _opened(room: Callable[[], Room], layout: Layout, model: str | None, progress: Progress | None) -> Searcher:
    folder = model_for_search(layout, model)
    return Searcher(room, encoder_of(folder), text_format_of(folder), progress)


def _people(messages: Sequence[Message]) -> list[str]:
    """Authors, and after them those who are only mentioned."""
    mentioned = [person for message in messages for person in MENTION.findall(message.text)]
    return [*(message.author for message in messages), *mentioned]


def _moment(seconds: float) -> datetime | None:
    return None if np.isnan(seconds) else datetime.fromtimestamp(seconds, UTC)


def _blank(query: str) -> InputError:
    if query.strip():
        return InputError("search", "the query has no words besides names", "Add what it was about, or filter with --person")
    return InputError(
        "search", "the query is blank", 'Give some words, such as: thread-embed search "why did the build fail"'
    )
