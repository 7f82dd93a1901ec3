"""The benchmark as a folder in the hub's retrieval layout; texts only of sources that may be redistributed.

Each (source, task) has four configurations: ``<source>-<task>-corpus`` (``_id``, ``title``, ``text``), ``-queries``
(``_id``, ``text``), ``-qrels`` (``query-id``, ``corpus-id``, ``score``) and ``-candidates`` (``query-id``, ``corpus-ids``:
the near slice), with the splits dev and test. ``datasets.load_dataset`` and mteb's retrieval loader read it as it is.
``text`` is the format ``plain``; the other formats stand beside it as ``text_<format>``.

Of a source that may not be redistributed only ids leave; whoever has made its tasks fills in the texts::

    python -m thread_embed_assets.release.benchmark_dataset --fill FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.chat.words import is_everyday_word
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.benchmark_datasheet import Size, datasheet
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import connect_read_only, open_table
from thread_embed_assets.verdict import Verdict, no_faults

REBUILD = "rebuild.json"
REBUILD_COMMANDS = (
    "dg launch --assets '+benchmark_tasks' --partition {source}",
    "python -m thread_embed_assets.release.benchmark_dataset --fill FOLDER",
)
SHINGLE = 8  # as many words in a row, or a whole shorter line of at least FEWEST_WORDS, count as text of a source
FEWEST_WORDS = 4
SHORTEST_NAME = 3
_ROW_GROUP = 4_096
_WRITER: dict[str, Any] = {"version": "2.6", "compression": "zstd", "compression_level": 9, "data_page_version": "1.0"}
_TABLES = ("queries", "corpus", "qrels", "candidates")
_OURS = "summary"  # the sentences of this task are written by us
_TIME = pa.timestamp("us", tz="UTC")
_STRINGS = pa.list_(pa.string())
_PERSON = re.compile(r"\bp_[0-9a-f]{10}\b")
_WORD = re.compile(r"[\w|`^{}\[\]\\-]+")
_LINE_HEAD = re.compile(r"^(?:\[\+\d+[dhm]\] )?(?:speaker_\d+: )?")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Column:
    """A column of the package: what it is in SQL over the tasks tables; ``kind`` ids leave for every source."""

    name: str
    sql: str
    type: pa.DataType
    kind: str = "content"


def _texts() -> list[_Column]:
    names = {name: "text" if name == DEFAULT_FORMAT else f"text_{name}" for name in FORMATS}
    return [_Column(column, f"text_{name}", pa.string(), "text") for name, column in names.items()]


@dataclass(frozen=True)
class _Part:
    """One kind of configuration; rows are sorted by ``order``."""

    name: str
    table: str
    columns: tuple[_Column, ...]
    order: str
    group: str = ""
    schema: pa.Schema = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", pa.schema([(column.name, column.type) for column in self.columns]))


_PARTS = (
    _Part(
        "corpus",
        "corpus",
        (
            _Column("_id", "doc_id", pa.string(), "id"),
            _Column("title", "''", pa.string(), "id"),
            *_texts(),
            _Column("conversation_id", "conversation_id", pa.string(), "id"),
            _Column("message_ids", "message_ids", _STRINGS, "id"),
            _Column("channel", "channel", pa.string()),
            _Column("started_at", "started_at", _TIME),
            _Column("ended_at", "ended_at", _TIME),
        ),
        "doc_id",
    ),
    _Part(
        "queries",
        "queries",
        (
            _Column("_id", "query_id", pa.string(), "id"),
            *_texts(),
            _Column("paraphrase", "paraphrase", pa.string(), "text"),
            _Column("conversation_id", "conversation_id", pa.string(), "id"),
            _Column("message_ids", "message_ids", _STRINGS, "id"),
            _Column("tier", "tier", pa.string(), "id"),
            _Column("channel", "channel", pa.string()),
            _Column("cluster", "cluster", pa.string()),
            _Column("asked_at", "asked_at", _TIME),
            _Column("thread_messages", "thread_messages", pa.int32()),
            _Column("gap_seconds", "gap_seconds", pa.float64()),
            _Column("word_overlap", "word_overlap", pa.float64()),
        ),
        "query_id",
    ),
    _Part(
        "qrels",
        "qrels",
        (
            _Column("query-id", "query_id", pa.string(), "id"),
            _Column("corpus-id", "doc_id", pa.string(), "id"),
            _Column("score", "grade", pa.int32(), "id"),
        ),
        "query_id, doc_id",
    ),
    _Part(
        "candidates",
        "candidates",
        (
            _Column("query-id", "query_id", pa.string(), "id"),
            _Column("corpus-ids", "list(doc_id ORDER BY doc_id)", _STRINGS, "id"),
        ),
        "query_id",
        "query_id",
    ),
)
_WITH_TEXT = tuple(part for part in _PARTS if any(column.kind == "text" for column in part.columns))


@dataclass(frozen=True)
class Package:
    """What was written.

    Attributes:
        sizes: of each source, task and split.
        withheld: sources of which only ids were written.
    """

    folder: Path
    sizes: tuple[Size, ...]
    withheld: tuple[str, ...]


def package_benchmark(tasks: Mapping[str, Path], catalog: Mapping[str, Source], target: Path) -> Package:
    """Write the folder, whole or not at all; the same tasks and catalogue give the same bytes.

    Args:
        tasks: tasks file of each source.
        catalog: licence, revision and whether it may be redistributed, of each source.
        target: the folder that is made or replaced.

    Raises:
        InputError: a source is not in the catalogue, or there is nothing to write.
    """
    for source in tasks:
        if source not in catalog:
            raise InputError(tasks[source], f"the catalogue has no source {source!r}", "Add it, or leave its tasks out")
    sizes: list[Size] = []
    sets: dict[str, dict[str, Any]] = {}
    with atomic_folder(target) as part_folder:
        for source, path in sorted(tasks.items()):
            with _opened(path) as connection:
                found = _sizes(source, connection)
                sizes += found
                for size in found:
                    for part in _PARTS:
                        if part.name == "candidates" and not size.candidates:
                            continue
                        name = _file(source, size.task, part.name, size.split)
                        whole = catalog[source].redistribute
                        rows, digest = _write(part, connection, size.task, size.split, part_folder / name, whole)
                        if part in _WITH_TEXT:
                            sets[name] = {"rows": rows, "sha256": digest}
            logger.info("%s: packaged", source)
        if not sizes:
            raise InputError(target, "no source has a query, so there is nothing to package", "Materialise the tasks first")
        declared = {source: catalog[source] for source in sorted({size.source for size in sizes})}
        about = {name: _about(source) for name, source in declared.items()}
        _write_json(part_folder / REBUILD, {"sources": about, "text_sets": sets})
        (part_folder / "README.md").write_text(datasheet(sizes, declared, _configs(sizes), REBUILD_COMMANDS), "utf-8")
    return Package(target, tuple(sizes), tuple(name for name, source in declared.items() if not source.redistribute))


def _file(source: str, task: str, part: str, split: str) -> str:
    return f"data/{source}/{task}/{part}-{split}.parquet"


def _configs(sizes: Sequence[Size]) -> list[dict[str, Any]]:
    """The ``configs`` of the front matter, by which ``load_dataset`` finds the files."""
    configs: dict[str, list[dict[str, str]]] = {}
    for part in _PARTS:
        for size in sizes:
            if part.name != "candidates" or size.candidates:
                files = configs.setdefault(f"{size.source}-{size.task}-{part.name}", [])
                files.append({"split": size.split, "path": _file(size.source, size.task, part.name, size.split)})
    return [{"config_name": name, "data_files": files} for name, files in sorted(configs.items())]


def _about(source: Source) -> dict[str, Any]:
    return {
        "title": source.title,
        "licence": source.licence,
        "texts": source.redistribute,
        # where a team keeps its export is nobody's business
        "origin": source.origin.model_dump(mode="json", exclude={"path"} if source.origin.kind == "folder" else None),
        "revision": source.revision,
        "sha256": source.sha256,
        "rebuild": [] if source.redistribute else [command.format(source=source.name) for command in REBUILD_COMMANDS],
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect_read_only([open_table(path, table) for table in _TABLES]) as connection:
        yield connection


def _sizes(source: str, connection: duckdb.DuckDBPyConnection) -> list[Size]:
    def counted(table: str, what: str = "count(*)") -> dict[tuple[str, str], int]:
        rows = connection.execute(f"SELECT task, split, {what} FROM {table} GROUP BY ALL").fetchall()
        return {(task, split): int(count) for task, split, count in rows}

    documents, judgements = counted("corpus"), counted("qrels")
    candidates = counted("candidates", "count(DISTINCT query_id)")
    tiers = connection.execute("SELECT task, split, tier, count(*) FROM queries GROUP BY ALL ORDER BY ALL").fetchall()
    found: dict[tuple[str, str], dict[str, int]] = {}
    for task, split, tier, count in tiers:
        found.setdefault((task, split), {})[tier] = int(count)
    return [
        Size(
            source,
            *place,
            tiers=by_tier,
            documents=documents.get(place, 0),
            judgements=judgements.get(place, 0),
            candidates=candidates.get(place, 0),
        )
        for place, by_tier in found.items()
    ]


def _rows(part: _Part, connection: duckdb.DuckDBPyConnection, task: str, split: str) -> Iterator[pa.Table]:
    """The rows in tables of exactly ``_ROW_GROUP`` rows, but for the last, whatever batches the database gives."""
    columns = ", ".join(f'{column.sql} AS "{column.name}"' for column in part.columns)
    group = f" GROUP BY {part.group}" if part.group else ""
    query = f"SELECT {columns} FROM {part.table} WHERE task = '{task}' AND split = '{split}'{group} ORDER BY {part.order}"
    kept = part.schema.empty_table()
    for batch in connection.sql(query).to_arrow_reader(_ROW_GROUP):
        kept = pa.concat_tables([kept, pa.Table.from_batches([batch]).cast(part.schema)])
        while kept.num_rows >= _ROW_GROUP:
            yield kept.slice(0, _ROW_GROUP).combine_chunks()
            kept = kept.slice(_ROW_GROUP)
    if kept.num_rows:
        yield kept.combine_chunks()


def _write(
    part: _Part, connection: duckdb.DuckDBPyConnection, task: str, split: str, target: Path, redistribute: bool
) -> tuple[int, str]:
    """Write one file; returns its rows and the sha256 of what they hold before anything is withheld."""
    kinds = {"id", "text"} if part.name == "queries" and task == _OURS else {"id"}
    kept = {column.name for column in part.columns if redistribute or column.kind in kinds}
    digest, rows = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(target, part.schema, **_WRITER) as writer:
        for table in _rows(part, connection, task, split):
            rows += table.num_rows
            for row in table.to_pylist():
                digest.update(json.dumps(list(row.values()), ensure_ascii=False, default=str).encode() + b"\n")
            columns = [
                table.column(name) if name in kept else pa.nulls(table.num_rows, part.schema.field(name).type)
                for name in part.schema.names
            ]
            writer.write_table(pa.table(columns, schema=part.schema), row_group_size=_ROW_GROUP)
    return rows, digest.hexdigest()


def fill(folder: Path, layout: Layout) -> list[str]:
    """Put the withheld texts into a package, from the reader's own tasks; the folder changes only when all of them fit.

    Args:
        folder: what :func:`package_benchmark` wrote.
        layout: where the tasks of the withheld sources lie.

    Returns:
        The files that now hold texts.

    Raises:
        InputError: this is no package, the tasks of a source are not here, or they are not those that were packaged.
    """
    content = _read_rebuild(folder)
    withheld = {name: about for name, about in content["sources"].items() if not about["texts"]}
    filled: list[str] = []
    with atomic_folder(folder) as part_folder:
        shutil.copytree(folder, part_folder, dirs_exist_ok=True)
        for source, about in sorted(withheld.items()):
            tasks = layout.tasks(source)
            if not tasks.exists():
                commands = "; then ".join(about["rebuild"])
                raise InputError(tasks, f"the tasks of {source!r} are not here", f"Run: {commands}")
            names = [name for name in sorted(content["text_sets"]) if name.split("/")[1] == source]
            with _opened(tasks) as connection:
                for name in names:
                    task, file = name.split("/")[2:]
                    part_name, _, split = file.removesuffix(".parquet").partition("-")
                    part = next(part for part in _WITH_TEXT if part.name == part_name)
                    rows, digest = _write(part, connection, task, split, part_folder / name, redistribute=True)
                    expected = content["text_sets"][name]
                    if digest != expected["sha256"]:
                        problem = f"{name} has {rows} rows and sha256 {digest[:12]}, packaged were {expected['rows']}"
                        problem += f" and {expected['sha256'][:12]}"
                        remedy = f"Fetch {source} at revision {about['revision']} and build its tasks with the same code"
                        raise InputError(tasks, problem, remedy)
            filled += names
    return filled


def _read_rebuild(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / REBUILD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        problem = f"there is no {REBUILD} to read ({error})"
        raise InputError(folder, problem, "Give the folder of the packaged benchmark") from error
    return content


def no_withheld_text(folder: Path, tasks: Mapping[str, Path], catalog: Mapping[str, Source]) -> Verdict:
    """No text of a source that may not be redistributed stands in the folder, in whatever file and column.

    Text is eight words in a row, or a whole line of four to seven words; what a source that may be redistributed, or
    one of our own summaries, says in the same words is not withheld.

    Args:
        folder: the package.
        tasks: tasks file of each source.
        catalog: whether each may be redistributed.
    """
    withheld: set[int] = set()
    free: set[int] = set()
    for source, path in tasks.items():
        for table in ("corpus", "queries"):
            for task, text in _task_texts(path, table):
                ours = table == "queries" and task == _OURS
                (free if ours or catalog[source].redistribute else withheld).update(_pieces(text))
    withheld -= free
    faults: list[str] = []
    checked = 0
    for place, text in _folder_texts(folder):
        checked += 1
        if not withheld.isdisjoint(_pieces(text)):
            faults.append(place)
    return no_faults("strings with text of a withheld source", faults, checked)


def _task_texts(path: Path, table: str) -> Iterator[tuple[str, str]]:
    handle = open_table(path, table)
    columns = [name for name in handle.schema.names if name.startswith("text_") or name == "paraphrase"]
    for batch in handle.scan(["task", *columns]):
        tasks = batch.column(0).to_pylist()
        for number in range(len(columns)):
            yield from zip(tasks, batch.column(number + 1).to_pylist(), strict=True)


def _pieces(text: str) -> Iterator[int]:
    for line in text.splitlines():
        words = re.findall(r"\w+", _LINE_HEAD.sub("", line).casefold())
        if FEWEST_WORDS <= len(words) < SHINGLE:
            yield hash(tuple(words))
        for start in range(len(words) - SHINGLE + 1):
            yield hash(tuple(words[start : start + SHINGLE]))


def no_people(folder: Path, tasks: Mapping[str, Path], people: Mapping[str, Path]) -> Verdict:
    """No person id stands in the folder, and in no text the name of somebody in its conversation, or on a member list.

    Everyday words may stand, and so may the name of somebody who has nothing to do with the conversation.

    Args:
        folder: the package.
        tasks: tasks file of each source.
        people: private table of each source's names; a source without one is checked for ids alone.
    """
    names = {source: _names(tasks[source], path) for source, path in people.items() if source in tasks}
    faults: list[str] = []
    checked = 0
    for place, text in _folder_texts(folder):
        checked += 1
        if _PERSON.search(text):
            faults.append(f"an id in {place}")
    for file in sorted(folder.rglob("*.parquet")):
        source = file.relative_to(folder).parts[1]
        if source not in names or not {"text", "conversation_id"} <= set(pq.read_schema(file).names):
            continue
        members, by_conversation = names[source]
        for row in _file_rows(file):
            text = "\n".join(value for name, value in row.items() if name.startswith(("text", "paraphrase")) and value)
            if members.stand_in(text) or by_conversation.get(row["conversation_id"], members).stand_in(text):
                faults.append(f"a name in {row['_id']} of {file.relative_to(folder)}")
    return no_faults("strings with a person", faults, checked)


class _Names:
    """Case-folded names: those of one word, and by their first word those of more."""

    def __init__(self, names: set[str]) -> None:
        self._words = {name for name in names if _WORD.fullmatch(name)}
        self._phrases = {name: first[0] for name in names - self._words if (first := _WORD.search(name))}

    def stand_in(self, text: str) -> bool:
        folded = text.casefold()
        words = set(_WORD.findall(folded))
        return not self._words.isdisjoint(words) or any(
            first in words and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", folded) for name, first in self._phrases.items()
        )


def _names(tasks: Path, people: Path) -> tuple[_Names, dict[str, _Names]]:
    """Names of people with several, who are on a member list; and by conversation those of the people in it."""
    known: dict[str, set[str]] = {}
    for row in open_table(people, "people").rows_as_dicts():
        known.setdefault(row["person_id"], set()).add(row["name"].casefold())
    telling = {
        person: {name for name in names if len(name) >= SHORTEST_NAME and not is_everyday_word(name)}
        for person, names in known.items()
    }
    members = _Names({name for person, names in known.items() if len(names) > 1 for name in telling[person]})
    speakers: dict[str, set[str]] = {}
    for table in ("corpus", "queries"):
        for row in open_table(tasks, table).rows_as_dicts(["conversation_id", "person_ids"]):
            speakers.setdefault(row["conversation_id"], set()).update(row["person_ids"] or ())
    return members, {
        conversation: _Names({name for person in found for name in telling.get(person, ())})
        for conversation, found in speakers.items()
    }


def _folder_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Every string in the folder, with the place where it stands."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix != ".parquet":
            yield name, file.read_text("utf-8", errors="replace")
            continue
        for key, value in (pq.read_schema(file).metadata or {}).items():
            yield name, f"{key.decode(errors='replace')} {value.decode(errors='replace')}"
        for row in _file_rows(file):
            for column, value in row.items():
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and text:
                        yield f"{name}, {column} of {next(iter(row.values()))}", text


def _file_rows(file: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_ROW_GROUP):
            yield from batch.to_pylist()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m thread_embed_assets.release.benchmark_dataset")
    parser.add_argument("--fill", type=Path, required=True, metavar="FOLDER", help="the packaged benchmark")
    parser.add_argument("--root", type=Path, help="where data/ with the tasks lies (default: $THREAD_EMBED_ROOT)")
    options = parser.parse_args(arguments)
    try:
        filled = fill(options.fill, Layout(options.root) if options.root else Layout.from_environment())
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(filled)} files filled in, every checksum as packaged. Do not pass this folder on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
