"""From parsed conversations to the two tables that everything else reads.

Two passes, both streaming and both on all cores: the first cleans, masks and filters into staging files; the second assigns
splits, which need every conversation's time, and drops what was there before or is too close to a held-out text. Rows keep
the parser's order, and are the same however many workers there are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thread_embed_assets.chat.filters import STAGED, Filters
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES, Conversation, Message, Split
from thread_embed_assets.chat.near_copies import CONVERSATION_THRESHOLD, MESSAGE_THRESHOLD, HeldOutShingles, contained
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.splits import Assignment
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import temporary_folder
from thread_embed_assets.storage.parallel import ordered_map
from thread_embed_assets.storage.tables import (
    TableHandle,
    connect_in_memory,
    open_table,
    write_tables,
)

LANGUAGES_COUNTED = 12
LONGEST_CONVERSATION = 20_000
"""Messages; a longer conversation goes on as another one, so that whoever reads conversations holds no more than this."""

_BATCH_MESSAGES = 2_000
_INLINE_BATCHES = 10
_LOG_EVERY = 100_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Normalised:
    """What one source became."""

    conversations: TableHandle
    messages: TableHandle

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.conversations.counts)


def open_normalised(path: Path) -> Normalised:
    return Normalised(open_table(path, "conversations"), open_table(path, "messages"))


SplitPlan = Callable[[Iterable[tuple[str, float]]], Assignment]
"""Given (channel, start time) of every kept conversation, how to assign splits."""


def normalise(
    parsed: Iterable[Conversation],
    masker: Masker,
    plan: SplitPlan,
    path: Path,
    *,
    fewest_messages: int = 3,
    keep_all: bool = False,
) -> Normalised:
    """Clean, mask, filter and split one source's conversations into the file at ``path``.

    Args:
        parsed: conversations as the source's parser yields them: channel by channel, and in each by time.
        masker: replaces the names of this source's people; it has met all of them afterwards.
        plan: decides splits once every kept conversation's channel and time are known.
        path: the file to write.
        fewest_messages: a conversation of which fewer are left is dropped.
        keep_all: drop no conversation for its shortness, its language, or since another says the same: what people search
            in is not what a model should learn from.

    Raises:
        InputError: nothing was parsed, or nothing was left; the counts in the message say why.
    """
    with temporary_folder(path) as folder:
        staged = _Staged(folder)
        counts = _stage(parsed, Filters(masker, 1 if keep_all else fewest_messages, keep_all), staged, path.stem)
        if not staged.rows:
            problem = f"no conversation is left after parsing and filters ({dict(counts) or 'nothing was parsed'})"
            raise InputError(path, problem, "Check that the source's files and `format` in the catalogue belong together")
        _split(staged, plan, counts, path, keep_all)
    return open_normalised(path)


class _Batch(list[Conversation]):
    """Conversations on their way to a worker, pickled as columns: several times as fast as object by object."""

    def __reduce__(self) -> tuple[Callable[..., _Batch], tuple[Any, ...]]:
        sizes = [len(c.messages) for c in self]
        heads = [_head(c) for c in self]
        return _unpacked, (sizes, heads, list(zip(*(_row(m) for c in self for m in c.messages), strict=True)))


_HEAD = tuple(f.name for f in fields(Conversation) if f.name != "messages")
_head = attrgetter(*_HEAD)
_row = attrgetter(*(f.name for f in fields(Message)))


def _unpacked(sizes: list[int], heads: list[tuple[Any, ...]], columns: list[tuple[Any, ...]]) -> _Batch:
    messages = (Message(*row) for row in zip(*columns, strict=True))
    return _Batch(
        Conversation(messages=list(islice(messages, size)), **dict(zip(_HEAD, head, strict=True)))
        for size, head in zip(sizes, heads, strict=True)
    )


def _batches(parsed: Iterable[Conversation], counts: Counter[str]) -> Iterator[_Batch]:
    batch, messages = _Batch(), 0
    for whole in parsed:
        for conversation in _parts(whole, counts):
            batch.append(conversation)
            messages += len(conversation.messages)
            if messages >= _BATCH_MESSAGES:
                yield batch
                batch, messages = _Batch(), 0
    if batch:
        yield batch


def _parts(conversation: Conversation, counts: Counter[str]) -> Iterator[Conversation]:
    messages = conversation.messages
    if len(messages) <= LONGEST_CONVERSATION:
        yield conversation
        return
    counts["cut_conversations"] += 1
    for number, start in enumerate(range(0, len(messages), LONGEST_CONVERSATION)):
        name = f"{conversation.id}+{number}" if number else conversation.id
        yield replace(conversation, id=name, messages=messages[start : start + LONGEST_CONVERSATION])


def _stage(parsed: Iterable[Conversation], filters: Filters, staged: _Staged, name: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    logged = 0
    with staged.written() as write:
        for cleaned in ordered_map(filters, _batches(parsed, counts), inline=_INLINE_BATCHES):
            write(cleaned.conversations, cleaned.messages)
            filters.masker.meet(cleaned.met)
            counts.update(cleaned.counts)
            if counts["parsed_conversations"] // _LOG_EVERY > logged:
                logged = counts["parsed_conversations"] // _LOG_EVERY
                logger.info("%s: %s", name, dict(counts))
    return _with_few_languages(counts)


def _with_few_languages(counts: Counter[str]) -> Counter[str]:
    """The counts, with those of rare languages added up."""
    languages = Counter({name: n for name, n in counts.items() if name.startswith("language_")})
    rare = dict(languages.most_common()[LANGUAGES_COUNTED:])
    found = Counter({name: n for name, n in counts.items() if name not in rare})
    if rare:
        found["language_other"] = sum(rare.values())
    return found


class _Staged:
    """The conversations that the first pass kept, in two streams of Arrow batches that belong together pairwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self._paths = folder / "conversations.arrow", folder / "messages.arrow"

    @contextmanager
    def written(self) -> Iterator[Callable[[pa.RecordBatch, pa.RecordBatch], None]]:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        first, second = map(str, self._paths)
        with (
            pa.OSFile(first, "wb") as head_file,
            pa.OSFile(second, "wb") as row_file,
            pa.ipc.new_stream(head_file, STAGED, options=options) as heads,
            pa.ipc.new_stream(row_file, MESSAGES, options=options) as rows,
        ):

            def write(conversations: pa.RecordBatch, messages: pa.RecordBatch) -> None:
                self.rows += conversations.num_rows
                heads.write_batch(conversations)
                rows.write_batch(messages)

            yield write

    def conversations(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self._paths[0])) as file:
            yield from pa.ipc.open_stream(file)

    def batches(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """(conversations, messages), batch by batch."""
        with pa.OSFile(str(self._paths[1])) as file:
            yield from zip(self.conversations(), pa.ipc.open_stream(file), strict=True)


_SPLITS = (Split.TRAIN, Split.DEV, Split.TEST)
_EMBARGO, _COPY = len(_SPLITS), len(_SPLITS) + 1
_TRAIN, _DEV, _TEST = range(len(_SPLITS))

Places = NDArray[np.int8]
"""For each conversation its place in ``_SPLITS``, or why it has none."""


def _split(staged: _Staged, plan: SplitPlan, counts: Counter[str], path: Path, keep_copies: bool) -> None:
    places = _places(staged, plan, keep_copies)
    test, dev = HeldOutShingles(), HeldOutShingles()
    for conversations, messages, some in _placed(staged, places):
        sizes = conversations["message_count"].to_numpy()
        for held_out, split in ((test, _TEST), (dev, _DEV)):
            held_out.add(messages["text"].filter(pa.array(np.repeat(some == split, sizes))).to_pylist())
    both = test | dev
    test.save(staged.folder / "test.npy")
    both.save(staged.folder / "held_out.npy")
    with write_tables(path, {"conversations": CONVERSATIONS, "messages": MESSAGES}) as writer:
        keep, workers = _Keep({_TRAIN: both, _DEV: test}), None if len(both) else 1
        for kept in ordered_map(keep, _placed(staged, places), workers=workers, inline=_INLINE_BATCHES):
            writer.add_batch("conversations", kept.conversations)
            writer.add_batch("messages", kept.messages)
            counts.update(kept.counts)
        writer.counts.update(counts)
        logger.info("%s: %s", path.stem, writer.counts)


def _places(staged: _Staged, plan: SplitPlan, keep_copies: bool) -> Places:
    places = np.zeros(staged.rows, dtype=np.int8)
    if not keep_copies:
        places[_later_copies(staged)] = _COPY

    def starts() -> Iterator[tuple[str, float]]:
        done = 0
        for batch in staged.conversations():
            first = places[done : done + batch.num_rows] != _COPY
            kept = batch.select(["channel", "started_at"]).filter(pa.array(first)).drop_null()
            yield from zip(kept["channel"].to_pylist(), _seconds(kept["started_at"]), strict=True)
            done += batch.num_rows

    assign = plan(starts())
    done = 0
    for batch in staged.conversations():
        columns = [batch[name].to_pylist() for name in ("conversation_id", "channel", "split")]
        times = [_seconds(batch[name]) for name in ("started_at", "ended_at")]
        for number, (name, channel, given, start, end) in enumerate(zip(*columns, *times, strict=True), start=done):
            if places[number] != _COPY:
                split = assign(name, channel, start, end, given or None)
                places[number] = _EMBARGO if split is None else _SPLITS.index(split)
        done += batch.num_rows
    return places


def _seconds(times: pa.Array) -> list[float | None]:
    return [None if time is None else time / 1_000_000 for time in times.cast(pa.int64()).to_pylist()]


def _later_copies(staged: _Staged) -> NDArray[np.int64]:
    """The places of conversations whose very texts stood in an earlier one."""
    schema = pa.schema([("place", pa.int64()), ("digest", pa.binary(16))])

    def digests() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in staged.conversations():
            places = pa.array(np.arange(done, done + batch.num_rows))
            yield pa.RecordBatch.from_arrays([places, batch["digest"]], schema=schema)
            done += batch.num_rows

    query = (
        "SELECT place FROM (SELECT place, row_number() OVER (PARTITION BY digest ORDER BY place) AS nth FROM digests) "
        "WHERE nth > 1"
    )
    with connect_in_memory(staged.folder / "spill") as connection:
        connection.register("digests", pa.RecordBatchReader.from_batches(schema, digests()))
        found: NDArray[np.int64] = connection.sql(query).to_arrow_table()["place"].to_numpy()
        return found


def _placed(staged: _Staged, places: Places) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, Places]]:
    done = 0
    for conversations, messages in staged.batches():
        yield conversations, messages, places[done : done + conversations.num_rows]
        done += conversations.num_rows


