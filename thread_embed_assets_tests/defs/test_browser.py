"""The UI as people use it, clicked through in headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from thread_embed_assets_tests.defs.browsing import (
    LOCATION,
    WIDTH,
    Place,
    check_page,
    chromium,
    materialise,
    partition_page,
    serving,
    until,
)
from thread_embed_assets_tests.defs.export import tear_threads, write_export

SCHEDULE = "weekly_retraining"
pytestmark = pytest.mark.skipif("THREAD_EMBED_TEST_UI" not in os.environ, reason="takes minutes: set THREAD_EMBED_TEST_UI=1")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"], timeout=300_000)
        yield running
        running.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("ui"))
    write_export(place.export)
    place.set_up()
    return place


@pytest.fixture(scope="module")
def address(browser: Any, place: Place) -> Iterator[str]:
    module = {"module_name": "thread_embed_assets_tests.defs.quick_location", "location_name": LOCATION}
    workspace = place.folder / "workspace.yaml"
    workspace.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}), encoding="utf-8")
    with serving(place, "--workspace", str(workspace)) as address:
        yield address


@pytest.fixture
def page(browser: Any, place: Place, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A fresh tab; of a test that fails, a screenshot and the server's log are left in its ``tmp_path``."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 900})
    context.set_default_timeout(120_000)
    shown = context.new_page()
    failed_before = request.session.testsfailed
    yield shown
    if request.session.testsfailed > failed_before:
        shown.screenshot(path=str(tmp_path / "page.png"))
        shutil.copy(place.log, tmp_path)
        print(f"{shown.url}: see {tmp_path}")
    context.close()


def test_bad_data_is_stopped_by_its_check_and_goes_on_once_it_is_mended(place: Place, address: str, page: Any) -> None:
    check = check_page(address, "conversations", "filter_rates")
    downstream = partition_page(address, "source_report")

    tear_threads(place.export)
    materialise(page, address, "prepare")
    until(page, check, "blocking", re.compile(r"9\d\.\d% of \d+ parsed conversations were removed"), "Failed")
    until(page, downstream, "did not materialize this asset", "No metadata entries")

    write_export(place.export)
    materialise(page, address, "prepare")
    until(page, check, re.compile(r"of 40 parsed conversations were removed"))
    assert page.get_by_text("Failed", exact=True).count() == 0
    until(page, downstream, "first_message", "2025-03-03")
    page.get_by_text("[Show Markdown]").click()
    page.get_by_text(re.compile("messages by 4 people in 2 channels")).first.wait_for()
    assert page.get_by_text("did not materialize this asset").count() == 0


def test_a_schedule_that_is_switched_on_ticks_and_asks_for_its_run(address: str, page: Any) -> None:
    schedule = f"{address}/locations/{LOCATION}/schedules/{SCHEDULE}"
    until(page, schedule, "Schedule has never run")
    page.locator("label").filter(has=page.get_by_role("checkbox")).click()
    page.get_by_text("Next tick").wait_for()
    until(page, schedule, "1 run requested")
    until(page, f"{address}/runs?q%5B0%5D=status%3AQUEUED", SCHEDULE[:12], "Queued")
