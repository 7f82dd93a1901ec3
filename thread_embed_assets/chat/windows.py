"""Cutting a conversation into windows of messages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def cut(count: int, sizes: Sequence[int], draw: Random) -> list[range]:
    """Cover ``count`` messages with adjacent, non-overlapping windows of drawn sizes.

    Args:
        count: number of messages.
        sizes: the allowed window sizes, ascending; each window's size is drawn from them.
        draw: the generator to draw from.

    Returns:
        Windows in order. A rest shorter than the smallest size is left out, so every window has an allowed size.
    """
    smallest, windows, start = sizes[0], [], 0
    while count - start >= smallest:
        room = count - start
        fitting = [s for s in sizes if s <= room]
        size = fitting[int(draw.random() * len(fitting))]
        windows.append(range(start, start + size))
        start += size
    return windows
