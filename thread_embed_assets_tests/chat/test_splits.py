from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.splits import Boundaries, boundaries, by_channel_and_time, by_conversation, published
from thread_embed_assets.errors import InputError

HOUR = 3600.0


def test_published_splits_are_kept() -> None:
    assign = published("made", 0.0)
    assert [assign("c", "x", None, None, given) for given in ("train", "dev", "test")] == [
        Split.TRAIN,
        Split.DEV,
        Split.TEST,
    ]


def test_a_share_of_train_becomes_dev_by_id_alone() -> None:
    assign = published("made", 0.2)
    found = {n: assign(f"c{n}", "x", 0.0, 1.0, "train") for n in range(2_000)}
    assert 340 < sum(split is Split.DEV for split in found.values()) < 460
    assert {n: assign(f"c{n}", "other", None, None, "train") for n in found} == found
    assert all(assign(f"c{n}", "x", None, None, "test") is Split.TEST for n in range(50))
    other = published("other", 0.2)
    assert any(other(f"c{n}", "x", None, None, "train") != split for n, split in found.items())


def test_no_published_split_is_told() -> None:
    with pytest.raises(InputError, match=r"source made: conversation 'c1' carries no published split.*by: channel_time"):
        published("made", 0.1)("c1", "x", 0.0, 1.0, None)


def test_conversations_without_times_are_drawn_by_their_ids() -> None:
    assign = by_conversation("made", dev_share=0.1, test_share=0.2)
    found = {f"c{n}": assign(f"c{n}", "general", None, None, "train") for n in range(2000)}
    counts = [list(found.values()).count(split) / 2000 for split in (Split.TRAIN, Split.DEV, Split.TEST)]
    assert counts == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
    again = by_conversation("made", dev_share=0.1, test_share=0.2)
    assert {name: again(name, "elsewhere", 1.0, 2.0, None) for name in reversed(found)} == found
    other = by_conversation("other", dev_share=0.1, test_share=0.2)
    assert [other(name, "general", None, None, None) for name in found] != list(found.values())


def test_boundaries_are_per_channel() -> None:
    starts = [("a", float(n)) for n in range(10)] + [("b", 100.0 + n) for n in range(5)]
    found = boundaries(reversed(starts), dev_share=0.2, test_share=0.2)
    assert found == {"a": Boundaries(6.0, 8.0), "b": Boundaries(103.0, 104.0)}


@given(
    starts=st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    embargo=st.sampled_from([0.0, 1.0, 24.0]),
    lasting=st.floats(0, 1e5),
)
def test_no_train_conversation_reaches_into_the_embargo(starts: list[float], embargo: float, lasting: float) -> None:
    limits = boundaries((("a", s) for s in starts), dev_share=0.2, test_share=0.3)
    assign = by_channel_and_time("made", limits, embargo_hours=embargo)
    spans = [(s, s + lasting, assign(str(n), "a", s, s + lasting, None)) for n, s in enumerate(starts)]
    latest = {split: max((e for _, e, found in spans if found is split), default=-1e18) for split in Split}
    first = {split: min((s for s, _, found in spans if found is split), default=1e18) for split in Split}
    assert first[Split.TEST] < 1e18
    gap = embargo * HOUR
    assert latest[Split.TRAIN] < min(first[Split.DEV], first[Split.TEST]) - gap
    assert latest[Split.DEV] < first[Split.TEST] - gap


def test_the_embargo_drops_what_touches_a_boundary() -> None:
    assign = by_channel_and_time("made", {"a": Boundaries(100 * HOUR, 200 * HOUR)}, embargo_hours=10)

    def split(start: float, end: float) -> Split | None:
        return assign("c", "a", start * HOUR, end * HOUR, "train")

    assert split(10, 89.9) is Split.TRAIN
    assert split(10, 90) is None
    assert split(99.9, 250) is None
    assert split(100, 189.9) is Split.DEV
    assert split(150, 190) is None
    assert split(200, 201) is Split.TEST


def test_whole_channels_are_test_whatever_their_times() -> None:
    assign = by_channel_and_time("made", {"a": Boundaries(5.0, 9.0)}, embargo_hours=0, test_channels=["held"])
    assert assign("c", "held", 1.0, 2.0, None) is Split.TEST
    assert assign("c", "held", None, None, None) is Split.TEST
    assert assign("c", "a", 1.0, 2.0, None) is Split.TRAIN


@pytest.mark.parametrize(("start", "end"), [(None, None), (1.0, None), (None, 1.0)])
def test_no_times_are_told(start: float | None, end: float | None) -> None:
    assign = by_channel_and_time("made", {"a": Boundaries(5.0, 9.0)}, embargo_hours=0)
    with pytest.raises(InputError, match=r"source made: conversation 'c1' has no times.*by: published"):
        assign("c1", "a", start, end, None)