@dataclass(frozen=True)
class _Kept:
    conversations: pa.RecordBatch
    messages: pa.RecordBatch
    counts: Counter[str]


@dataclass(frozen=True)
class _Keep:
    """Writes the split into conversations, and leaves out those without one and near-copies of what is closed to theirs."""

    closed_to: Mapping[int, HeldOutShingles]

    def __call__(self, placed: tuple[pa.RecordBatch, pa.RecordBatch, Places]) -> _Kept:
        conversations, messages, places = placed
        counts = Counter(dropped_duplicate=int((places == _COPY).sum()), dropped_embargo=int((places == _EMBARGO).sum()))
        sizes = conversations["message_count"].to_numpy()
        kept = places < len(_SPLITS)
        for split, held_out in self.closed_to.items():
            here = places == split
            texts = messages["text"].filter(pa.array(np.repeat(here, sizes))).to_pylist()
            leaks = _leaking(held_out, texts, sizes[here].tolist()) if len(held_out) else []
            kept[here.nonzero()[0][leaks]] = False
            counts["dropped_near_copy_of_held_out"] += len(leaks)
        for number, name in enumerate(_SPLITS):
            counts[f"kept_{name}_conversations"] = int((kept & (places == number)).sum())
        counts["kept_conversations"] = int(kept.sum())
        counts["kept_messages"] = int(sizes[kept].sum())
        names = pa.array((*_SPLITS, "", "")).take(pa.array(places))
        column = conversations.schema.get_field_index("split")
        named = conversations.drop_columns("digest").set_column(column, CONVERSATIONS.field("split"), names)
        return _Kept(named.filter(pa.array(kept)), messages.filter(pa.array(np.repeat(kept, sizes))), +counts)


def _leaking(held_out: HeldOutShingles, texts: list[str], sizes: list[int]) -> list[int]:
    """Which conversations, by number, are held out by half, or have a message that is held out almost whole."""
    found: list[int] = []
    counts = iter(held_out.hits_of_each(texts))
    for number, size in enumerate(sizes):
        own = list(islice(counts, size))
        hits, total = (sum(column) for column in zip(*own, strict=True))
        if contained(hits, total) >= CONVERSATION_THRESHOLD or any(contained(*one) >= MESSAGE_THRESHOLD for one in own):
            found.append(number)
    return found
