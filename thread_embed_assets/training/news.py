"""What has come since a model was trained: enough to train anew?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.data import train_conversations


@dataclass(frozen=True)
class News:
    """Train conversations by source.

    Attributes:
        then: that the checkpoint had to learn from.
        now: that the pair tables hold.
    """

    then: Mapping[str, int]
    now: Mapping[str, int]

    @property
    def new(self) -> int:
        """How many more there are, of all sources. An export that loses as many as it gains shows no gain."""
        return sum(max(0, count - self.then.get(source, 0)) for source, count in self.now.items())

    def enough(self, conversations: int, share: float) -> bool:
        """Whether so many are new, or such a share of what was there."""
        known = sum(self.then.values())
        return self.new > 0 and (self.new >= conversations or self.new >= share * known)

    def __str__(self) -> str:
        return f"{self.new} new train conversations, {sum(self.then.values())} when it was trained"


def news(checkpoint: Checkpoint, sources: Iterable[str], layout: Layout) -> News:
    """Compare a checkpoint's manifest with the pair tables that are here now.

    Args:
        checkpoint: one whose manifest was written before conversations were counted had none, as far as is known.
        sources: of its mix.
        layout: where the pair tables lie.

    Raises:
        InputError: a pair table is damaged.
    """
    then: dict[str, int] = {}
    strategies = {str(given["strategy"]) for given in checkpoint.manifest["inputs"]}
    for given in checkpoint.manifest["inputs"]:
        then[given["source"]] = max(then.get(given["source"], 0), int(given.get("conversations", 0)))
    return News(then, {source: _conversations(source, strategies, layout) for source in sources})


def _conversations(source: str, strategies: Iterable[str], layout: Layout) -> int:
    """Those that the pairs of one strategy come from, of the strategy that has most, as the manifest counts them."""
    paths = [layout.pairs(strategy, source) for strategy in strategies]
    return max((train_conversations(open_table(path, "pairs")) for path in paths if path.exists()), default=0)
