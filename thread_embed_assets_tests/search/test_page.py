"""The search page in a real browser, used by mouse and by keyboard."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.search.web import SearchServer
from thread_embed_assets_tests.search.team import DAY, MARCH, THREADS, Said, team_searcher, write_team

HOSTILE: list[Said] = [
    ("U3", "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> &amp; kettle 🫖 kettle")
]
SHOTS = os.environ.get("THREAD_EMBED_SCREENSHOTS")  # a folder, for somebody who wants to look at the page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchServer]:
    root = tmp_path_factory.mktemp("team")
    write_team(root / "export", {**THREADS, ("kitchen", MARCH + 6 * DAY): HOSTILE})
    with SearchServer(team_searcher(root), 0) as serving:
        thread = threading.Thread(target=serving.run)
        thread.start()
        yield serving
        serving.stop()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=300_000)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: SearchServer) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(120_000)
    shown = context.new_page()
    problems: list[str] = []
    shown.on("console", lambda message: problems.append(message.text))
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.goto(server.url)
    shown.locator("#channel option").nth(1).wait_for(state="attached")
    yield shown
    assert [problem for problem in problems if "400" not in problem] == []
    context.close()


def ask(page: Any, query: str) -> None:
    page.fill("#query", query)
    page.keyboard.press("Enter")
    answered(page)


def answered(page: Any) -> None:
    page.locator("#status").filter(has_text=re.compile("thread")).wait_for()


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def test_a_search_shows_the_thread_with_its_matching_lines(page: Any) -> None:
    ask(page, "printer jams on every page")
    best = page.locator("article").first
    assert best.locator("h2").inner_text() == "#office"
    assert "2025-03-03 · 7 messages · Quillona Vestrup, Tibbold Sarnow" in best.locator("header p").inner_text()
    assert best.locator(".matches .text").first.inner_text() == "the printer on the second floor jams on every page"
    assert best.locator("mark").all_inner_texts()[:2] == ["printer", "jams"]
    assert best.locator(".said").count() == 6
    more = best.get_by_role("button")
    assert more.inner_text() == "Show all 7 messages"
    more.click()
    assert best.locator(".said").count() == 7 and more.get_attribute("aria-expanded") == "true"
    assert best.locator(".text").last.inner_text() == "it was <b>the toner</b> & nothing else"
    shot(page, "desktop")


def test_what_people_wrote_is_shown_and_never_run(page: Any) -> None:
    ask(page, "kettle")
    text = page.locator("article").first.locator(".text").inner_text()
    assert text.startswith("<img src=x onerror=") and "</script> & kettle" in text
    assert page.locator("article img, article script").count() == 0
    assert page.locator("article").first.locator("mark").all_inner_texts() == ["kettle", "kettle"]
    assert page.title() == "Search workspace team"


def test_filters_narrow_and_mistakes_are_told(page: Any) -> None:
    ask(page, "printer")
    page.select_option("#channel", "ops")
    page.get_by_text("The best 1 thread of the 1 that the filters leave of 4.").wait_for()
    assert page.locator("article").count() == 1
    page.fill("#since", "2025-04-01")
    page.dispatch_event("#since", "change")
    page.get_by_text("No threads: the filters leave 0 of 4.").wait_for()
    assert page.locator("article").count() == 0
    page.fill("#person", "Zed")
    page.focus("#query")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.fault")
    assert "nobody is called that" in page.inner_text("#status")


def test_it_is_used_by_keyboard_alone(page: Any) -> None:
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("deploy failed")
    page.keyboard.press("Enter")
    answered(page)
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert order[:2] == ["submit", "channel"] and "person" in order
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("[...document.querySelectorAll('article')].indexOf(document.activeElement.closest('article'))") == 0
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query" and page.input_value("#query") == "deploy failed"


@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (390, "light")])
def test_it_fits_the_screen(browser: Any, server: SearchServer, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(120_000)
    shown = context.new_page()
    shown.goto(server.url)
    ask(shown, "printer jams on every page")
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = shown.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert ink != paper
    shot(shown, f"{'phone' if width < 600 else 'desktop'}-{scheme}")
    context.close()
