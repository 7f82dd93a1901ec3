"""The training set of a stage: a seeded sample of the pair tables, as memory-mapped Arrow files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import BATCH_ROWS, TableHandle, connect_read_only
from thread_embed_assets.training.config import StageConfig

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

# Fewer conversations than this cannot make a batch of several conversations that differs from the next one.
FEWEST_CONVERSATIONS = 4


@dataclass(frozen=True)
class PairInput:
    """The pairs of one strategy and source, and their mined hard negatives where there are any."""

    strategy: str
    source: str
    pairs: TableHandle
    hard_negatives: TableHandle | None = None

    @property
    def name(self) -> str:
        return f"{self.strategy}-{self.source}"


@dataclass(frozen=True)
class InputCount:
    """What became of one input: its train rows, and how many of them are in the training set."""

    strategy: str
    source: str
    fingerprint: str
    rows: int
    rows_used: int
    left_out: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DevSet:
    """Held-out pairs of one (strategy, source): equally long lists."""

    name: str
    anchors: list[str]
    positives: list[str]
    conversations: list[str]


@dataclass(frozen=True)
class TrainingData:
    """Data sets with the columns ``anchor``, ``positive`` and, in some, ``negative``.

    The columns ``conversation`` and ``negative_conversation`` are in the files but hidden from the model (a column format);
    the batch sampler reads them.
    """

    datasets: dict[str, Dataset]
    counts: list[InputCount]


def share(cap: int | None, rows: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Divide ``cap`` in proportion to weight x rows; nobody gets more than its rows, and what is left goes round again."""
    if cap is None or sum(rows.values()) <= cap:
        return dict(rows)
    granted = dict.fromkeys(rows, 0)
    left = cap
    while left:
        open_names = sorted(name for name in rows if granted[name] < rows[name])
        total = sum(weights[name] * rows[name] for name in open_names)
        exact = {name: left * weights[name] * rows[name] / total for name in open_names}
        given = {name: min(int(exact[name]), rows[name] - granted[name]) for name in open_names}
        if not any(given.values()):
            largest_rest = sorted(open_names, key=lambda name: (-(exact[name] - int(exact[name])), name))
            given = {name: int(name in largest_rest[:left]) for name in open_names}
        for name, extra in given.items():
            granted[name] += extra
            left -= extra
    return granted


def write_training_data(config: StageConfig, inputs: Sequence[PairInput], mix: str, folder: Path) -> TrainingData:
    """Sample the train pairs of the inputs and write one Arrow file for each (strategy, source).

    Args:
        config: gives the cap, the weights, the hard negatives and the seed.
        inputs: pair tables of strategies that ``config.strategies`` names.
        mix: names the place in errors.
        folder: where the files are written; it exists.

    Raises:
        InputError: no train pair at all, too few conversations everywhere, pairs written in another text format, or mined
            hard negatives asked for but not given.
    """
    rows, left_out = {}, {}
    for given in inputs:
        count, conversations = _count(given, config)
        rows[given.name] = count
        if conversations < FEWEST_CONVERSATIONS:
            left_out[given.name] = f"{conversations} conversations; batches need at least {FEWEST_CONVERSATIONS}"
            logger.info("%s is left out: %s", given.name, left_out[given.name])
    usable = [given for given in inputs if given.name not in left_out]
    if not usable:
        raise InputError(
            f"mix '{mix}', stage '{config.stage}'",
            f"there are no train pairs to learn from ({_summary(rows)})",
            "Materialise conversations and pairs of at least one source of this mix, then train again",
        )
    by_strategy = {str(strategy): weight for strategy, weight in config.strategies.items()}
    weights = {given.name: by_strategy[given.strategy] for given in usable}
    quota = share(config.max_pairs, {given.name: rows[given.name] for given in usable}, weights)
    datasets: dict[str, Dataset] = {}
    for given in usable:
        if quota[given.name]:
            datasets |= _write(given, config, quota[given.name], folder)
            logger.info("%s: %d of %d train pairs", given.name, quota[given.name], rows[given.name])
    counts = [
        InputCount(i.strategy, i.source, i.pairs.fingerprint, rows[i.name], quota.get(i.name, 0), left_out.get(i.name, ""))
        for i in inputs
    ]
    return TrainingData(datasets, counts)


def read_dev_sets(config: StageConfig, inputs: Sequence[PairInput]) -> list[DevSet]:
    """At most ``config.dev_pairs`` held-out pairs, a seeded sample shared over the inputs by their rows."""
    found: list[DevSet] = []
    rows = {}
    for given in inputs:
        with connect_read_only([given.pairs]) as connection:
            rows[given.name] = _one_number(connection, f"SELECT count(*) FROM \"{given.pairs.table}\" WHERE split = 'dev'")
    quota = share(config.dev_pairs, rows, dict.fromkeys(rows, 1.0))
    for given in inputs:
        if quota[given.name] < 2:
            continue
        with connect_read_only([given.pairs]) as connection:
            sampled = _sampled(connection, given.pairs.table, "dev", quota[given.name], config.seed)
            query = f"SELECT anchor, positive, conversation_id FROM ({sampled}) ORDER BY pair_id"
            columns = connection.sql(query).to_arrow_table().to_pydict()
        found.append(DevSet(given.name, columns["anchor"], columns["positive"], columns["conversation_id"]))
    return found


