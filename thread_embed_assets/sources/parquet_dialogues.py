"""Dialogues of two parties in parquet files, one a row, without times or channels.

Each turn answers the one before it, which is its parent. The parties are named by their role; they are nobody's names, so
there is no roster.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from thread_embed_assets.chat.model import Conversation, Message, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import Source

logger = logging.getLogger(__name__)

_BATCH_ROWS = 4_096
_LOG_EVERY = 500_000  # rows
_ROLES = frozenset({"user", "assistant"})
_START, _END = "<|im_start|>", "<|im_end|>"
_SPLITS = {
    "train": Split.TRAIN,
    "dev": Split.DEV,
    "val": Split.DEV,
    "valid": Split.DEV,
    "validation": Split.DEV,
    "test": Split.TEST,
}
_SPLIT_NAME = re.compile(rf"({'|'.join(_SPLITS)})(?:[_.-]|$)")

Turn = tuple[str, str]  # role and text, as they are given
Rows = Iterator[list[Turn] | None]


@dataclass(frozen=True)
class Shape:
    """What the rows of a format look like.

    Attributes:
        columns: the columns it is read from, and the type each must have.
        turns: the turns of every row of a batch, in order; None for a row without any value.
        id_column: where a row's own id stands; without it, rows are named by file and number.
    """

    columns: dict[str, Callable[[pa.DataType], bool]]
    turns: Callable[[pa.RecordBatch, Counter[str]], Rows]
    id_column: str = ""


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_turns(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    fields = {field.name: field.type for field in kind.value_type}
    return all(name in fields and _is_text(fields[name]) for name in ("role", "content"))


def _chatml(batch: pa.RecordBatch, counts: Counter[str]) -> Rows:
    r"""``<|im_start|>ROLE\nTEXT<|im_end|>`` again and again in the column ``text``."""
    for text in batch.column("text").to_pylist():
        if text is None:
            yield None
            continue
        before, *pieces = text.split(_START)
        turns: list[Turn] = []
        for piece in pieces:
            head, end, after = piece.partition(_END)
            role, _, said = head.partition("\n")
            if not end:
                counts["turns without an end"] += 1
            elif after and not after.isspace():
                counts["text between turns"] += 1
            turns.append((role.strip(), said))
        if before and not before.isspace():
            counts["text between turns"] += 1
        yield turns


def _messages(batch: pa.RecordBatch, counts: Counter[str]) -> Rows:
    """A list of ``{content, role}`` in the column ``messages``."""
    lists = batch.column("messages")
    lengths = pc.list_value_length(lists).to_pylist()
    flat = lists.flatten()
    roles = iter(pc.struct_field(flat, "role").to_pylist())
    texts = iter(pc.struct_field(flat, "content").to_pylist())
    for length in lengths:
        yield None if length is None else [(next(roles) or "", next(texts) or "") for _ in range(length)]


def _question_and_answer(batch: pa.RecordBatch, counts: Counter[str]) -> Rows:
    """A question in the column ``input``, its answer in ``output``."""
    for question, answer in zip(batch.column("input").to_pylist(), batch.column("output").to_pylist(), strict=True):
        yield None if question is None and answer is None else [("user", question or ""), ("assistant", answer or "")]


SHAPES = {
    "chatml_parquet": Shape({"text": _is_text}, _chatml),
    "messages_parquet": Shape({"messages": _is_turns}, _messages, id_column="prompt_id"),
    "question_answer_parquet": Shape({"input": _is_text, "output": _is_text}, _question_and_answer),
}


def parse(folder: Path, source: Source) -> Iterator[Conversation]:
    """Every row as a conversation, file by file, row by row; holds one batch of rows.

    Turns without text, and those of any other role than user and assistant (a system prompt), are left out and counted; so
    are rows in which no turn is left. The split is the one with whose name the file's name begins.

    Raises:
        InputError: there is no parquet file, or one is damaged or lacks a column; it names the columns found.
    """
    shape = SHAPES[source.format]
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise InputError(folder, "there is no parquet file in it", "Fetch the source again")
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    for path in paths:
        origin = path.relative_to(folder).as_posix()
        split = _SPLIT_NAME.match(path.name)
        for name, turns in _rows(path, origin.removesuffix(".parquet"), shape, seen, counts):
            counts["rows"] += 1
            if counts["rows"] % _LOG_EVERY == 0:
                logger.info("%s: %s", origin, dict(counts))
            messages = _spoken(name, turns or (), counts)
            if not messages:
                counts["rows without a turn"] += 1
                continue
            yield Conversation(
                id=name,
                source=source.name,
                platform=source.platform,
                channel=source.name,
                truth=source.truth,
                messages=messages,
                published_split=_SPLITS[split[1]] if split else None,
                origin=origin,
            )
    logger.info("%s: %s", source.name, dict(counts))


def _rows(
    path: Path, stem: str, shape: Shape, seen: set[str], counts: Counter[str]
) -> Iterator[tuple[str, list[Turn] | None]]:
    """(id, turns) of every row of a file."""
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            columns = _columns(path, file.schema_arrow, shape)
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                names = _names(batch, shape, stem, number, seen)
                yield from zip(names, shape.turns(batch, counts), strict=True)
                number += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        problem = f"the file cannot be read beyond row {number:,} ({reason})"
        raise InputError(path, problem, "It may be cut short: fetch it again") from error


def _columns(path: Path, schema: pa.Schema, shape: Shape) -> list[str]:
    wrong = [name for name, fits in shape.columns.items() if name not in schema.names or not fits(schema.field(name).type)]
    if wrong:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        problem = f"has no column {wrong[0]!r} of the expected type; found are {found}"
        raise InputError(path, problem, "Check that `format` in the catalogue is that of this file")
    own = shape.id_column
    return [*shape.columns, own] if own in schema.names and _is_text(schema.field(own).type) else [*shape.columns]


def _names(batch: pa.RecordBatch, shape: Shape, stem: str, number: int, seen: set[str]) -> Iterable[str]:
    """A row's own id where it has one that no row before it had, else its file and number, counted from 0."""
    if shape.id_column not in batch.schema.names:
        return (f"{stem}:{row}" for row in range(number, number + batch.num_rows))
    names: list[str] = []
    for row, own in enumerate(batch.column(shape.id_column).to_pylist(), number):
        names.append(own if own and own not in seen else f"{stem}:{row}")
        seen.add(names[-1])
    return names


def _spoken(name: str, turns: Sequence[Turn], counts: Counter[str]) -> list[Message]:
    messages: list[Message] = []
    parents: tuple[str, ...] = ()
    for position, (role, text) in enumerate(turns):
        if role not in _ROLES:
            counts["turns of other roles"] += 1
        elif not text or text.isspace():
            counts["turns without text"] += 1
        else:
            message = Message(f"{name}:{position}", role, text, parents=parents)
            parents = (message.id,)
            messages.append(message)
    return messages
