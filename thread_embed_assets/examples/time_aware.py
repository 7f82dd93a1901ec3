"""The same question at two times: only what was said by then, and of that rather what is recent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from thread_embed_assets.examples.chats import options
from thread_embed_assets.search.filters import Filters, time_of
from thread_embed_assets.search.searcher import Hit, Searcher, open_workspace

HALF_LIFE_DAYS = 14.0
RECENT = 0.15  # what a thread of today gains over an old one, beside scores of some tenths


def as_of(searcher: Searcher, query: str, moment: datetime, top: int = 3) -> list[Hit]:
    """The threads that had begun by then, recent ones ahead of equally good old ones."""
    hits = searcher.search(query, Filters(until=moment.timestamp()), top=20).hits
    aged = [replace(hit, score=hit.score + RECENT * 0.5 ** (_days(hit, moment) / HALF_LIFE_DAYS)) for hit in hits]
    return sorted(aged, key=lambda hit: -hit.score)[:top]


def _days(hit: Hit, moment: datetime) -> float:
    return max(0.0, (moment - hit.started).total_seconds() / 86_400) if hit.started else float("inf")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("query", nargs="?", default="frost alarm")
    parser.add_argument("--at", action="append", help="a time such as 2025-03-10; may be given again")
    given = parser.parse_args(arguments)
    with open_workspace(given.workspace) as searcher:
        for written in given.at or ["2025-03-10", "2025-04-25"]:
            print(f"asked on {written}")
            for hit in as_of(searcher, given.query, datetime.fromtimestamp(time_of(written, "--at", end=True)).astimezone()):
                print(f"     {hit.score:.2f}  {hit.started:%Y-%m-%d}  {hit.channel}: {hit.lines[0].text[:90]}")


if __name__ == "__main__":
    main()
