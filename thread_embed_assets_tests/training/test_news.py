from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.news import News, news
from thread_embed_assets_tests.pairs.made import pair, write_pairs


def _trained_on(**conversations: int) -> Checkpoint:
    inputs: list[dict[str, Any]] = [
        {"strategy": strategy, "source": source, "conversations": count - (strategy == "response")}
        for source, count in conversations.items()
        for strategy in ("thread", "response")
    ]
    return Checkpoint(Path("nowhere"), "aaaa", {"inputs": inputs})


def _write(layout: Layout, strategy: str, source: str, train: int, dev: int = 0) -> None:
    splits = ["train"] * train + ["dev"] * dev
    rows = [pair(n, conversation_id=f"c{n // 2}", split=splits[n // 2]) for n in range(2 * len(splits))]
    write_pairs(layout.pairs(strategy, source), rows)


def test_train_conversations_of_the_pair_tables_are_compared_with_the_manifests(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    _write(layout, "thread", "team", train=9, dev=5)
    _write(layout, "response", "team", train=4)
    _write(layout, "temporal", "team", train=50)  # a strategy that the checkpoint does not learn from
    _write(layout, "thread", "irc", train=3)
    found = news(_trained_on(team=6, irc=8), ["team", "irc", "absent"], layout)
    assert found.then == {"team": 6, "irc": 8} and found.now == {"team": 9, "irc": 3, "absent": 0}
    assert found.new == 3, "what another source has lost takes nothing away"
    assert str(found) == "3 new train conversations, 14 when it was trained"


def test_a_source_that_is_new_counts_whole(tmp_path: Path) -> None:
    _write(Layout(tmp_path), "thread", "team", train=7)
    assert news(_trained_on(irc=8), ["team"], Layout(tmp_path)).new == 7


@pytest.mark.parametrize(
    ("then", "now", "enough"),
    [
        (1000, 1049, False),  # neither 100 nor 5 %
        (1000, 1050, True),  # 5 %
        (10_000, 10_099, False),
        (10_000, 10_100, True),  # 100
        (0, 0, False),  # nothing is 5 % of nothing
        (100, 90, False),
    ],
)
def test_a_number_or_a_share_is_enough(then: int, now: int, enough: bool) -> None:
    assert News({"team": then}, {"team": now}).enough(100, 0.05) is enough
