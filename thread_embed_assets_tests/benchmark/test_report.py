from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.report import FEW_CLUSTERS, Leaderboard, terminal_table, write_leaderboard
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets_tests.benchmark.test_evaluate import evaluate, prepare

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    bench = evaluate(prepare(tmp_path_factory.mktemp("report")))
    return write_leaderboard([bench.layout.results("made")], bench.layout)


def results(leaderboard: Leaderboard) -> Path:
    return leaderboard.json_path.parent / "results" / "made.duckdb"


def test_the_markdown_holds_the_numbers_of_the_tables(leaderboard: Leaderboard) -> None:
    text = leaderboard.markdown
    lines = text.splitlines()
    for row in open_table(results(leaderboard), "summary").rows_as_dicts(where="split = 'test' AND status = 'RUN'"):
        (line,) = [x for x in lines if x.startswith(f"| {row['contender']} |") and "[" in x]
        assert f"{row['MRR@10']:.3f} [{row['MRR@10_low']:.3f}, {row['MRR@10_high']:.3f}]" in line
        (others,) = [
            x
            for x in lines[lines.index("### Other metrics") :]
            if x.startswith(f"| {row['contender']} | {row['format']} | 0")
        ][:1]
        for metric in ("Recall@1", "Recall@5", "Recall@10", "NDCG@10"):
            assert f" {row[metric]:.3f} " in others
    for row in open_table(results(leaderboard), "comparisons").rows_as_dicts():
        start = (
            f"| {row['task']} | {row['metric']} | {row['contender_a']} | {row['contender_b']} | {row['difference']:+.3f} ["
        )
        assert any(x.startswith(start) and f"{row['p_holm']:.4f}" in x for x in lines)
    assert "| big |  | NOT RUN | NOT RUN |" in lines
    assert "big: NOT RUN, it is not on this machine." in lines
    assert "60 queries" in text


def test_every_row_of_a_markdown_table_has_the_width_of_its_header(leaderboard: Leaderboard) -> None:
    tables = [part for part in leaderboard.markdown.split("\n\n") if part.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_json_is_the_content_and_tells_dev_from_test(leaderboard: Leaderboard) -> None:
    content = json.loads(leaderboard.json_path.read_text())
    assert content == leaderboard.content
    (entry,) = content["sources"]
    assert [row["contender"] for row in entry["rows"]][:3] == ["bm25", "base", "base+bm25"]
    assert entry["tasks"][0]["n"] == 60
    assert {row["n"] for row in entry["dev"]} == {15}


def test_there_is_a_plot_for_each_task(leaderboard: Leaderboard) -> None:
    assert [p.name for p in leaderboard.plots] == ["made_thread.png", "made_response.png"]
    for path in leaderboard.plots:
        assert path.read_bytes().startswith(PNG)


def test_the_terminal_table_is_aligned_and_complete(leaderboard: Leaderboard) -> None:
    text = terminal_table(leaderboard)
    (entry,) = leaderboard.content["sources"]
    for row in entry["rows"]:
        assert f"\n{row['contender']} " in text
    starts = {line.index("[") for line in text.splitlines()[2:] if "[" in line}
    assert len(starts) == 1
    assert "big: NOT RUN, it is not on this machine." in text


def test_writing_again_changes_nothing(leaderboard: Leaderboard) -> None:
    from thread_embed_assets.storage.layout import Layout

    files = [leaderboard.json_path, leaderboard.markdown_path, *leaderboard.plots]
    before = [path.read_bytes() for path in files]
    write_leaderboard([results(leaderboard)], Layout(leaderboard.json_path.parents[2]))
    assert [path.read_bytes() for path in files] == before


def test_few_clusters_are_said_to_be_few(tmp_path: Path) -> None:
    from thread_embed_assets.benchmark.contenders import BM25
    from thread_embed_assets.benchmark.evaluate import evaluate_source
    from thread_embed_assets.benchmark.tasks import build_tasks
    from thread_embed_assets.storage.layout import Layout
    from thread_embed_assets_tests.benchmark.stored import talks, write_conversations

    layout = Layout(tmp_path)
    conversations, messages = write_conversations(layout.conversations("small"), talks(9), "small")
    build_tasks("small", conversations, messages, {}, layout.tasks("small"))
    evaluate_source(layout.tasks("small"), "small", [BM25], layout)
    assert FEW_CLUSTERS in write_leaderboard([layout.results("small")], layout).markdown


def test_missing_results_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    from thread_embed_assets.storage.layout import Layout

    with pytest.raises(InputError, match=r"nobody\.duckdb"):
        write_leaderboard([tmp_path / "nobody.duckdb"], Layout(tmp_path))
