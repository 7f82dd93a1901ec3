from __future__ import annotations

from dataclasses import replace

from thread_embed_assets.benchmark.report import Leaderboard
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.benchmark.made_results import BETA, FEW, Made, write_all


def test_every_row_of_a_markdown_table_has_the_width_of_its_header(leaderboard: Leaderboard) -> None:
    tables = [text for text in leaderboard.markdown.split("\n\n") if text.startswith("|")]
    assert len(tables) > 20
    for text in tables:
        assert len({line.count("|") for line in text.splitlines()}) == 1


def test_names_cannot_break_the_page(undrawn: Layout) -> None:
    bad = Made("a|b<script>*x*", "reference", 0.3)
    board = write_all(undrawn, [replace(BETA, contenders=[FEW[0], bad])])
    assert "| a\\|b&lt;script&gt;\\*x\\* |" in board.markdown
    assert "<script>*x*" not in board.html_path.read_text()
