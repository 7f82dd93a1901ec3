"""How far an index is: a bar on a terminal, lines of log elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thread_embed_assets.search.index import Progress

_EVERY = 15.0  # seconds from one line to the next

logger = logging.getLogger(__name__)


@contextmanager
def shown_progress(label: str) -> Iterator[Progress]:
    """What to give to ``open_workspace``; nothing is shown until there is something to embed."""
    bar: Any = None
    on_terminal = sys.stderr.isatty()
    began = last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal bar, last
        if on_terminal:
            if bar is None:
                from tqdm import tqdm

                bar = tqdm(total=total, desc=label, unit=" threads", disable=False, leave=False)
            bar.update(done - bar.n)
        elif time.monotonic() - last >= _EVERY or done == total:
            last = time.monotonic()
            logger.info("%s: %d of %d threads indexed, %.0f s", label, done, total, last - began)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()
