from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.pairs import quality
from thread_embed_assets.pairs.schema import HARD_NEGATIVES, PAIRS, Strategy
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.verdict import Verdict
from thread_embed_assets_tests.chat.planted import Stored, sentences, store

from .made import NEGATIVE, pair, write_negatives, write_pairs

TEST, DEV = sentences(4, "test"), sentences(4, "dev")
ELSEWHERE, ELSEWHERE_DEV = sentences(4, "test elsewhere"), sentences(4, "dev elsewhere")
Rows = list[dict[str, Any]]


def good() -> Rows:
    """Three train pairs of each strategy's shape, and one dev pair."""
    temporal = {"strategy": "temporal", "negative": "at another time", "negative_conversation_id": "c1"}
    return [
        pair(1),
        pair(2, anchor_ids=["a1"]),
        pair(3, strategy="response", anchor_ids=["a1"], positive_ids=["b1"]),
        pair(4, **temporal),
        pair(5, split="dev"),
    ]


@pytest.fixture
def stored(tmp_path: Path) -> Normalised:
    planted = [Stored(f"c{n}", sentences(4, n), split="dev" if n == 5 else "train") for n in range(1, 6)]
    return store(tmp_path / "c.duckdb", [*planted, Stored("t", TEST, split="test"), Stored("d", DEV, split="dev")])


@pytest.fixture
def elsewhere(tmp_path: Path) -> list[Normalised]:
    trained = Stored("r", sentences(4, "trained"))
    return [
        store(tmp_path / "e1.duckdb", [trained, Stored("t2", ELSEWHERE, split="test")]),
        store(tmp_path / "e2.duckdb", [Stored("d2", ELSEWHERE_DEV, split="dev")]),
    ]


def table(path: Path, *more: dict[str, Any]) -> TableHandle:
    return write_pairs(path / "pairs.duckdb", [*good(), *more])


def caught(verdict: Verdict, example: str = "c9#thread0") -> bool:
    return not verdict.passed and example in verdict.description


def negatives(path: Path, *more: dict[str, Any]) -> TableHandle:
    usual = [
        NEGATIVE,
        NEGATIVE | {"kind": "same_channel", "score": None},
        NEGATIVE | {"pair_id": "c2#thread0", "conversation_id": "c2"},
    ]
    usual[2]["negative_conversation_id"] = "c3"
    return write_negatives(path / "negatives.duckdb", [*usual, *more])


def test_good_data_passes_every_check(tmp_path: Path, stored: Normalised) -> None:
    pairs = table(tmp_path)
    hard = negatives(tmp_path)
    verdicts = [
        quality.non_empty(pairs),
        quality.schema(pairs),
        quality.unique_ids(pairs),
        quality.window_sizes(pairs),
        quality.anchor_without_positive(pairs),
        quality.no_held_out_text(pairs, stored),
        quality.negatives_schema(hard),
        quality.negatives_from_elsewhere(hard, [pairs]),
        quality.no_private_data(pairs),
    ]
    assert [v.description for v in verdicts if not v.passed] == []
    assert [v.numbers["checked"] for v in verdicts[2:6]] == [5] * 4


def test_an_empty_table_is_caught_by_every_check(tmp_path: Path, stored: Normalised) -> None:
    pairs, hard = write_pairs(tmp_path / "p.duckdb", []), write_negatives(tmp_path / "n.duckdb", [])
    assert caught(quality.non_empty(pairs), "such as pairs")
    for verdict in (
        quality.no_private_data(pairs),
        quality.unique_ids(pairs),
        quality.window_sizes(pairs),
        quality.anchor_without_positive(pairs),
        quality.no_held_out_text(pairs, stored),
        quality.negatives_from_elsewhere(hard, [pairs]),
    ):
        assert caught(verdict, "nothing to check")


def test_other_columns_are_caught(tmp_path: Path) -> None:
    schemas = {"pairs": PAIRS.remove(2), "hard_negatives": HARD_NEGATIVES.set(5, pa.field("rank", pa.string()))}
    with write_tables(tmp_path / "x.duckdb", schemas):
        pass
    assert caught(quality.schema(open_table(tmp_path / "x.duckdb", "pairs")), "source string is missing")
    assert caught(quality.negatives_schema(open_table(tmp_path / "x.duckdb", "hard_negatives")), "rank is string")


def test_a_duplicate_id_is_caught(tmp_path: Path) -> None:
    assert caught(quality.unique_ids(table(tmp_path, pair(3))), "such as c3#thread0")


@pytest.mark.parametrize(
    ("strategy", "anchor", "positive", "right"),
    [
        (Strategy.THREAD, 1, 3, True),
        (Strategy.THREAD, 8, 8, True),
        (Strategy.THREAD, 2, 3, False),
        (Strategy.THREAD, 9, 3, False),
        (Strategy.THREAD, 0, 3, False),
        (Strategy.THREAD, 3, 2, False),
        (Strategy.THREAD, 3, 9, False),
        (Strategy.RESPONSE, 1, 3, True),
        (Strategy.RESPONSE, 2, 1, False),
        (Strategy.RESPONSE, 1, 4, False),
        (Strategy.RESPONSE, 1, 0, False),
        (Strategy.TEMPORAL, 3, 8, True),
        (Strategy.TEMPORAL, 1, 3, False),
        (Strategy.TEMPORAL, 3, 9, False),
        (Strategy.SUMMARY, 0, 2, True),
        (Strategy.SUMMARY, 0, 24, True),
        (Strategy.SUMMARY, 0, 25, False),
        (Strategy.SUMMARY, 0, 1, False),
        (Strategy.SUMMARY, 1, 3, False),
        ("invented", 3, 3, False),
    ],
)
def test_windows_of_a_wrong_size_are_caught(tmp_path: Path, strategy: str, anchor: int, positive: int, right: bool) -> None:
    ids = {"anchor_ids": [f"a{n}" for n in range(anchor)], "positive_ids": [f"b{n}" for n in range(positive)]}
    verdict = quality.window_sizes(table(tmp_path, pair(9, strategy=str(strategy), **ids)))
    assert verdict.passed if right else caught(verdict)


