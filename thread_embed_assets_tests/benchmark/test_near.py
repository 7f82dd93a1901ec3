from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.benchmark.near import Placed, candidates

HOUR = 3_600.0


def at(name: str, hour: float, channel: str = "general", lasts: float = 0.0) -> Placed:
    return Placed(name, channel, hour * HOUR, (hour + lasts) * HOUR)


def test_the_nearest_in_time_of_the_same_channel_surround_the_target() -> None:
    documents = [at(f"d{n:02d}", n) for n in range(40)] + [at("elsewhere", 20.1, "other")]
    (found,) = candidates([at("q", 20.2)], documents, [["d39"]], only_earlier=False, most=4)
    assert found == ("q", ["d19", "d20", "d21", "d39"])


def test_a_live_system_has_only_what_started_before() -> None:
    documents = [at(f"d{n:02d}", n) for n in range(40)]
    (found,) = candidates([at("q", 20.2)], documents, [["d20"]], only_earlier=True, most=4)
    assert found == ("q", ["d17", "d18", "d19", "d20"])


def test_a_long_thread_is_as_far_as_its_middle() -> None:
    documents = [at("target", 5), at("long", 0, lasts=20), at("short", 8)]
    (found,) = candidates([at("q", 5)], documents, [["target"]], only_earlier=False, most=2)
    assert found == ("q", ["short", "target"])


def test_without_another_document_there_is_no_slice() -> None:
    documents = [at("target", 5), at("elsewhere", 5, "other"), at("later", 9)]
    assert not list(candidates([at("q", 5)], documents, [["target"]], only_earlier=True))
    assert not list(candidates([at("q", 5, "empty")], documents, [["target"]], only_earlier=False))


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from("ab")), min_size=1, max_size=30),
    st.floats(0, 100),
    st.integers(1, 8),
)
def test_slices_hold_every_relevant_document_and_never_too_many(
    places: list[tuple[float, str]], asked: float, most: int
) -> None:
    documents = [at(f"d{n:02d}", hour, channel) for n, (hour, channel) in enumerate(places)]
    relevant = [d.id for d in documents if d.channel == "a"][:2]
    for _, found in candidates([at("q", asked, "a")], documents, [relevant], only_earlier=False, most=most):
        assert found == sorted(set(found))
        assert set(relevant) <= set(found)
        assert len(found) <= max(most, len(relevant))
        assert all(d.channel == "a" for d in documents if d.id in found)
