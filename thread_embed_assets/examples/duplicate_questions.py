"""Say so when a question was asked before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.examples.chats import Reader, open_reader, options, threads_of

DEFAULT = ("why is CI so slow, 30 minutes? is it the cache key again?", "what's for lunch?")
ALARMS = 0.02  # share of the questions asked so far that would have raised an alarm


@dataclass(frozen=True)
class Asked:
    """The questions of a workspace.

    Attributes:
        threads: that begin with one.
        vectors: of the questions [threads, dimension].
        threshold: cosine from which a question counts as asked before.
    """

    threads: Sequence[StoredConversation]
    vectors: Vectors
    threshold: float


def questions(reader: Reader, threads: Sequence[StoredConversation], alarms: float = ALARMS) -> Asked:
    """Threads that begin with a question, and a threshold from how near these are to one another.

    How near two questions are depends on the team and on the model, so the threshold is drawn from the data: the share
    ``alarms`` of the questions is nearer than that to another one.
    """
    asking = [thread for thread in threads if "?" in thread.messages[0].text]
    vectors = reader.documents([reader.text(thread.messages[:1]) for thread in asking])
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1.0)
    return Asked(asking, vectors, float(np.quantile(near.max(axis=1), 1 - alarms)))


def asked_before(reader: Reader, asked: Asked, question: str) -> StoredConversation | None:
    """The thread that began with the same question; None where there is none."""
    near = asked.vectors @ reader.documents([question])[0]
    best = int(near.argmax())
    return asked.threads[best] if near[best] >= asked.threshold else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("question", nargs="*", default=DEFAULT)
    given = parser.parse_args(arguments)
    reader = open_reader()
    asked = questions(reader, threads_of(given.workspace))
    for question in given.question:
        thread = asked_before(reader, asked, question)
        earlier = "new" if thread is None else f"asked in {thread.channel}: {reader.text(thread.messages[:1])}"
        print(f"{question}\n     {earlier}")


if __name__ == "__main__":
    main()
