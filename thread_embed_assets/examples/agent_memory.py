"""Memory for an agent: what was said is kept, and what fits a new turn comes back within a budget of words."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from thread_embed_assets.chat.model import Message
from thread_embed_assets.examples.chats import Reader, open_reader, options, threads_of

CONTEXT = 3  # turns that a memory is embedded with: a short one means little alone
HALF_LIFE = 30 * 86_400.0  # seconds after which the bonus for being recent is half
RECENT = 0.1  # that bonus at first, beside cosines


class Memory:
    """Turns of conversations in one DuckDB file; the next process that opens it remembers them, too.

    Args:
        path: of the file.
        reader: embeds; a file belongs to one model.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self._reader = reader
        self._connection = duckdb.connect(str(path))
        size = reader.documents(["size"]).shape[1]
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS turns (conversation VARCHAR, said_at DOUBLE, who VARCHAR, text VARCHAR, "
            f"vector FLOAT[{size}], PRIMARY KEY (conversation, said_at, who))"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def remember(self, conversation: str, turns: Sequence[Message]) -> None:
        """Keep the turns of a conversation, in order; those that are known already stay as they are."""
        windows = [self._reader.text(turns[max(0, end - CONTEXT) : end]) for end in range(1, len(turns) + 1)]
        incoming = pa.table(
            {
                "conversation": [conversation] * len(turns),
                "said_at": [turn.time or 0.0 for turn in turns],
                "who": [turn.author for turn in turns],
                "text": [turn.text for turn in turns],
                "vector": list(self._reader.documents(windows)),
            }
        )
        self._connection.register("incoming", incoming)
        self._connection.execute("INSERT OR IGNORE INTO turns SELECT * FROM incoming")

    def recall(self, turn: str, now: float, words: int = 60) -> list[tuple[float, str, str]]:
        """Time, author and text of what fits a turn best, as many as fit the budget, oldest first."""
        vector = self._reader.query(turn).tolist()
        query = f"""
            SELECT said_at, who, text FROM turns WHERE said_at < $now
            ORDER BY array_cosine_similarity(vector, $vector::FLOAT[{len(vector)}])
                     + {RECENT} * power(2, (said_at - $now) / {HALF_LIFE}) DESC, conversation, said_at LIMIT 50
        """
        found, left = [], words
        for said_at, who, text in self._connection.execute(query, {"vector": vector, "now": now}).fetchall():
            left -= len(str(text).split())
            if left < 0:
                break
            found.append((float(said_at), str(who), str(text)))
        return sorted(found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("turn", nargs="?", default="what did we say about the size of the iOS app?")
    parser.add_argument("--channel", default="sprout-app", help="the agent's own; it remembers no other")
    given = parser.parse_args(arguments)
    reader = open_reader()
    threads = [thread for thread in threads_of(given.workspace) if thread.channel == given.channel]
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory.duckdb", reader) as memory:
        for thread in threads:
            memory.remember(thread.id, thread.messages)
        now = max((thread.end or 0.0 for thread in threads), default=0.0) + 1
        for _, who, text in memory.recall(given.turn, now):
            print(f"{who}: {text}")


if __name__ == "__main__":
    main()
