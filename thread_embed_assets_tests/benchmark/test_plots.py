from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from thread_embed_assets.benchmark import plots
from thread_embed_assets.benchmark.plots import COLOURS, ROLE_NAMES, Dot, Line, Panel, dot_plot, line_plot
from thread_embed_assets.benchmark.report_content import ROLES

NAMES = [f"a-model-of-a-rather-long-name-{number:02d}" for number in range(16)]
DOTS = [Dot(name, ROLES[n % len(ROLES)], 0.3 + n / 100, 0.25 + n / 100, 0.4) for n, name in enumerate(NAMES)]
DECILES = {f"{n / 10:.2f} to {n / 10 + 0.1:.2f}": f"n {100 + n}" for n in range(10)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = plots._save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def lines(*roles: str, points: int = 10) -> list[Line]:
    return [Line(f"the {role}", role, [(0.3, 0.2, 0.5)] * points) for role in roles]


def overlaps(texts: Sequence[Text]) -> list[tuple[str, str]]:
    """Pairs of neighbours whose boxes touch, in the order given."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [(a, b) for (a, one), (b, other) in pairwise(boxes) if one.overlaps(other)]


def test_every_role_has_a_colour_of_its_own_and_a_name() -> None:
    assert list(COLOURS) == list(ROLE_NAMES)
    assert set(COLOURS) == set(ROLES)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_sixteen_contenders_stand_apart_best_on_top(tmp_path: Path, drawn: list[Figure]) -> None:
    dot_plot(tmp_path / "dots.png", "a title", "MRR@10", DOTS)
    (axes,) = drawn[0].axes
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == NAMES  # from the bottom
    assert overlaps(labels) == []
    values = list(axes.texts)
    assert [value.get_text() for value in values] == [f"{dot.mean:.3f}" for dot in DOTS]
    assert overlaps(values) == []
    inside = drawn[0].get_window_extent()
    assert all(inside.x0 <= label.get_window_extent().x0 for label in labels)


def test_ten_ticks_of_words_stand_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = [Panel("share of words", DECILES, lines("base", "tuned", "baseline"))]
    line_plot(tmp_path / "lines.png", "a title", "MRR@10", panels)
    labels = drawn[0].axes[0].get_xticklabels()
    assert labels[0].get_text() == "0.00 to\n0.10\nn 100"
    assert overlaps(labels) == []


def test_intervals_at_one_tick_do_not_cover_each_other(tmp_path: Path, drawn: list[Figure]) -> None:
    panels = [Panel("parts", {"a": "", "b": ""}, lines("base", "tuned", "baseline", points=2))]
    line_plot(tmp_path / "lines.png", "a title", "MRR@10", panels)
    at_first = [float(line.get_xdata()[0]) for line in drawn[0].axes[0].lines]  # type: ignore[index,arg-type]
    assert len(set(at_first)) == 3
    assert sum(at_first) == pytest.approx(0)


def test_a_missing_point_is_left_out(tmp_path: Path, drawn: list[Figure]) -> None:
    some = Line("some", "base", [(0.1, 0.0, 0.2), None, (0.3, 0.2, 0.4)])
    line_plot(tmp_path / "lines.png", "a title", "MRR@10", [Panel("", {"a": "", "b": "", "c": ""}, [some])])
    (line,) = drawn[0].axes[0].lines
    assert list(line.get_ydata()) == [0.1, 0.3]  # type: ignore[arg-type]


def test_a_contender_stands_once_in_the_legend_of_several_panels(tmp_path: Path, drawn: list[Figure]) -> None:
    panel = Panel("thread", {"64": "", "all": ""}, lines("base", "tuned", points=2))
    line_plot(tmp_path / "lines.png", "a title", "MRR@10", [panel, panel, panel], columns=3)
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["the base", "the tuned"]
    assert len(drawn[0].axes) == 3


def test_the_picture_is_wide_enough_to_read_and_keeps_its_colours_with_a_palette(tmp_path: Path) -> None:
    path = tmp_path / "dots.png"
    dot_plot(path, "a $title$ with $dollars$", "MRR@10", [Dot("a$b$c", "base", 0.5, 0.4, 0.6), *DOTS])
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
        assert picture.width == 1080
        colours = picture.convert("RGB").getcolors(maxcolors=256)
    assert colours is not None
    seen = {colour for _, colour in colours}
    for role in COLOURS.values():
        wanted = tuple(int(role[n : n + 2], 16) for n in (1, 3, 5))
        assert min(max(abs(a - b) for a, b in zip(wanted, colour, strict=True)) for colour in seen) < 12, role
