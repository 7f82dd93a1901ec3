from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.benchmark.disentangling import (
    DISENTANGLER,
    PREVIOUS,
    Row,
    Threads,
    best_gap,
    evaluate_disentangling,
    exact_match,
    markdown,
    one_to_one,
    score,
    threads_of,
    time_gap_links,
    variation_of_information,
    write_results,
)
from thread_embed_assets.chat.model import Kind, Split
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.sources.fetch import MIRROR_VARIABLE, fetch
from thread_embed_assets.sources.irc import annotated_logs
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets_tests.chat.talks import annotated_babble, said, write_log


def threads(*lines: set[int]) -> Threads:
    return [frozenset(thread) for thread in lines]


def test_threads_are_components_cut_down_to_the_annotated_lines() -> None:
    """Lines 10 and 11 answer the same line of the context, 3, so they are one thread; 3 itself is not in it."""
    links = {10: {3}, 11: {3}, 12: set(), 13: {12, 10}, 14: set()}
    assert sorted(threads_of(links), key=min) == threads({10, 11, 12, 13}, {14})
    assert sorted(threads_of({10: {3}, 11: {4}}), key=min) == threads({10}, {11})


def test_variation_of_information_by_hand() -> None:
    """Two halves of four lines against one whole: H(halves|whole) is 1 bit of at most log2 4."""
    halves, whole, crossed = threads({1, 2}, {3, 4}), threads({1, 2, 3, 4}), threads({1, 3}, {2, 4})
    assert variation_of_information([(halves, whole)]) == pytest.approx(50.0)
    assert variation_of_information([(whole, halves)]) == pytest.approx(50.0)
    assert variation_of_information([(halves, crossed)]) == pytest.approx(0.0), "they say nothing of each other"
    assert variation_of_information([(halves, halves)]) == pytest.approx(100.0)
    # Of eight lines in two logs: in one log nothing is lost, in the other 1 bit a line: half a bit of log2 8.
    assert variation_of_information([(halves, whole), (halves, halves)]) == pytest.approx(100 * (1 - 0.5 / 3))
    assert variation_of_information([(threads({1}), threads({1}))]) == 100.0


def test_one_to_one_by_hand() -> None:
    assert one_to_one([(threads({1, 2, 3}, {4}), threads({1, 2}, {3, 4}))]) == 75.0
    # Both annotated threads overlap most with the first guessed one, which only one of them may have.
    assert one_to_one([(threads({1, 2, 3}, {4, 5, 6}), threads({1, 2, 4, 5}, {3}, {6}))]) == pytest.approx(50.0)
    assert one_to_one([(threads({1, 2}), threads({1}, {2})), (threads({1, 2}), threads({1, 2}))]) == 75.0


def test_exact_match_by_hand_leaves_single_lines_out() -> None:
    gold, guessed = threads({1, 2}, {3}, {4, 5, 6}), threads({1, 2}, {3, 4}, {5, 6})
    assert exact_match([(gold, guessed)]) == (pytest.approx(100 / 3), 50.0, 40.0)
    assert exact_match([(threads({1}, {2}), threads({1}, {2}))]) == (0.0, 0.0, 0.0)
    assert exact_match([(threads({1, 2}), threads({1}, {2})), (threads({1}, {2}), threads({1, 2}))])[2] == 0.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_measures_lie_between_0_and_100_and_are_100_only_for_the_same(labels: list[tuple[int, int]]) -> None:
    def side(which: int) -> Threads:
        return threads(
            *({n for n, pair in enumerate(labels) if pair[which] == label} for label in {p[which] for p in labels})
        )

    gold, guessed = side(0), side(1)
    same = set(gold) == set(guessed)
    for measure in (variation_of_information, one_to_one):
        value = measure([(gold, guessed)])
        assert -1e-9 <= value <= 100 + 1e-9
        assert (value > 100 - 1e-9) == same
        assert value == pytest.approx(measure([(guessed, gold)])), "they are symmetric"
        assert measure([(gold, gold)]) == pytest.approx(100.0)


