"""Takes the README's pictures of the UI from the real one: ``python -m thread_embed_assets_tests.screenshots.take``.

The sample workspace's chat stands for a team's export that grows, and whose threads are lost in the end.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from thread_embed_assets_tests.defs.browsing import TEAM, WIDTH, Place, check_page, chromium, partition_page, serving, until
from thread_embed_assets_tests.defs.export import tear_threads

HERE = Path(__file__).parent
GROWTH = (0.4, 0.55, 0.7, 0.85, 1.0)  # of each channel's days
BESIDE_GRAPH = 370  # pixels that the list of groups takes
WHOLE_DAYS = 12  # of the last export: were no thread left, the asset itself would refuse it
COLOURS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the workspace here, and take it up again")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="thread-embed-pictures-"))
    place = Place(folder)
    os.environ.update(place.environment)
    if not place.export.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _grow(place.export, GROWTH[0])
        place.set_up()
        _fill(place)
    with serving(place) as address:
        _pictures(address)


def _grow(export: Path, share: float) -> None:
    sample = Path(str(files("thread_embed_assets.sources") / "sample_workspace"))
    export.mkdir(exist_ok=True)
    for path in sample.iterdir():
        if path.is_file():
            shutil.copy(path, export)
            continue
        days = sorted(path.iterdir())
        (export / path.name).mkdir(exist_ok=True)
        for day in days[: round(share * len(days))]:
            shutil.copy(day, export / path.name)


def _fill(place: Place) -> None:
    """What the pages show: rows that grow, pairs, and a last export that its check refuses."""
    import dagster as dg

    from thread_embed_assets.definitions import defs  # reads own_chat.yaml: not before the environment is set

    definitions = defs()
    with dg.DagsterInstance.get() as instance:

        def run(job: str) -> bool:
            made = definitions.resolve_job_def(job)
            return made.execute_in_process(instance=instance, partition_key=TEAM, raise_on_error=False).success

        for share in GROWTH:
            _grow(place.export, share)
            assert run("prepare")
        assert run("pair")
        tear_threads(place.export, whole=WHOLE_DAYS)
        assert not run("prepare")


def _pictures(address: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"], timeout=300_000)
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.set_default_timeout(120_000)
        until(page, f"{address}/asset-groups", "benchmark")
        page.get_by_text("Hide navigation").click()

        until(page, f"{address}/assets/response_pairs", "Lies in", "messages.parents")
        _keep(page, "asset_page")

        until(page, f"{address}/assets/conversations", "Lies in")
        page.get_by_role("button", name="Plots").click()
        page.get_by_role("button", name="Events").click()
        plot = page.get_by_text("dagster/partition_row_count").first
        plot.scroll_into_view_if_needed()
        page.mouse.move(0, 0)
        place = plot.bounding_box()
        _keep(page, "row_count", clip={"x": place["x"] - 20, "y": place["y"] - 80, "width": 920, "height": 360})

        until(page, check_page(address, "conversations", "filter_rates"), "parsed conversations were removed", "Failed")
        _keep(page, "failed_check")

        page.set_viewport_size({"width": WIDTH, "height": 560})
        until(page, partition_page(address, "source_report"), "did not materialize this asset")
        _keep(page, "blocked_downstream")

        page.set_viewport_size({"width": WIDTH + BESIDE_GRAPH, "height": 620})
        until(page, f"{address}/asset-groups", "benchmark")
        _keep(page, "asset_graph", clip={"x": BESIDE_GRAPH, "y": 110, "width": WIDTH, "height": 510})
        browser.close()


def _keep(page: Any, name: str, **options: Any) -> None:
    """The picture with few colours: a third of the bytes, and no eye sees it."""
    from PIL import Image

    page.wait_for_timeout(3_000)  # fonts and charts
    taken = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    taken.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
