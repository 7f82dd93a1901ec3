from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.windows import cut

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True).map(sorted)


@given(count=st.integers(0, 200), sizes=SIZES, seed=st.integers())
def test_windows_are_adjacent_of_allowed_sizes_and_leave_less_than_the_smallest(
    count: int, sizes: list[int], seed: int
) -> None:
    windows = cut(count, sizes, Random(seed))
    end = 0
    for window in windows:
        assert window.start == end
        assert window.step == 1
        assert len(window) in sizes
        end = window.stop
    assert 0 <= count - end < sizes[0]


def test_the_same_draw_gives_the_same_windows() -> None:
    assert cut(60, (3, 4, 5), Random(7)) == cut(60, (3, 4, 5), Random(7))


def test_every_size_is_drawn() -> None:
    windows = cut(600, (3, 4, 5, 6, 7, 8), Random(1))
    assert {len(window) for window in windows[:-3]} == {3, 4, 5, 6, 7, 8}
