"""Find the thread that somebody half remembers."""

from __future__ import annotations

from collections.abc import Sequence

from thread_embed_assets.examples.chats import options
from thread_embed_assets.search.searcher import Hit, Searcher, open_workspace


def find_thread(searcher: Searcher, description: str) -> Hit | None:
    """The best thread; None where there is nothing to search."""
    hits = searcher.search(description, top=1).hits
    return hits[0] if hits else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("description", nargs="?", default="the disk that filled up overnight because of trace logs")
    given = parser.parse_args(arguments)
    with open_workspace(given.workspace) as searcher:
        hit = find_thread(searcher, given.description)
    if hit is None:
        print("no threads")
        return
    print(f"{hit.channel}, {hit.started:%Y-%m-%d}" if hit.started else hit.channel)
    for line in hit.lines:
        print(f"{'>' if line.matches else ' '} {line.author}: {line.text}")


if __name__ == "__main__":
    main()
