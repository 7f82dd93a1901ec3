"""The candidates of many messages side by side: what a score of each is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Candidate
from thread_embed_assets.reranker.tokens import BY_MESSAGE
from thread_embed_assets.storage.tables import TableHandle

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

RowScorer = Callable[[pa.RecordBatch], npt.NDArray[np.floating[Any]]]
"""Rows of ``EXAMPLES`` (message, thread and the features) to their scores [rows]."""

_READ = ("message", "thread", *FEATURES)
_HEAD = ("group_id", "candidate_id", "label", "origin", "tier", "domain", "profile", "sent_at")


@dataclass(frozen=True)
class Groups:
    """Rows of candidates, those of a message in a run.

    Attributes:
        starts: [groups + 1], the row at which each run starts; last, the number of rows.
        labels: [rows], whether it is the right one; one in each run is.
        new: [rows], whether it is a new thread.
        origins, tiers, domains: [groups].
        clusters: [groups], messages that are drawn together: those of a simulated user, or of a channel's day.
    """

    starts: Ints
    labels: Bools
    new: Bools
    origins: Sequence[str]
    tiers: Sequence[str]
    domains: Sequence[str]
    clusters: Sequence[str]

    def __len__(self) -> int:
        return len(self.clusters)

    @property
    def of_new(self) -> Bools:
        """[groups]: a new thread is right."""
        return self.reduce(np.logical_or, self.labels & self.new)

    def reduce(self, what: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[rows] to [groups]."""
        found: npt.NDArray[Any] = what.reduceat(values, self.starts[:-1])
        return found

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[groups] to [rows]."""
        return np.repeat(values, np.diff(self.starts))

    def best(self, scores: npt.NDArray[Any]) -> Ints:
        """[groups]: the row with the highest score of each; of equals the first."""
        highest = np.flatnonzero(scores == self.spread(self.reduce(np.maximum, scores)))
        group = np.searchsorted(self.starts, highest, side="right") - 1
        return highest[np.unique(group, return_index=True)[1]]

    def ranks(self, scores: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """[groups] each: whether the right candidate is first, and one over its rank.

        Among k equals it is first in one of k draws, and its rank is that of their middle.
        """
        right = self.spread(scores[self.labels])
        above = self.reduce(np.add, (scores > right).astype(np.int64))
        equal = self.reduce(np.add, (scores == right).astype(np.int64))
        return np.where(above == 0, 1 / equal, 0.0), 1 / (1 + above + (equal - 1) / 2)

    def take(self, wanted: Bools, scores: Floats) -> tuple[Groups, Floats]:
        """The groups whose place is true, and their scores."""
        rows = self.spread(wanted)
        starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[wanted])])
        places = np.flatnonzero(wanted).tolist()
        words = ([values[p] for p in places] for values in (self.origins, self.tiers, self.domains, self.clusters))
        return Groups(starts, self.labels[rows], self.new[rows], *words), scores[rows]


def single_group(new: Sequence[bool]) -> Groups:
    """The candidates of one message of which nobody knows which is right.

    Args:
        new: [candidates], whether it is a new thread.
    """
    count = len(new)
    return Groups(np.array([0, count]), np.zeros(count, np.bool_), np.array(new, np.bool_), [""], [""], [""], [""])


def read_groups(examples: TableHandle, where: str) -> Groups:
    """The groups of the rows that ``where`` (SQL) selects, in the order ``BY_MESSAGE``; no text is read.

    Raises:
        InputError: there are no such rows, or not exactly one of a group is right.
    """
    batches = list(examples.scan(_HEAD, where, BY_MESSAGE))
    table = pa.Table.from_batches(batches).combine_chunks() if batches else pa.table({})
    if not table.num_rows:
        raise InputError(examples.path, f"there are no examples with {where}", "Write the examples again")
    group = table["group_id"].to_numpy(zero_copy_only=False)
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    labels = table["label"].to_numpy() == 1
    if (np.add.reduceat(labels.astype(np.int64), first) != 1).any():
        problem = f"with {where}, not exactly one candidate of each message is right"
        raise InputError(examples.path, problem, "Select whole groups, or write the examples again")
    origins, tiers, domains, profiles = (
        table[name].take(pa.array(first)).to_pylist() for name in ("origin", "tier", "domain", "profile")
    )
    days = [sent and sent.date() for sent in table["sent_at"].take(pa.array(first)).to_pylist()]
    clusters = [
        f"{origin}/{profile or f'{domain}/{day}'}"
        for origin, domain, profile, day in zip(origins, domains, profiles, days, strict=True)
    ]
    new = np.array([name == NEW_THREAD for name in table["candidate_id"].to_pylist()])
    return Groups(np.append(first, len(group)), labels, new, origins, tiers, domains, clusters)


def of_candidates(scorer: RowScorer) -> Callable[[str, Sequence[Candidate]], npt.NDArray[np.float32]]:
    """The scorer for a message's text and its candidates, as where messages are linked one by one."""

    def score(message: str, candidates: Sequence[Candidate]) -> npt.NDArray[np.float32]:
        texts = [[message] * len(candidates), [candidate.text for candidate in candidates]]
        features = np.stack([candidate.features for candidate in candidates], axis=1)
        columns = [pa.array(values) for values in (*texts, *features)]
        return np.asarray(scorer(pa.RecordBatch.from_arrays(columns, names=list(_READ))), np.float32)

    return score


def score_rows(examples: TableHandle, where: str, scorer: RowScorer) -> Floats:
    """Scores [rows] in the order of :func:`read_groups`, batch by batch."""
    batches = examples.scan(_READ, where, BY_MESSAGE)
    return np.concatenate([np.asarray(scorer(batch), np.float64) for batch in batches])
