from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from thread_embed_assets.storage.charts import Bars, Chart
from thread_embed_assets.storage.pages import REPORT, Listing, Page, Section, Table, write_page

CHART = Chart("size", "How [large] it is", [Bars("rooms", "messages", {"one": 1})])
PAGE = Page("made_up: a page", "A few words.", [Section("Size", [CHART, Table(["room"], [["one"]]), "And more."])])


def test_numbers_stand_to_the_right_and_are_readable() -> None:
    table = Table(
        ["name", "n", "share", "mean", "time"], [["a", 1_234_567, "<0.1%", 0.123456, "2 h"], ["b", None, "5%", 1234.5, ""]]
    )
    assert table.markdown().splitlines() == [
        "| name | n | share | mean | time |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a | 1,234,567 | <0.1% | 0.123 | 2 h |".replace("<", "&lt;"),
        "| b |  | 5% | 1,234 |  |",
    ]


def test_a_table_without_rows_keeps_its_head() -> None:
    assert Table(["a", "b"], []).markdown().splitlines() == ["| a | b |", "| --- | --- |"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines", "two ⏎ lines"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("![x](http://a.example/p.png)", r"!\[x\](http://a.example/p.png)"),
        ("`code` *bold* ~gone~ # head", r"\`code\` \*bold\* \~gone\~ \# head"),
        ("snake_case and _slanted_", r"snake_case and \_slanted\_"),
        ("- a point", r"\- a point"),
        ("back\\slash", r"back\\slash"),
        ("a&amp;b", "a&amp;amp;b"),
    ],
)
def test_what_people_wrote_is_shown_and_never_read_as_markup(text: str, written: str) -> None:
    assert Table(["x"], [[text]]).markdown().splitlines()[-1] == f"| {written} |"
    assert Table([text], [["x"]]).markdown().splitlines()[0] == f"| {written} |"
    assert Listing(text, [text]).markdown().splitlines() == [f"**{written}**", "", f"- {written}"]


def test_a_page_lies_on_disk_with_its_pictures_and_comes_back_with_them_inside(tmp_path: Path) -> None:
    inline = write_page(PAGE, tmp_path / "page", {"figures.json": "{}"})
    assert {path.name for path in (tmp_path / "page").iterdir()} == {REPORT, "size.png", "figures.json"}
    written = (tmp_path / "page" / REPORT).read_text(encoding="utf-8")
    assert written.splitlines()[:6] == ["# made_up: a page", "", "A few words.", "", "## Size", ""]
    assert r"![How \[large\] it is](size.png)" in written and written.endswith("| one |\n\nAnd more.\n")
    [data] = re.findall(r"data:image/png;base64,([^)]*)", inline)
    assert base64.b64decode(data) == (tmp_path / "page" / "size.png").read_bytes()
    assert inline.replace(f"data:image/png;base64,{data}", "size.png") == written


def test_a_new_page_replaces_the_old_one_and_a_failed_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(PAGE, tmp_path / "page", {"old.json": "{}"})
    write_page(PAGE, tmp_path / "page")
    before = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    assert set(before) == {REPORT, "size.png"}
    monkeypatch.setattr(Page, "markdown", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_page(PAGE, tmp_path / "page", {"new.json": "{}"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
