"""What a channel talked about in its busiest week: threads that are about one thing, together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.examples.chats import Reader, open_reader, options, threads_of

WEEK = 7 * 86_400.0
NEAR = 0.25  # threads whose mean cosine is above it are about one thing


def busiest_week(threads: Sequence[StoredConversation], channel: str) -> list[StoredConversation]:
    """The threads of a channel that begin in the seven days (from a Thursday, as 1970 began) with the most of them."""
    timed = [thread for thread in threads if thread.channel == channel and thread.start is not None]
    weeks = Counter(int((thread.start or 0) // WEEK) for thread in timed)
    if not weeks:
        return []
    week = max(weeks, key=lambda number: (weeks[number], -number))
    return [thread for thread in timed if int((thread.start or 0) // WEEK) == week]


def clusters(reader: Reader, threads: Sequence[StoredConversation], near: float = NEAR) -> list[list[StoredConversation]]:
    """The threads in groups, the largest first; each begins with the thread that is nearest to all of its group."""
    if len(threads) < 2:
        return [[thread] for thread in threads]
    vectors = reader.documents([reader.text(thread.messages) for thread in threads])
    grouping = AgglomerativeClustering(n_clusters=None, metric="cosine", linkage="average", distance_threshold=1 - near)
    labels = grouping.fit_predict(vectors)
    found = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        central = vectors[places] @ vectors[places].mean(axis=0)
        found.append([threads[place] for place in places[np.argsort(-central, kind="stable")]])
    return sorted(found, key=len, reverse=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--channel", default="platform")
    given = parser.parse_args(arguments)
    reader = open_reader()
    for number, group in enumerate(clusters(reader, busiest_week(threads_of(given.workspace), given.channel)), start=1):
        print(f"{number}. {len(group)} threads")
        for thread in group:
            print(f"     {reader.text(thread.messages[:1])[:100]}")


if __name__ == "__main__":
    main()
