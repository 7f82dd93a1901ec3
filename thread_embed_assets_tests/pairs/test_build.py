from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.chat.near_copies import HeldOutShingles, similarity
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs import build as module
from thread_embed_assets.pairs import quality
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.schema import PAIRS, Strategy
from thread_embed_assets.storage.parallel import WORKERS_VARIABLE
from thread_embed_assets.storage.tables import TableHandle
from thread_embed_assets_tests.chat.planted import NOON, Stored, sentences, store

from .made import PEOPLE, SIZES, lines_about, rows, talks, threads, write_summaries

ALL = list(Strategy)
HOUR = 3600.0


def build(
    folder: Path, planted: Sequence[Stored], strategy: Strategy = Strategy.THREAD, **options: Any
) -> tuple[TableHandle, Normalised]:
    folder.mkdir(parents=True, exist_ok=True)
    stored = store(folder / "c.duckdb", planted)
    tables, path = (stored.conversations, stored.messages), folder / f"{strategy}.duckdb"
    lines = lines_for(strategy, folder, planted)
    return build_pairs(strategy, "made", *tables, PairOptions(**options), path, summaries=lines), stored


def lines_for(strategy: Strategy, folder: Path, planted: Sequence[Stored]) -> TableHandle | None:
    """What strategy D needs besides; the others must not care."""
    return write_summaries(folder / "s.duckdb", planted) if strategy is Strategy.SUMMARY else None


@pytest.mark.parametrize("strategy", ALL)
def test_what_is_built_passes_every_check(tmp_path: Path, strategy: Strategy) -> None:
    pairs, stored = build(tmp_path, threads(40, test=6, dev=6), strategy)
    verdicts = [
        quality.non_empty(pairs),
        quality.schema(pairs),
        quality.unique_ids(pairs),
        quality.window_sizes(pairs),
        quality.anchor_without_positive(pairs),
        quality.no_held_out_text(pairs, stored),
    ]
    assert [v.description for v in verdicts if not v.passed] == []
    assert pairs.rows >= 20


@pytest.mark.parametrize("strategy", ALL)
def test_a_row_says_where_it_comes_from(tmp_path: Path, strategy: Strategy) -> None:
    planted = {p.id: p for p in threads(12, dev=3)}
    pairs, _ = build(tmp_path, list(planted.values()), strategy)
    assert pairs.schema.names == PAIRS.names
    labels = {}
    for row in rows(pairs):
        p = planted[row["conversation_id"]]
        assert row["pair_id"].startswith(f"{p.id}#{strategy}")
        assert (row["strategy"], row["source"], row["platform"], row["truth"]) == (strategy, "made", "slack", "explicit")
        assert (row["channel"], row["split"], row["text_format"]) == (p.channel, p.split, "plain")
        anchor, positive = ([int(name.split("-")[1]) for name in row[key]] for key in ("anchor_ids", "positive_ids"))
        if strategy is Strategy.SUMMARY:
            assert row["anchor"] in lines_about(p.id) and row["anchor_ids"] == [] and row["gap_seconds"] is None
        else:
            assert row["anchor"] == "\n".join(p.texts[n] for n in anchor)
            assert row["gap_seconds"] == 60.0 * (positive[0] - anchor[-1])
        assert row["positive"] == "\n".join(p.texts[n] for n in positive)
        assert 0 <= row["conversation_label"] < 2**63
        labels[p.id] = row["conversation_label"]
    assert len(set(labels.values())) == len(labels) == 12


def test_only_train_and_dev_conversations_make_pairs(tmp_path: Path) -> None:
    pairs, _ = build(tmp_path, threads(30, test=10, dev=5))
    found = {(row["split"], row["conversation_id"]) for row in rows(pairs)}
    assert found == {("train", f"c{n:03}") for n in range(15)} | {("dev", f"c{n:03}") for n in range(15, 20)}
    assert pairs.counts["conversations"] == 20
    assert pairs.counts["train_pairs"] + pairs.counts["dev_pairs"] == pairs.rows


@pytest.mark.parametrize("strategy", ALL)
def test_the_same_rows_come_out_again(tmp_path: Path, strategy: Strategy) -> None:
    planted = threads(20, dev=4)
    one, _ = build(tmp_path / "one", planted, strategy)
    again, _ = build(tmp_path / "again", planted, strategy)
    assert one.fingerprint == again.fingerprint
    assert rows(one) == rows(again)
    turned, _ = build(tmp_path / "turned", list(reversed(planted)), strategy)
    if strategy is Strategy.TEMPORAL:  # its negatives are drawn from what is stored around it
        assert {row["pair_id"] for row in rows(turned)} == {row["pair_id"] for row in rows(one)}
    else:
        assert turned.fingerprint == one.fingerprint


