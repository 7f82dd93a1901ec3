"""What a search found, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from thread_embed_assets.search.matches import Line, in_context
from thread_embed_assets.search.searcher import Hit, Reply

_WIDEST = 400  # characters of a line


def show(reply: Reply, lines: int) -> str:
    """The hits, each with at most ``lines`` of its lines; ``>`` stands before those that match."""
    if not reply.hits:
        return "no threads" if reply.searched == reply.threads else f"no threads: the filters leave {reply.searched:,}"
    return "\n\n".join("\n".join(_block(rank, hit, lines)) for rank, hit in enumerate(reply.hits, start=1))


def _block(rank: int, hit: Hit, most: int) -> Iterator[str]:
    yield f"{rank}. {hit.score:.3f}  {hit.channel}  {_moment(hit.started)}  {_count(len(hit.lines), 'message')}"
    for line in in_context(hit.lines, most):
        yield f"       … {_count(line, 'line')} …" if isinstance(line, int) else _line(line)


def _line(line: Line) -> str:
    text = _plain(" / ".join(line.text.split("\n")))
    text = text if len(text) <= _WIDEST else text[: _WIDEST - 1].rstrip() + "…"
    return f"   {'>' if line.matches else ' '} {_plain(line.author)}: {text}"


def _plain(text: str) -> str:
    """Without control characters, which could move a terminal's cursor or change its colours."""
    return "".join(char if char.isprintable() else " " for char in text)


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "no date"