def test_sides_over_different_lines_are_refused() -> None:
    for gold, guessed in ((threads({1, 2}), threads({1})), (threads({1}), threads({1, 2}))):
        with pytest.raises(ValueError, match="annotated"):
            one_to_one([(gold, guessed)])


def test_the_time_gap_rule(tmp_path: Path) -> None:
    messages = said([("arvel", "a"), ("", "brisca has joined"), ("brisca", "b"), ("arvel", "c"), ("arvel", "d")], apart=60.0)
    messages[1].kind = Kind.SYSTEM
    messages[4].time = (messages[3].time or 0.0) + 600.0
    write_log(tmp_path, "train/2012-03-01.train-a", messages, first_annotated=1)
    (log,) = annotated_logs(tmp_path)
    assert {line: set(links) for line, links in time_gap_links(log, 3).items()} == {1: set(), 2: {0}, 3: {2}, 4: set()}
    assert set(time_gap_links(log, 2)[2]) == set(), "two minutes of silence are the gap"
    assert set(time_gap_links(log, math.inf)[4]) == {3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_log(tmp_path, "train/2012-03-01.train-a", annotated_babble(150, 1), first_annotated=20)
    write_log(tmp_path, "dev/2013-03-01_10", annotated_babble(300, 2), first_annotated=20)
    return tmp_path


def test_the_disentangler_beats_the_rules_where_talks_are_interleaved(folder: Path) -> None:
    ours, gap, previous = evaluate_disentangling(folder)
    assert (ours.method, previous.method) == (DISENTANGLER, PREVIOUS)
    assert gap.method == f"silence of {best_gap(annotated_logs(folder, Split.TRAIN))} minutes"
    assert ours.link_f1 > 75 > 50 > gap.link_f1
    assert ours.one_to_one > gap.one_to_one
    assert previous.exact_f1 == 0.0


def test_missing_splits_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(InputError, match="no annotated logs of the test split"):
        evaluate_disentangling(folder, "test")
    with pytest.raises(InputError, match="no train logs"):
        best_gap(annotated_logs(folder, Split.TEST))


def test_a_table_for_people_and_one_for_programs(tmp_path: Path) -> None:
    row = score("planted", [({1: set(), 2: {1}}, {1: set(), 2: {1}})])
    assert row == Row("planted", *[100.0] * 8)
    heading, rule, line = markdown([row]).splitlines()
    assert heading.count("|") == rule.count("|") == line.count("|") == 10
    assert line == "| planted |" + " 100.0 |" * 8
    path = tmp_path / "disentangling.json"
    write_results(path, [row], split="dev")
    told = json.loads(path.read_text(encoding="utf-8"))
    assert (told["split"], told["rows"][0]["method"], told["rows"][0]["link_f1"]) == ("dev", "planted", 100.0)


GOLDEN = {
    DISENTANGLER: {"link_f1": 74.4, "variation_of_information": 91.8, "one_to_one": 79.3, "exact_f1": 41.5},
    "silence of 2 minutes": {"link_f1": 30.6, "variation_of_information": 72.5, "one_to_one": 36.0, "exact_f1": 1.5},
    PREVIOUS: {"link_f1": 30.2, "variation_of_information": 66.2, "one_to_one": 23.9, "exact_f1": 0.0},
}
TOLERANCE = 0.3


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get(MIRROR_VARIABLE), reason=f"{MIRROR_VARIABLE} is not set: no real data here")
def test_dev_scores_of_the_weights_in_the_package(tmp_path: Path) -> None:
    raw = fetch(load_catalog()["irc_disentangle"], Layout(tmp_path))
    rows = {row.method: row for row in evaluate_disentangling(raw.folder)}
    assert rows.keys() == GOLDEN.keys()
    for method, scores in GOLDEN.items():
        for name, value in scores.items():
            found = getattr(rows[method], name)
            assert found == pytest.approx(value, abs=TOLERANCE), f"{method}: {name} was {value}, is {found:.1f}"
