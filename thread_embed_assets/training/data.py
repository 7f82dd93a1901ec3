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
    """The pairs of one strategy and source, and their hard negatives where there are any.

    The table of hard negatives may hold those of other strategies and sources, too: rows are told apart by ``kind``,
    ``strategy`` and ``source``.
    """

    strategy: str
    source: str
    pairs: TableHandle
    hard_negatives: TableHandle | None = None

    @property
    def name(self) -> str:
        return f"{self.strategy}-{self.source}"


@dataclass(frozen=True)
class InputCount:
    """What became of one input: its train rows, of how many conversations, and how many rows are in the training set."""

    strategy: str
    source: str
    fingerprint: str
    rows: int
    rows_used: int
    left_out: str = ""
    conversations: int = 0

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
    """Data sets with the columns ``anchor`` and ``positive``, and in those named ``...-hard`` ``negative_1`` to ``_n``.

    The columns ``conversation`` and ``negative_conversation_1`` to ``_n`` are in the files but hidden from the model (a
    column format); the batch sampler reads them.
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


@dataclass(frozen=True)
class Quotas:
    """Of each input, by its name: its train rows, their conversations, the rows that are taken, and why it gives none."""

    rows: dict[str, int]
    conversations: dict[str, int]
    taken: dict[str, int]
    left_out: dict[str, str]


def quotas(config: StageConfig, inputs: Sequence[PairInput], mix: str, most: int | None) -> Quotas:
    """Share ``most`` train pairs (None: all) over the inputs, by the weights of their strategies and their rows.

    Raises:
        InputError: no train pair at all, too few conversations everywhere, or pairs written in another text format.
    """
    rows, conversations, left_out = {}, {}, {}
    for given in inputs:
        rows[given.name], conversations[given.name] = _count(given, config)
        if conversations[given.name] < FEWEST_CONVERSATIONS:
            left_out[given.name] = f"{conversations[given.name]} conversations; batches need at least {FEWEST_CONVERSATIONS}"
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
    taken = share(most, {given.name: rows[given.name] for given in usable}, weights)
    return Quotas(rows, conversations, taken, left_out)


def write_training_data(config: StageConfig, inputs: Sequence[PairInput], mix: str, folder: Path) -> TrainingData:
    """Sample the train pairs of the inputs and write one Arrow file for each (strategy, source).

    Args:
        config: gives the cap, the weights, the hard negatives and the seed.
        inputs: pair tables of strategies that ``config.strategies`` names.
        mix: names the place in errors.
        folder: where the files are written; it exists.

    Raises:
        InputError: no train pair at all, too few conversations everywhere, pairs written in another text format, or hard
            negatives asked for but not given.
    """
    found = quotas(config, inputs, mix, config.max_pairs)
    datasets: dict[str, Dataset] = {}
    for given in inputs:
        quota = found.taken.get(given.name, 0)
        if quota:
            datasets |= _write(given, config, quota, folder)
            logger.info("%s: %d of %d train pairs", given.name, quota, found.rows[given.name])
    counts = [
        InputCount(
            i.strategy,
            i.source,
            i.pairs.fingerprint,
            found.rows[i.name],
            found.taken.get(i.name, 0),
            found.left_out.get(i.name, ""),
            found.conversations[i.name],
        )
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
            sampled = sampled_rows(connection, given.pairs.table, "dev", quota[given.name], config.seed)
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
    return count, train_conversations(given.pairs)


def train_conversations(pairs: TableHandle) -> int:
    """How many conversations the train rows of a pair table come from."""
    with connect_read_only([pairs]) as connection:
        query = f"SELECT count(DISTINCT conversation_id) FROM \"{pairs.table}\" WHERE split = 'train'"
        return _one_number(connection, query)


def _write(given: PairInput, config: StageConfig, quota: int, folder: Path) -> dict[str, Dataset]:
    """One file, or two where only some of the pairs have a hard negative: a batch needs the same columns throughout."""
    files: dict[str, Dataset] = {}
    widths = (0,) if config.hard_negatives == "none" else (0, negatives_a_pair(config))
    for width in widths:
        name = given.name + ("-hard" if width else "")
        path = folder / f"{name}.arrow"
        if _write_arrow(path, _selected(given, config, quota, folder, width)):
            files[name] = _open(path, width)
    return files


def negatives_a_pair(config: StageConfig) -> int:
    """How many columns of negatives the files have: a strategy brings one negative of its own, a table up to any number."""
    return 1 if config.hard_negatives == "strategy" else config.negatives


def _selected(given: PairInput, config: StageConfig, quota: int, folder: Path, width: int) -> Iterator[pa.RecordBatch]:
    """The sampled pairs with a hard negative, or for ``width`` 0 those without.

    A pair with fewer negatives than ``width`` repeats them in turn: a data set of its own for each number of them would lose
    most of its rows in batches that do not fill.
    """
    from_table = config.hard_negatives not in ("none", "strategy")
    if from_table and given.hard_negatives is None:
        asset = "mined_negatives for this mix" if config.hard_negatives == "mined" else "hard_negatives for this source"
        raise InputError(
            f"hard negatives of {given.name}",
            f"the stage wants '{config.hard_negatives}' negatives and there is no such table",
            f"Materialise {asset}, or set hard_negatives to 'none' or 'strategy'",
        )
    handles = [given.pairs, given.hard_negatives] if from_table and given.hard_negatives else [given.pairs]
    with connect_read_only(handles) as connection:
        spill = str(folder).replace("'", "''")
        connection.execute(f"SET temp_directory='{spill}'")
        query = sampled_rows(connection, given.pairs.table, "train", quota, config.seed)
        query = f"SELECT *, [negative] AS texts, [negative_conversation_id] AS places FROM ({query})"
        if from_table and given.hard_negatives:
            query = _with_negatives(query, given, config)
        columns = ["anchor", "positive", "conversation_id AS conversation"]
        turns = [f"[1 + {number} % found]" for number in range(width)]
        columns += [f"texts{turn} AS negative_{number}" for number, turn in enumerate(turns, 1)]
        columns += [
            f"coalesce(places{turn}, pair_id) AS negative_conversation_{number}" for number, turn in enumerate(turns, 1)
        ]
        where = "" if config.hard_negatives == "none" else f"WHERE found {'>' if width else '='} 0"
        query = f"SELECT *, list_count(texts) AS found FROM ({query})"
        yield from connection.sql(f"SELECT {', '.join(columns)} FROM ({query}) {where}").to_arrow_reader(BATCH_ROWS)


def _with_negatives(pairs: str, given: PairInput, config: StageConfig) -> str:
    """SQL that sets ``texts`` and ``places`` to a pair's nearest negatives of the configured kind, by rank, then nulls.

    One join for each rank: DuckDB lets a join's texts go to disk, but holds those of an aggregate in memory.
    """
    assert given.hard_negatives is not None
    ranks = range(1, negatives_a_pair(config) + 1)
    wanted = f"kind = '{config.hard_negatives}' AND strategy = '{given.strategy}' AND source = '{given.source}'"
    joins = " ".join(
        f"LEFT JOIN (SELECT pair_id, negative AS text, negative_conversation_id AS place "
        f'FROM "{given.hard_negatives.table}" WHERE {wanted} AND rank = {rank}) n{rank} USING (pair_id)'
        for rank in ranks
    )
    texts, places = (f"[{', '.join(f'n{rank}.{name}' for rank in ranks)}]" for name in ("text", "place"))
    return f"SELECT p.* EXCLUDE (texts, places), {texts} AS texts, {places} AS places FROM ({pairs}) p {joins}"


def sampled_rows(connection: duckdb.DuckDBPyConnection, table: str, split: str, count: int, chosen_seed: int) -> str:
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


def _open(path: Path, width: int) -> Dataset:
    from datasets import Dataset

    columns = ["anchor", "positive", *(f"negative_{number}" for number in range(1, width + 1))]
    return Dataset.from_file(str(path)).with_format(columns=columns)


def _one_number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(number,)] = connection.execute(query).fetchall()
    return int(number)


def _summary(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{name} has {count}" for name, count in rows.items()) or "no pair table is given"