def test_a_message_on_both_sides_is_caught(tmp_path: Path) -> None:
    shared = pair(9, anchor_ids=["m1", "m2", "m3"], positive_ids=["m3", "m4", "m5"])
    assert caught(quality.window_sizes(table(tmp_path, shared)))


@pytest.mark.parametrize(
    ("anchor", "positive"),
    [("is it there?", "no\nis it there?\nyes"), ("no\nis it there?", "is it there?"), ("the same", "the same")],
)
def test_a_text_inside_the_other_is_caught(tmp_path: Path, anchor: str, positive: str) -> None:
    assert caught(quality.anchor_without_positive(table(tmp_path, pair(9, anchor=anchor, positive=positive))))


@pytest.mark.parametrize(
    "fault",
    [
        {"anchor": TEST[0]},
        {"positive": f"speaker_1: {TEST[1].upper()}!\n[+5m] speaker_2: {TEST[2]}"},
        {"positive": "\n".join(TEST)},
        {"negative": " ".join(TEST[3].split()[2:14])},
        {"anchor": DEV[0]},
        {"split": "dev", "anchor": TEST[0]},
        {"split": "test"},
        {"conversation_id": "t"},
        {"negative_conversation_id": "t", "negative": "what"},
        {"negative_conversation_id": "d", "negative": "what"},
        {"split": "dev", "negative_conversation_id": "c1", "negative": "what"},
    ],
)
def test_held_out_text_is_caught(tmp_path: Path, stored: Normalised, fault: dict[str, Any]) -> None:
    assert caught(quality.no_held_out_text(table(tmp_path, pair(9, **fault)), stored))


@pytest.mark.parametrize(
    "fault",
    [
        {"anchor": ELSEWHERE[0]},
        {"positive": "\n".join(ELSEWHERE[1:3])},
        {"negative": ELSEWHERE_DEV[0].upper()},
        {"split": "dev", "anchor": ELSEWHERE[2]},
    ],
)
def test_text_that_another_source_holds_out_is_caught(
    tmp_path: Path, stored: Normalised, elsewhere: list[Normalised], fault: dict[str, Any]
) -> None:
    planted = table(tmp_path, pair(9, **fault))
    assert caught(quality.no_held_out_text(planted, stored, elsewhere))
    assert quality.no_held_out_text(planted, stored).passed


def test_with_other_sources_the_own_still_counts_and_their_train_texts_do_not(
    tmp_path: Path, stored: Normalised, elsewhere: list[Normalised]
) -> None:
    assert caught(quality.no_held_out_text(table(tmp_path, pair(9, anchor=TEST[0])), stored, elsewhere))
    fine = table(tmp_path, pair(9, split="dev", anchor=ELSEWHERE_DEV[0]), pair(8, positive=sentences(1, "trained")[0]))
    assert quality.no_held_out_text(fine, stored, elsewhere).passed


@pytest.mark.parametrize(
    "fine",
    [
        {"split": "dev", "anchor": DEV[0]},
        {"anchor": " ".join(TEST[0].split()[:6])},
        {"anchor": f"{TEST[0]}\n" + "\n".join(sentences(3, "other"))},
    ],
)
def test_what_is_not_held_out_passes(tmp_path: Path, stored: Normalised, fine: dict[str, Any]) -> None:
    assert quality.no_held_out_text(table(tmp_path, pair(9, **fine)), stored).passed


@pytest.mark.parametrize(
    "fault",
    [
        {"negative_conversation_id": "c1"},
        {"negative": "positive for 1"},
        {"negative": "anchor of 1"},
        {"pair_id": "nobody's"},
        {"negative": "another piece of c1"},
    ],
)
def test_a_negative_from_the_anchors_conversation_is_caught(tmp_path: Path, fault: dict[str, Any]) -> None:
    pairs = table(tmp_path, pair(1, pair_id="c1#thread1", positive="another piece of c1"))
    verdict = quality.negatives_from_elsewhere(negatives(tmp_path, NEGATIVE | fault), [pairs])
    assert caught(verdict, fault.get("pair_id", "c1#thread0"))


def test_a_pairs_own_negative_from_its_conversation_is_caught(tmp_path: Path) -> None:
    pairs = table(tmp_path, pair(9, negative="what", negative_conversation_id="c9"))
    assert caught(quality.negatives_from_elsewhere(negatives(tmp_path), [pairs]))


def test_pairs_of_several_strategies_are_looked_up(tmp_path: Path) -> None:
    first = write_pairs(tmp_path / "a.duckdb", [pair(1)])
    second = write_pairs(tmp_path / "b.duckdb", [pair(2)])
    hard = negatives(tmp_path)
    assert quality.negatives_from_elsewhere(hard, [first, second]).passed
    assert caught(quality.negatives_from_elsewhere(hard, [first]), "c2#thread0")
