"""The hard slice of an index: what was said in the same channel around the same time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MOST_CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Placed:
    """A query or a document by its channel and time in seconds: a query's own, the first and last message of a document."""

    id: str
    channel: str
    start: float
    end: float


def candidates(
    queries: Sequence[Placed],
    documents: Sequence[Placed],
    relevant: Sequence[Collection[str]],
    *,
    only_earlier: bool,
    most: int = MOST_CANDIDATES,
) -> Iterator[tuple[str, list[str]]]:
    """Of each query its relevant documents and the nearest others of its channel, ``most`` in all, ids ascending.

    A document's distance is the time between the query and the middle of the document. Queries whose channel holds no other
    document have no slice.

    Args:
        queries: those whose time is known.
        documents: those whose times are known.
        relevant: ids of the relevant documents of each query.
        only_earlier: leave out documents that start after the query, as for a system that has only the past.
        most: size of a slice.
    """
    by_channel: dict[str, list[Placed]] = {}
    for document in documents:
        by_channel.setdefault(document.channel, []).append(document)
    middles, starts = {}, {}
    for channel, placed in by_channel.items():
        placed.sort(key=lambda d: (d.start + d.end, d.id))
        middles[channel] = np.array([(d.start + d.end) / 2 for d in placed])
        starts[channel] = np.array([d.start for d in placed])
    for query, wanted in zip(queries, relevant, strict=True):
        placed = by_channel.get(query.channel, [])
        if len(placed) < 2:
            continue
        distance = np.abs(middles[query.channel] - query.start)
        if only_earlier:
            distance[starts[query.channel] > query.start] = np.inf
        near = np.argsort(distance, kind="stable")[: most + len(wanted)]
        others = [placed[i].id for i in near if np.isfinite(distance[i]) and placed[i].id not in wanted]
        if others:
            yield query.id, sorted([*wanted, *others[: max(0, most - len(wanted))]])
