"""Words and meaning in one ranking, with an index of your own: what the search command does, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.retrievers import Bm25, best_first, tokens
from thread_embed_assets.examples.chats import Reader, open_reader, options, threads_of
from thread_embed_assets.search.fusion import fuse


def rankings(reader: Reader, texts: Sequence[str], query: str, top: int = 3) -> dict[str, npt.NDArray[np.intp]]:
    """Places of the best texts, by words (BM25), by meaning, and by both."""
    bm25 = Bm25([query], texts).block(0, 1)
    dense = reader.query(query)[None] @ reader.documents(texts).T
    both = fuse(bm25, dense, np.array([len(set(tokens([query])[0]))]))
    return {name: best_first(scores[0], top) for name, scores in {"words": bm25, "meaning": dense, "both": both}.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("query", nargs="?", default="noeviction")
    given = parser.parse_args(arguments)
    reader, threads = open_reader(), threads_of(given.workspace)
    for name, places in rankings(reader, [reader.text(thread.messages) for thread in threads], given.query).items():
        print(name)
        for place in places:
            print(f"     {threads[place].channel}: {reader.text(threads[place].messages[:1])[:100]}")


if __name__ == "__main__":
    main()
