from __future__ import annotations

import shutil

import dagster as dg
import pytest

from thread_embed_assets.chat.exploration import FIGURES_FILE, read_figures
from thread_embed_assets.defs.resources import STORED
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.pages import REPORT
from thread_embed_assets_tests.defs.conftest import SOURCE, Workspace
from thread_embed_assets_tests.defs.runs import data_versions, errors, materialization, run

LARGEST_METADATA = 1_500_000


def _page(instance: dg.DagsterInstance, asset: str, partition: str | None) -> str:
    return str(materialization(instance, asset, partition).metadata["report"].value)


def test_a_sources_page_shows_its_figures(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    stored = STORED["conversations"].open(workspace.layout, SOURCE)
    metadata = materialization(instance, "source_report", SOURCE).metadata
    assert metadata["conversations"].value == stored.conversations.rows
    assert metadata["messages"].value == stored.messages.rows
    assert str(metadata["first_message"].value).startswith("2025-03-")
    page = _page(instance, "source_report", SOURCE)
    assert page.startswith(f"# {SOURCE}: A small export\n") and len(page) < LARGEST_METADATA
    assert page.count("](data:image/png;base64,iVBOR") == 5
    folder = workspace.layout.source_report(SOURCE)
    assert {path.name for path in folder.iterdir()} == {
        REPORT,
        FIGURES_FILE,
        *(f"{theme}.png" for theme in ("size", "people", "text", "time", "filters")),
    }


def test_no_held_out_text_is_shown(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    stored = STORED["conversations"].open(workspace.layout, SOURCE)
    held_out = {row["conversation_id"] for row in stored.conversations.rows_as_dicts(where="split <> 'train'")}
    texts = [row["text"] for row in stored.messages.rows_as_dicts() if row["conversation_id"] in held_out]
    examples = read_figures(workspace.layout.source_report(SOURCE)).examples
    shown = "\n".join(line for example in examples for line in example.lines)
    assert shown and texts
    assert not [text for text in texts if text in shown]


def test_the_page_of_the_pairs_shows_every_strategy(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = materialization(instance, "pairs_report", SOURCE).metadata
    for strategy in Strategy:
        pairs = STORED[f"{strategy}_pairs"].open(workspace.layout, SOURCE)
        assert metadata[f"{strategy}_pairs"].value == pairs.rows > 0
    page = _page(instance, "pairs_report", SOURCE)
    assert page.count("](data:image/png;base64,iVBOR") == len(Strategy) and len(page) < LARGEST_METADATA
    assert "| BM25 negative | " in page and "| same-channel negative | " in page
    names = {path.name for path in workspace.layout.pairs_report(SOURCE).iterdir()}
    assert names == {REPORT, *(f"{strategy}_pairs.png" for strategy in Strategy)}


def test_the_same_tables_give_the_same_pages(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    assets = ["source_report", "pairs_report"]
    before = data_versions(instance, assets, SOURCE), [_page(instance, asset, SOURCE) for asset in assets]
    assert run(instance, assets, SOURCE).success
    assert (data_versions(instance, assets, SOURCE), [_page(instance, asset, SOURCE) for asset in assets]) == before


def test_the_corpus_page_holds_every_source_that_has_one(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    metadata = materialization(instance, "corpus_report", None).metadata
    assert metadata["sources"].value == 1
    page = _page(instance, "corpus_report", None)
    assert f"| {SOURCE} | A small export | slack | none | explicit | benchmark, train | 2025-03-" in page
    assert (workspace.layout.corpus_report / REPORT).exists()
    assert page.count("](data:image/png;base64,iVBOR") == 3 and len(page) < LARGEST_METADATA


@pytest.mark.parametrize(("content", "problem"), [(None, "no source has a page yet"), ("{}", "the figures are damaged")])
def test_a_corpus_page_of_nothing_or_of_damaged_figures_is_refused(
    workspace: Workspace, instance: dg.DagsterInstance, content: str | None, problem: str
) -> None:
    folder = workspace.layout.source_report(SOURCE)
    shutil.rmtree(folder, ignore_errors=True)
    if content is not None:
        folder.mkdir(parents=True)
        (folder / FIGURES_FILE).write_text(content, encoding="utf-8")
    refused = run(instance, ["corpus_report"], None)
    assert not refused.success and problem in errors(refused) and "Materialise" in errors(refused)