def test_two_workers_write_what_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_MESSAGES", 100)
    monkeypatch.setattr(module, "_INLINE_BLOCKS", 1)
    planted = threads(80, test=10, dev=10)
    planted[3] = replace(planted[3], texts=planted[-1].texts)
    found = []
    for workers in ("1", "2"):
        monkeypatch.setenv(WORKERS_VARIABLE, workers)
        found.append(build(tmp_path / workers, planted, Strategy.TEMPORAL)[0])
    one, two = found
    assert rows(one) == rows(two)
    assert one.counts == two.counts
    assert one.counts["dropped_near_copy_of_held_out"] > 0
    assert one.counts["conversations"] == 70


def test_the_same_rows_come_out_in_another_process(tmp_path: Path) -> None:
    """Python salts the hashes of strings in each process."""
    pairs, _ = build(tmp_path, threads(20, test=4, dev=4), Strategy.TEMPORAL)
    code = (
        "import sys; from pathlib import Path\n"
        "from thread_embed_assets.chat.normalise import open_normalised\n"
        "from thread_embed_assets.pairs.build import PairOptions, build_pairs\n"
        "from thread_embed_assets.pairs.schema import Strategy\n"
        "folder = Path(sys.argv[1]); stored = open_normalised(folder / 'c.duckdb')\n"
        "tables = stored.conversations, stored.messages\n"
        "made = build_pairs(Strategy.TEMPORAL, 'made', *tables, PairOptions(), folder / 'p.duckdb')\n"
        "print(made.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pairs.fingerprint


@pytest.mark.parametrize("strategy", [Strategy.THREAD, Strategy.RESPONSE])
def test_a_conversations_pairs_do_not_depend_on_the_others(tmp_path: Path, strategy: Strategy) -> None:
    planted = threads(12)
    whole, _ = build(tmp_path / "whole", planted, strategy)
    alone, _ = build(tmp_path / "alone", planted[5:6], strategy)
    assert rows(alone, "pair_id") == [row for row in rows(whole, "pair_id") if row["conversation_id"] == "c005"]


def test_a_share_of_the_conversations_is_kept_by_id(tmp_path: Path) -> None:
    planted = threads(120, messages=5)
    half, _ = build(tmp_path / "half", planted, keep_share=0.5)
    whole, _ = build(tmp_path / "whole", planted)
    quarter, _ = build(tmp_path / "quarter", planted, keep_share=0.25)
    kept = [{row["conversation_id"] for row in rows(pairs)} for pairs in (quarter, half, whole)]
    assert kept[0] < kept[1] < kept[2]
    assert 40 < len(kept[1]) < 80
    assert len(kept[2]) == 120
    assert rows(half, "pair_id") == [row for row in rows(whole, "pair_id") if row["conversation_id"] in kept[1]]


def test_the_format_and_the_sizes_are_options(tmp_path: Path) -> None:
    pairs, _ = build(tmp_path, threads(6), text_format="speakers_times", window_sizes=(4, 5))
    for row in rows(pairs):
        assert row["text_format"] == "speakers_times"
        assert row["anchor"].startswith("speaker_1: ")
        assert "\n[+" in row["positive"]
        assert len(row["positive_ids"]) in (4, 5)


def test_wrong_options_are_told() -> None:
    with pytest.raises(InputError, match=r"unknown format 'fancy'.*Choose one of plain, speakers"):
        PairOptions(text_format="fancy")
    for sizes in ((), (4, 3), (3, 3), (1, 2), (3, 9)):
        with pytest.raises(InputError, match="ascending sizes"):
            PairOptions(window_sizes=sizes)


def test_a_pair_whose_one_text_contains_the_other_is_dropped(tmp_path: Path) -> None:
    texts = sentences(6, "base")
    question = f"is it so that {texts[0]}?"
    planted = [
        Stored("same", [question, f"yes indeed {question}", *texts[:2]], people=PEOPLE[:2]),
        Stored("fine", [question, "yes that is how it is", *texts[2:4]], people=PEOPLE[:2]),
    ]
    pairs, _ = build(tmp_path, planted, Strategy.RESPONSE)
    assert {row["conversation_id"] for row in rows(pairs)} == {"fine"}
    assert pairs.counts["dropped_one_contains_the_other"] >= 1


def test_a_message_of_mentions_alone_is_no_anchor(tmp_path: Path) -> None:
    mentions = " ".join(f"<@{person}>" for person in [*PEOPLE, *PEOPLE])
    planted = [Stored(f"c{n}", [mentions, "ok", "yes", "no", "so"], people=PEOPLE) for n in range(3)]
    pairs, _ = build(tmp_path, planted)
    assert pairs.rows == 0
    assert pairs.counts["dropped_one_contains_the_other"] == 3


@pytest.mark.parametrize("strategy", ALL)
def test_copies_of_held_out_text_make_no_pair(tmp_path: Path, strategy: Strategy) -> None:
    planted = threads(9, dev=2, test=2)
    test, dev = planted[-1], planted[-3]
    copies = [
        replace(planted[0], id="train_of_test", texts=test.texts),
        replace(planted[0], id="train_of_dev", texts=[text.upper() for text in dev.texts]),
        replace(dev, id="dev_of_test", texts=test.texts),
    ]
    pairs, stored = build(tmp_path, [*planted, *copies], strategy)
    found = {row["conversation_id"] for row in rows(pairs)}
    assert found == {f"c{n:03}" for n in range(7)}
    assert pairs.counts["dropped_near_copy_of_held_out"] >= 3
    assert quality.no_held_out_text(pairs, stored).passed


@pytest.mark.parametrize("strategy", ALL)
def test_twelve_held_out_words_inside_a_longer_message_make_no_pair(tmp_path: Path, strategy: Strategy) -> None:
    planted = threads(9, dev=2, test=2)
    run = " ".join(" ".join(planted[-1].texts).split()[2:14])
    quoting = [f"{text} as they once said here: {run} and so on it went" for text in planted[0].texts]
    pairs, _ = build(tmp_path, [replace(planted[0], id="quoting", texts=quoting), *planted[1:]], strategy)
    assert "quoting" not in {row["conversation_id"] for row in rows(pairs)}
    assert not any(run in str(row["anchor"]) + str(row["positive"]) for row in rows(pairs))
    assert pairs.rows > 0


def test_one_copied_message_drops_only_its_own_pairs(tmp_path: Path) -> None:
    planted = threads(6, messages=40, test=1)
    leak = planted[-1].texts[5]
    planted[0] = replace(planted[0], texts=[*planted[0].texts[:20], leak, *planted[0].texts[21:]])
    for strategy in (Strategy.THREAD, Strategy.RESPONSE):
        pairs, stored = build(tmp_path / strategy, planted, strategy)
        found = [row for row in rows(pairs) if row["conversation_id"] == "c000"]
        assert found
        assert not any(leak in (row["anchor"], row["positive"]) for row in found)
        assert quality.no_held_out_text(pairs, stored).passed


def test_temporal_negatives_come_from_another_conversation_of_the_channel_at_another_time(tmp_path: Path) -> None:
    planted = {p.id: p for p in threads(60, messages=10, channels=2, dev=10, hours=0.25)}
    pairs, _ = build(tmp_path, list(planted.values()), Strategy.TEMPORAL)
    found = [row for row in rows(pairs) if row["negative"] is not None]
    assert len(found) == pairs.counts["with_negative"] >= 30
    for row in found:
        here, there = planted[row["conversation_id"]], planted[row["negative_conversation_id"]]
        assert here.id != there.id
        assert (here.channel, here.split) == (there.channel, there.split)
        assert here.start is not None
        assert there.start is not None
        assert abs(here.start - there.start) - 9 * 60 >= HOUR
        assert row["negative"] in "\n".join(there.texts)
        assert similarity(row["negative"], row["positive"]) < 0.6


def test_conversations_of_one_hour_give_no_negatives(tmp_path: Path) -> None:
    pairs, _ = build(tmp_path, threads(10, channels=1, hours=0.01), Strategy.TEMPORAL)
    assert pairs.rows >= 10
    assert all(row["negative"] is None and row["negative_conversation_id"] is None for row in rows(pairs))


def test_a_repeated_text_is_no_negative(tmp_path: Path) -> None:
    texts = sentences(8, "again")
    planted = [Stored(f"c{n}", [f"{text} {n}" for text in texts], start=NOON + 5 * HOUR * n) for n in range(10)]
    pairs, _ = build(tmp_path, planted, Strategy.TEMPORAL)
    for row in rows(pairs):
        assert row["negative"] is None or similarity(row["negative"], row["positive"]) < 0.6


def test_without_times_there_are_negatives_and_no_gaps(tmp_path: Path) -> None:
    planted = [replace(p, start=None) for p in threads(20, messages=40, channels=1)]
    pairs, _ = build(tmp_path, planted, Strategy.TEMPORAL)
    found = rows(pairs)
    assert all(row["gap_seconds"] is None for row in found)
    assert pairs.counts["with_negative"] > len(found) / 2
    assert all(row["negative_conversation_id"] != row["conversation_id"] for row in found)


@pytest.mark.parametrize("strategy", [Strategy.THREAD, Strategy.RESPONSE])
def test_other_strategies_bring_no_negative_of_their_own(tmp_path: Path, strategy: Strategy) -> None:
    pairs, _ = build(tmp_path, threads(12), strategy)
    assert all(row["negative"] is None for row in rows(pairs))


def test_a_negative_comes_from_the_conversations_own_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_MESSAGES", 120)
    pairs, _ = build(tmp_path, threads(40, channels=1), Strategy.TEMPORAL)
    found = [(int(row["conversation_id"][1:]), int(row["negative_conversation_id"][1:])) for row in rows(pairs)]
    assert all(here // 10 == there // 10 for here, there in found)
    assert {here < there for here, there in found} == {True, False}


def test_what_stands_in_other_sources_is_left_out(tmp_path: Path) -> None:
    planted = threads(12)
    stored = store(tmp_path / "c.duckdb", planted)
    tables = stored.conversations, stored.messages
    dropped = {"c001", "c007", "of another source"}
    pairs = build_pairs(Strategy.THREAD, "made", *tables, PairOptions(), tmp_path / "p.duckdb", dropped=dropped)
    assert {row["conversation_id"] for row in rows(pairs)} == {p.id for p in planted} - dropped
    assert (pairs.counts["conversations"], pairs.counts["dropped_duplicate_elsewhere"]) == (12, 2)


@pytest.mark.parametrize("strategy", ALL)
def test_what_other_sources_hold_out_is_held_out_here(tmp_path: Path, strategy: Strategy) -> None:
    other = threads(6, test=2, dev=2, seed="other")
    test, dev = (
        HeldOutShingles(text for thread in other if thread.split == split for text in thread.texts)
        for split in ("test", "dev")
    )
    own = threads(8, dev=2, seed="own")
    own[0] = replace(own[0], texts=other[-1].texts)
    own[1] = replace(own[1], texts=other[-3].texts)
    own[2] = replace(own[2], texts=other[0].texts)
    own[6] = replace(own[6], texts=other[-2].texts)
    own[7] = replace(own[7], texts=other[-4].texts)
    stored = store(tmp_path / "c.duckdb", own)
    tables = stored.conversations, stored.messages
    held_out, lines = {"train": test | dev, "dev": test}, lines_for(strategy, tmp_path, own)
    path = tmp_path / "p.duckdb"
    pairs = build_pairs(strategy, "made", *tables, PairOptions(), path, held_out=held_out, summaries=lines)
    assert {row["conversation_id"] for row in rows(pairs)} == {"c002", "c003", "c004", "c005", "c007"}
    alone = build_pairs(strategy, "made", *tables, PairOptions(), path, summaries=lines)
    assert len({row["conversation_id"] for row in rows(alone)}) == 8


def test_a_strategy_that_the_source_cannot_serve_makes_no_pair(tmp_path: Path) -> None:
    stored = store(tmp_path / "c.duckdb", threads(6))
    tables = stored.conversations, stored.messages
    for strategy, expected in ((Strategy.RESPONSE, True), (Strategy.THREAD, False)):
        path = tmp_path / f"{strategy}.duckdb"
        pairs = build_pairs(strategy, "made", *tables, PairOptions(), path, allowed=("response",))
        assert bool(pairs.rows) == expected
        assert pairs.schema.names == PAIRS.names
        assert pairs.counts.get("strategy_not_served", 0) == (not expected)


@given(talk=talks(), first=st.integers(0, 3), seed=st.integers())
def test_conversations_that_are_passed_over_would_make_no_pair(talk: StoredConversation, first: int, seed: int) -> None:
    sizes = SIZES[first:]
    for strategy, make in module.STRATEGIES.items():
        if len(talk.messages) < module.FEWEST_MESSAGES[strategy](sizes):
            assert list(make(talk, sizes, Random(seed))) == []


@pytest.mark.parametrize(
    ("strategy", "fewest"),
    [(Strategy.THREAD, 4), (Strategy.RESPONSE, 2), (Strategy.TEMPORAL, 6), (Strategy.SUMMARY, 2)],
)
def test_the_shortest_conversation_that_can_make_a_pair_does(tmp_path: Path, strategy: Strategy, fewest: int) -> None:
    planted = [replace(p, id=f"{p.id}-{count}") for count in (fewest - 1, fewest) for p in threads(3, messages=count)]
    pairs, _ = build(tmp_path, planted, strategy)
    assert {row["conversation_id"] for row in rows(pairs)} == {f"c{n:03}-{fewest}" for n in range(3)}
