from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.errors import InputError
from thread_embed_assets.search.filters import Filters, allowed, time_of
from thread_embed_assets.search.names import Names

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
CHANNELS = ["Office", "ops", "office"]
PEOPLE = [{"p_1", "p_2"}, {"p_2"}, {"p_3"}]
STARTED = np.array([100.0, 200.0, np.nan])
ENDED = np.array([150.0, 300.0, np.nan])
NAMES = Names(None, {}, {"ada lund": frozenset({"p_1"}), "bo": frozenset({"p_2"}), "bodil": frozenset({"p_3"})})


def kept(**filters: object) -> list[int]:
    found = allowed(Filters(**filters), CHANNELS, PEOPLE, STARTED, ENDED, NAMES)  # type: ignore[arg-type]
    return np.flatnonzero(found).tolist()


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-03-01", False, datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01", True, datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)),
        (" 2026-03-01T09:30 ", True, datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T09:30+02:00", False, datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
        ("7d", False, datetime(2026, 3, 3, 12, tzinfo=UTC)),
        ("2 W", False, datetime(2026, 2, 24, 12, tzinfo=UTC)),
        ("6h", True, datetime(2026, 3, 10, 6, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_write_them(text: str, end: bool, expected: datetime) -> None:
    assert time_of(text, "--since", end=end, now=NOW) == expected.timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "99999y", "-3d", "7"])
def test_what_is_no_time_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(InputError, match=r"--until .*Write it as 2026-03-01"):
        time_of(text, "--until", now=NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_an_input_error(text: str) -> None:
    try:
        assert isinstance(time_of(text, "--since", now=NOW), float)
    except InputError as error:
        assert "no time" in error.problem


def test_channels_are_any_of_those_named_and_people_all_of_them() -> None:
    assert kept() == [0, 1, 2]
    assert kept(channels=["#OFFICE"]) == [0, 2]
    assert kept(channels=["ops", "office"]) == [0, 1, 2]
    assert kept(people=["@Ada Lund"]) == kept(people=["ada"]) == [0]
    assert kept(people=["bo"]) == [0, 1], "a whole name is not the beginning of another's"
    assert kept(people=["ada", "bo"], channels=["office"]) == [0]
    assert kept(people=["ada"], channels=["ops"]) == []


def test_a_thread_counts_for_every_moment_that_it_lasts() -> None:
    assert kept(since=150.0) == [0, 1]
    assert kept(since=151.0) == [1]
    assert kept(until=199.0) == [0]
    assert kept(since=120.0, until=130.0) == [0]
    assert kept(since=400.0) == [], "one without times is found by no time"


def test_mistakes_name_what_there_is() -> None:
    with pytest.raises(InputError, match=r"--channel offce: there is no such channel.*office"):
        kept(channels=["offce"])
    with pytest.raises(InputError, match="--person Zed: nobody is called that"):
        kept(people=["Zed"])
    with pytest.raises(InputError, match="nobody is called that"):
        kept(people=["  "])
    with pytest.raises(InputError, match="later than --until"):
        kept(since=5.0, until=4.0)