def _count(given: PairInput, config: StageConfig) -> tuple[int, int]:
    table = given.pairs.table
    with connect_read_only([given.pairs]) as connection:
        formats = connection.execute(f'SELECT DISTINCT text_format FROM "{table}" ORDER BY 1').fetchall()
        wrong = [str(name) for (name,) in formats if name != config.text_format]
        if wrong:
            raise InputError(
                given.pairs.path,
                f"the pairs are written in the text format '{wrong[0]}', the stage trains on '{config.text_format}'",
                "Build the pairs in that format, or set the stage's text_format to theirs",
            )
        count = _one_number(connection, f"SELECT count(*) FROM \"{table}\" WHERE split = 'train'")
        query = f"SELECT count(DISTINCT conversation_id) FROM \"{table}\" WHERE split = 'train'"
        return count, _one_number(connection, query)


def _write(given: PairInput, config: StageConfig, quota: int, folder: Path) -> dict[str, Dataset]:
    """One file, or two where only some of the pairs have a hard negative: a batch needs the same columns throughout."""
    files: dict[str, Dataset] = {}
    kinds = (False,) if config.hard_negatives == "none" else (False, True)
    for with_negative in kinds:
        name = given.name + ("-hard" if with_negative else "")
        path = folder / f"{name}.arrow"
        if _write_arrow(path, _selected(given, config, quota, folder, with_negative)):
            files[name] = _open(path, with_negative)
    return files


def _selected(
    given: PairInput, config: StageConfig, quota: int, folder: Path, with_negative: bool
) -> Iterator[pa.RecordBatch]:
    mined = config.wants_mined_negatives
    if mined and given.hard_negatives is None:
        raise InputError(
            f"hard negatives of {given.name}",
            f"the stage wants '{config.hard_negatives}' negatives and there is no such table",
            f"Materialise hard_negatives for source '{given.source}', or set hard_negatives to 'none' or 'strategy'",
        )
    handles = [given.pairs, given.hard_negatives] if mined and given.hard_negatives else [given.pairs]
    with connect_read_only(handles) as connection:
        spill = str(folder).replace("'", "''")
        connection.execute(f"SET temp_directory='{spill}'")
        query = _sampled(connection, given.pairs.table, "train", quota, config.seed)
        if mined and given.hard_negatives:
            query = f"""
                SELECT p.* EXCLUDE (negative, negative_conversation_id), n.negative, n.negative_conversation_id
                FROM ({query}) p LEFT JOIN (
                    SELECT pair_id, arg_min(negative, rank) AS negative,
                           arg_min(negative_conversation_id, rank) AS negative_conversation_id
                    FROM "{given.hard_negatives.table}"
                    WHERE kind = '{config.hard_negatives}' AND strategy = '{given.strategy}' GROUP BY pair_id
                ) n USING (pair_id)"""
        columns = "anchor, positive, conversation_id AS conversation"
        if with_negative:
            columns = "anchor, positive, negative, conversation_id AS conversation, "
            columns += "coalesce(negative_conversation_id, pair_id) AS negative_conversation"
        where = "" if config.hard_negatives == "none" else f"WHERE negative IS {'NOT ' if with_negative else ''}NULL"
        yield from connection.sql(f"SELECT {columns} FROM ({query}) {where}").to_arrow_reader(BATCH_ROWS)


def _sampled(connection: duckdb.DuckDBPyConnection, table: str, split: str, count: int, chosen_seed: int) -> str:
    """SQL for a uniform sample of a split: the ``count`` rows whose hash of (pair id, seed) is smallest.

    Only the hashes are ordered; the texts stream by in file order. md5 and not DuckDB's ``hash``, which may change between
    its versions.
    """
    key = f"md5_number_lower(pair_id || '|{seed('training sample', chosen_seed)}')"
    rows = f"FROM \"{table}\" WHERE split = '{split}'"
    limit = _one_number(connection, f"SELECT max(k) FROM (SELECT {key} AS k {rows} ORDER BY k LIMIT {count})")
    return f"SELECT * {rows} AND {key} <= {limit}::UBIGINT"


def _write_arrow(path: Path, batches: Iterator[pa.RecordBatch]) -> int:
    rows = 0
    with path.open("wb") as file:
        writer = None
        for batch in batches:
            writer = writer or pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
        if writer is not None:
            writer.close()
    return rows


def _open(path: Path, with_negative: bool) -> Dataset:
    from datasets import Dataset

    columns = ["anchor", "positive", "negative"] if with_negative else ["anchor", "positive"]
    return Dataset.from_file(str(path)).with_format(columns=columns)


def _one_number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(number,)] = connection.execute(query).fetchall()
    return int(number)


def _summary(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name} has {count}" for name, count in rows.items()) or "no pair table is given"
