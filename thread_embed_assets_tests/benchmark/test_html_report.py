from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.benchmark.html_report import (
    Block,
    Bullets,
    Cell,
    Column,
    Folded,
    Grid,
    Picture,
    Report,
    html_report,
)
from thread_embed_assets.benchmark.plots import Dot, dot_plot

EVIL = "<img src=x onerror=\"alert('1')\">&amp;</script>"
VOID = {"meta", "img", "br", "circle", "line"}
GRID = Grid(
    [Column("contender"), Column("thread", "n 40", "alpha"), Column("reply", "n 9", "alpha"), Column("thread", "", "beta")],
    [
        [
            Cell("zeta", colour="#0072B2"),
            Cell("0.5", 0.5, True, (0.4, 0.7), "[0.4, 0.7]", "#0072B2"),
            Cell("x"),
            Cell("9", 9),
        ],
        [Cell("beta"), Cell("0.9", 0.9, interval=(0.8, 1.0)), Cell("y"), Cell("10", 10)],
        [Cell("alpha"), Cell("NOT RUN", dim=True), Cell(""), Cell("-1", -1)],
    ],
    "a caption",
)


class Elements(HTMLParser):
    """The elements of a page with their attributes; it fails where they are not properly nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plots") / "dots.png"
    dot_plot(path, "title", "MRR@10", [Dot("a", "base", 0.5, 0.4, 0.6)])
    return path


@pytest.fixture(scope="module")
def page(picture: Path) -> str:
    inner = Block("Inner", [Bullets(["one", "two"]), Picture(picture, "what it shows"), Folded("more", ["folded", GRID])])
    return html_report(Report("A report", ["words", GRID], [Block("Outer", ["below"], [inner]), Block("Last")]))


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    elements = Elements(page)
    for tag, attributes in elements.found:
        for name in ("src", "href", "data", "action", "poster", "srcset", "xlink:href"):
            address = attributes.get(name) or ""
            assert address.startswith(("#", "data:image/png;base64,")) or not address, (tag, address)
        assert tag not in ("link", "iframe", "object", "base")
    assert (
        "url(" not in page
        and "@import" not in page
        and "fetch(" not in page
        and "http:" not in page
        and "https:" not in page
    )
    (policy,) = [a for a in elements.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_every_link_leads_to_a_heading_and_no_two_share_a_name(page: str) -> None:
    elements = Elements(page)
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    links = [str(a["href"]).removeprefix("#") for a in elements.all("a")]
    assert links == ["top", "Outer", "Last", "Outer-Inner"]
    assert set(links) <= set(names)
    assert set(re.findall('aria-labelledby="([^"]+)"', page)) == set(names) - {"top"}


def test_what_is_said_is_escaped_wherever_it_stands(picture: Path) -> None:
    column = Column(EVIL, EVIL, EVIL)
    cell = Cell(EVIL, 0.5, True, (0.4, 0.6), EVIL, EVIL)
    grid = Grid([column, column], [[cell, cell]], EVIL)
    parts = [EVIL, grid, Bullets([EVIL]), Picture(picture, EVIL), Folded(EVIL, [EVIL])]
    elements = Elements(html_report(Report(EVIL, parts, [Block(EVIL, parts, [Block(EVIL)])])))
    in_parts = 1 + (1 + 1 + 4 + 4) + 1 + 2  # words; caption, group, heads and cells; bullet; folded
    assert "".join(elements.text).count(EVIL) == 2 * in_parts + 6  # titles, headings and links
    assert [a for _, a in elements.found if "onerror" in a] == []
    assert len(elements.all("script")) == 1
    assert [a["alt"] for a in elements.all("img")] == [EVIL, EVIL]


def test_a_table_is_told_apart_by_machines(page: str) -> None:
    elements = Elements(page)
    heads = [a for a in elements.all("th") if a.get("scope") == "col"]
    assert len(heads) == 8 and len(elements.all("button")) == 8
    groups = [(a["colspan"]) for a in elements.all("th") if a.get("scope") == "colgroup"]
    assert groups == ["2", "1"] * 2
    assert [a for a in elements.all("th") if a.get("scope") == "row"] == [{"scope": "row"}] * 6
    values = [a.get("data-value") for a in elements.all("td") if "colspan" not in a]
    assert values[:9] == ["0.5", None, "9", "0.9", None, "10", None, None, "-1"]


def test_intervals_of_a_table_are_drawn_on_one_scale(page: str) -> None:
    lines = Elements(page).all("line")[:2]
    ends = [(float(str(a["x1"])), float(str(a["x2"]))) for a in lines]
    (a, b), (c, d) = ends  # 0.4 to 0.7 and 0.8 to 1.0
    assert (a, d) == (3.0, 61.0)
    assert (b - a) / (d - a) == pytest.approx(0.5, abs=0.01)
    assert (c - a) / (d - a) == pytest.approx(2 / 3, abs=0.01)


def test_the_same_report_gives_the_same_page(page: str, picture: Path) -> None:
    report = Report("A report", [GRID], [Block("Outer", [Picture(picture, "")])])
    assert html_report(report) == html_report(report)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser, where playwright and one that it can drive are on this machine."""
    driver = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


def test_a_click_sorts_and_tells_it_and_gaps_stay_last(browser: Any, page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    shown = browser.new_page()
    problems: list[str] = []
    shown.on("console", lambda message: problems.append(message.text))
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.goto((tmp_path / "page.html").as_uri())

    def click(column: int) -> tuple[list[str], list[str | None]]:
        shown.locator("table").first.locator("tr.names button").nth(column).click()
        rows = shown.locator("table").first.locator("tbody th").all_inner_texts()
        return rows, shown.evaluate("[...document.querySelector('tr.names').cells].map((c) => c.getAttribute('aria-sort'))")

    assert click(1) == (["beta", "zeta", "alpha"], [None, "descending", None, None])
    assert click(1) == (["zeta", "beta", "alpha"], [None, "ascending", None, None])
    assert click(3) == (["beta", "zeta", "alpha"], [None, None, None, "descending"])  # 10 before 9: as numbers
    assert click(0) == (["alpha", "beta", "zeta"], ["ascending", None, None, None])
    assert problems == []


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_only_tables_are_wider_than_the_screen(browser: Any, page: str, tmp_path: Path, width: int, scheme: str) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = context.new_page()
    shown.goto((tmp_path / "page.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = shown.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    dark = sum(map(int, re.findall(r"\d+", paper)[:3])) < sum(map(int, re.findall(r"\d+", ink)[:3]))
    assert dark == (scheme == "dark")
