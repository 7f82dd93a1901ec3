from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from thread_embed_assets.chat.near_copies import similarity
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs import quality
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets.training import mining as module
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, write_training_data
from thread_embed_assets.training.mining import AUDIT, MiningOptions, mine_with_model
from thread_embed_assets_tests.chat.planted import sentences
from thread_embed_assets_tests.pairs.made import pair, write_pairs

HOUR = 3_600_000_000  # microseconds
TIMES = pa.schema(
    [
        ("conversation_id", pa.string()),
        ("channel", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("ended_at", pa.timestamp("us", tz="UTC")),
    ]
)
CONFIG = StageConfig(strategies={"thread": 1.0}, hard_negatives="mined", negatives=2)


class Encoder:
    """Stands in for a model: texts get planted angles, or random directions drawn from themselves."""

    def __init__(self, degrees: Mapping[str, float] | None = None, dimensions: int = 6) -> None:
        self.degrees = degrees
        self.dimensions = dimensions

    def vector(self, text: str) -> Sequence[float]:
        if self.degrees is not None:
            angle = math.radians(self.degrees.get(text, 180.0))
            return math.cos(angle), math.sin(angle)
        drawn = np.random.default_rng(seed(text)).normal(size=self.dimensions)
        return tuple(drawn / np.linalg.norm(drawn))

    def encode(self, texts: list[str], **_: Any) -> Any:
        import torch

        return torch.tensor([self.vector(text) for text in texts])


def _conversations(path: Path, hours: Mapping[str, tuple[float, float] | None]) -> TableHandle:
    """Conversations that begin and end at these hours, or at times unknown."""
    with write_tables(path, {"conversations": TIMES}) as writer:
        for name, span in hours.items():
            start, end = (None, None) if span is None else (int(hour * HOUR) for hour in span)
            writer.add("conversations", (name, "of the conversation", start, end))
    return open_table(path, "conversations")


def _mined(
    folder: Path,
    tables: Sequence[PairInput],
    encoder: Encoder,
    conversations: Mapping[str, TableHandle] | None = None,
    config: StageConfig = CONFIG,
    **options: Any,
) -> tuple[TableHandle, dict[str, list[dict[str, Any]]]]:
    """The table, and its rows by pair."""
    folder.mkdir(exist_ok=True)
    chosen = MiningOptions(**{"per_anchor": config.negatives, **options})
    path = folder / "mined.duckdb"
    handle = mine_with_model(encoder, config, tables, conversations or {}, chosen, "all", path)  # type: ignore[arg-type]
    found: dict[str, list[dict[str, Any]]] = {}
    for row in handle.rows_as_dicts(order_by="source, pair_id, rank"):
        found.setdefault(f"{row['source']} {row['pair_id']}", []).append(row)
    return handle, found


POSITIVE = "the violin sleeps in its case until the evening"
TOO_CLOSE, NEAR_IN_TIME = "a text that says the same in other words", "what the others said that afternoon"
NEAR_COPY, SAID_TWICE = "the violin sleeps in its case until this evening", "is anybody here"
FIRST, OF_THE_SAME, SECOND = "kettles boil on the stove", "stoves need wood", "ladders lean on walls"
# One row each: (conversation, positive, degrees from the anchor, channel); the anchor's own positive lies at 30.
PLANTED = [
    ("c1", POSITIVE, 30.0, "room"),
    ("c1", "more of the very conversation", 40.0, "room"),
    ("c2", TOO_CLOSE, 10.0, "hall"),
    ("c3", NEAR_IN_TIME, 41.0, "room"),
    ("c4", NEAR_COPY, 42.0, "hall"),
    ("c5", SAID_TWICE, 43.0, "hall"),
    ("c6", SAID_TWICE, 43.0, "hall"),
    ("c7", FIRST, 44.0, "hall"),
    ("c7", OF_THE_SAME, 45.0, "hall"),
    ("c8", SECOND, 50.0, "hall"),
]
HOURS = {"c1": (0.0, 1.0), "c3": (1.25, 2.0)}


def _planted(
    folder: Path,
    rows: Sequence[tuple[str, str, float, str]],
    hours: Mapping[str, tuple[float, float] | None],
    **options: Any,
) -> tuple[TableHandle, list[str]]:
    """What is mined for the first row's anchor."""
    folder.mkdir(exist_ok=True)
    degrees = {text: angle for _, text, angle, _ in rows} | {"the anchor": 0.0}
    table = [
        pair(n, pair_id=f"{name}#{n}", conversation_id=name, positive=text, channel=channel)
        for n, (name, text, _, channel) in enumerate(rows)
    ]
    table[0]["anchor"] = "the anchor"
    given = PairInput("thread", "made", write_pairs(folder / "p.duckdb", table))
    times = {"made": _conversations(folder / "c.duckdb", hours)}
    handle, found = _mined(folder, [given], Encoder(degrees), times, **options)
    assert quality.negatives_schema(handle).passed
    assert quality.negatives_from_elsewhere(handle, [given.pairs]).passed
    return handle, [row["negative"] for row in found.get("made c1#0", [])]


def test_each_rule_rejects_what_it_should_and_the_nearest_of_the_rest_are_kept(tmp_path: Path) -> None:
    handle, kept = _planted(tmp_path, PLANTED, HOURS)
    assert kept == [FIRST, SECOND]
    rows = [row for row in handle.rows_as_dicts() if row["pair_id"] == "c1#0"]
    assert [(row["kind"], row["rank"], row["negative_conversation_id"]) for row in rows] == [
        ("mined", 1, "c7"),
        ("mined", 2, "c8"),
    ]
    assert [row["score"] for row in rows] == pytest.approx([math.cos(math.radians(a)) for a in (44, 50)], abs=1e-6)
    assert handle.counts["left_out_in_several_conversations"] == 1
    assert handle.counts["anchors"] == handle.counts["thread_anchors"] == len(PLANTED)


@pytest.mark.parametrize(
    ("row", "changed", "hours", "options", "then"),
    [
        (1, {"conversation": "c9"}, HOURS, {}, "more of the very conversation"),
        (2, {"degrees": 40.5}, HOURS, {}, TOO_CLOSE),
        (2, {"degrees": 32.0}, HOURS, {"relative_margin": 1.0}, TOO_CLOSE),
        (3, {}, HOURS, {"minutes": 10.0}, NEAR_IN_TIME),
        (3, {}, HOURS | {"c3": (10.0, 11.0)}, {}, NEAR_IN_TIME),
        (3, {}, HOURS | {"c3": None}, {}, NEAR_IN_TIME),
        (3, {"channel": "elsewhere"}, HOURS, {}, NEAR_IN_TIME),
        (4, {"text": "a harp stands in the corner"}, HOURS, {}, "a harp stands in the corner"),
        (6, {"text": "something of its own"}, HOURS, {}, SAID_TWICE),
        (8, {"conversation": "c10"}, HOURS, {}, OF_THE_SAME),
    ],
)
def test_without_its_reason_a_text_is_not_rejected(
    row: int, changed: dict[str, Any], hours: Mapping[str, Any], options: dict[str, Any], then: str, tmp_path: Path
) -> None:
    rows = [dict(zip(("conversation", "text", "degrees", "channel"), planted, strict=True)) for planted in PLANTED]
    rows[row] |= changed
    _, kept = _planted(tmp_path, [tuple(one.values()) for one in rows], hours, **options)  # type: ignore[misc]
    assert then in kept


def test_rejections_nearer_than_the_last_negative_are_counted(tmp_path: Path) -> None:
    handle, _ = _planted(tmp_path / "one", PLANTED, HOURS)
    for reason in ("same_conversation", "near_in_time", "too_close_to_the_positive", "near_copy"):
        assert handle.counts[f"rejected_{reason}"] == handle.counts[f"thread_rejected_{reason}"] >= 1, reason
    far, _ = _planted(tmp_path / "two", PLANTED, {"c1": (0.0, 1.0), "c3": (30.0, 31.0)})
    assert far.counts["rejected_near_in_time"] == 0


def _random_tables(folder: Path) -> list[PairInput]:
    """Two sources whose pair and conversation ids are the same, of 40 conversations in three channels."""
    draw = random.Random(4)
    found = []
    for source in ("alpha", "beta"):
        table = [
            pair(
                n,
                pair_id=f"c{n % 40}#{n}",
                conversation_id=f"c{n % 40}",
                channel=f"room{n % 3}",
                source=source,
                anchor=f"{source} anchor {n} " + " ".join(draw.choices("abcdefghijklmnop", k=6)),
                positive=f"{source} positive {n} " + " ".join(draw.choices("abcdefghijklmnop", k=6)),
            )
            for n in range(120)
        ]
        found.append(PairInput("thread", source, write_pairs(folder / f"{source}.duckdb", table)))
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[PairInput]:
    return _random_tables(tmp_path_factory.mktemp("random"))


def test_the_search_is_exact(tables: list[PairInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each anchor's negatives are those of a plain loop over all texts, whatever the blocks."""
    hours = {f"c{n}": (n / 4, n / 4 + 0.1) for n in range(40)}
    times = {i.source: _conversations(tmp_path / f"{i.source}.duckdb", hours) for i in tables}
    encoder = Encoder()
    options = {"minutes": 30.0, "relative_margin": 0.9}
    first, found = _mined(tmp_path / "one", tables, encoder, times, **options)
    monkeypatch.setattr(module, "_BLOCK_SCORES", 500)
    monkeypatch.setattr(module, "_EMBEDDED", 7)
    again, others = _mined(tmp_path / "two", tables, encoder, times, **options)
    assert again.counts == first.counts
    assert {name: [row["negative"] for row in rows] for name, rows in others.items()} == {
        name: [row["negative"] for row in rows] for name, rows in found.items()
    }

    stored = {i.source: list(i.pairs.rows_as_dicts()) for i in tables}
    for source, rows in stored.items():
        for own in rows:
            anchor, positive = encoder.vector(own["anchor"]), encoder.vector(own["positive"])
            limit = np.dot(anchor, positive)
            limit -= 0.1 * abs(limit)
            at = hours[own["conversation_id"]]
            ranked = sorted(rows, key=lambda row: -np.dot(anchor, encoder.vector(row["positive"])))
            expected: list[dict[str, Any]] = []
            for row in ranked:
                other = hours[row["conversation_id"]]
                near = row["channel"] == own["channel"] and other[0] < at[1] + 0.5 and other[1] > at[0] - 0.5
                copy = max(similarity(row["positive"], own[side]) for side in ("anchor", "positive")) >= 0.6
                taken = {kept["conversation_id"] for kept in expected}
                score = np.dot(anchor, encoder.vector(row["positive"]))
                if row["conversation_id"] == own["conversation_id"] or near or copy or score > limit:
                    continue
                if row["conversation_id"] not in taken:
                    expected.append(row)
            kept = found.get(f"{source} {own['pair_id']}", [])
            assert [row["negative"] for row in kept] == [row["positive"] for row in expected[:2]]
    assert quality.negatives_from_elsewhere(first, [i.pairs for i in tables]).passed
    assert sum(map(len, found.values())) == first.counts["negatives"] == first.rows


def test_the_pairs_mined_are_those_that_the_stage_trains_on(tables: list[PairInput], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_pairs": 30, "negatives": 3, "seed": 5})
    handle, found = _mined(tmp_path / "m", tables, Encoder(), config=config, most_documents=200, relative_margin=1.0)
    assert handle.counts["anchors"] == 30
    assert handle.counts["documents"] == 200
    (tmp_path / "data").mkdir()
    given = [PairInput(i.strategy, i.source, i.pairs, handle) for i in tables]
    data = write_training_data(config, given, "all", tmp_path / "data")
    trained = sum(len(dataset) for name, dataset in data.datasets.items() if name.endswith("-hard"))
    assert trained == len(found) >= 25
    assert sum(map(len, data.datasets.values())) == 30


def test_the_audit_is_a_seeded_sample_with_scores(tables: list[PairInput], tmp_path: Path) -> None:
    handle, found = _mined(tmp_path / "one", tables, Encoder(), audited=20)
    audit = list(open_table(handle.path, "audit").rows_as_dicts())
    assert len(audit) == 20
    assert list(audit[0]) == AUDIT.names
    assert {row["source"] for row in audit} == {"alpha", "beta"}
    for row in audit:
        nearest = found[f"{row['source']} {row['pair_id']}"][0]
        assert (row["negative"], row["negative_score"]) == (nearest["negative"], nearest["score"])
        assert row["negative_score"] < row["positive_score"]
    smaller, _ = _mined(tmp_path / "two", tables, Encoder(), audited=5)
    assert [row["pair_id"] for row in open_table(smaller.path, "audit").rows_as_dicts()] == [
        row["pair_id"] for row in audit[:5]
    ]


def test_other_strategies_and_dev_pairs_are_neither_anchors_nor_candidates(tmp_path: Path) -> None:
    texts, replies = sentences(12, "text"), sentences(8, "reply")
    rows = [pair(n, positive=text, split="dev" if n > 7 else "train") for n, text in enumerate(texts)]
    thread = PairInput("thread", "made", write_pairs(tmp_path / "t.duckdb", rows))
    rows = [pair(n, positive=text, strategy="response", pair_id=f"r{n}") for n, text in enumerate(replies)]
    response = PairInput("response", "made", write_pairs(tmp_path / "r.duckdb", rows))
    config = CONFIG.model_copy(update={"strategies": {"thread": 1.0, "response": 1.0}})
    handle, found = _mined(tmp_path / "m", [thread, response], Encoder(), config=config, relative_margin=1.0)
    assert handle.counts["thread_anchors"] == handle.counts["response_anchors"] == 8
    mined: dict[str, set[str]] = {"thread": set(), "response": set()}
    for row in (row for kept in found.values() for row in kept):
        mined[row["strategy"]].add(row["negative"])
    assert mined["thread"] and mined["thread"] <= set(texts[:8])
    assert mined["response"] and mined["response"] <= set(replies)
    alone, _ = _mined(tmp_path / "alone", [thread, response], Encoder())
    assert "response_anchors" not in alone.counts


def test_without_pairs_it_says_so_and_an_earlier_table_stays(tables: list[PairInput], tmp_path: Path) -> None:
    handle, _ = _mined(tmp_path, tables, Encoder())
    with pytest.raises(InputError, match=r"mix 'all'.*no pair table is given.*Materialise"):
        _mined(tmp_path, [], Encoder())
    assert open_table(handle.path, "hard_negatives").fingerprint == handle.fingerprint


def test_the_check_finds_a_negative_of_the_anchors_own_conversation_in_its_source_only(
    tables: list[PairInput], tmp_path: Path
) -> None:
    pairs = [i.pairs for i in tables]
    own = next(row for row in tables[0].pairs.rows_as_dicts() if row["pair_id"] == "c1#41")

    def planted(name: str, source: str, negative: str, conversation: str) -> TableHandle:
        path = tmp_path / f"{name}.duckdb"
        with write_tables(path, {"hard_negatives": HARD_NEGATIVES}) as writer:
            writer.add("hard_negatives", ("c1#1", "thread", source, "c1", "mined", 1, 0.5, negative, conversation))
        return open_table(path, "hard_negatives")

    assert quality.negatives_from_elsewhere(planted("fine", "alpha", "a text", "c2"), pairs).passed
    assert not quality.negatives_from_elsewhere(planted("id", "alpha", "a text", "c1"), pairs).passed
    assert not quality.negatives_from_elsewhere(planted("text", "alpha", own["positive"], "c2"), pairs).passed
    assert quality.negatives_from_elsewhere(planted("other", "beta", own["positive"], "c2"), pairs).passed
    assert not quality.negatives_from_elsewhere(planted("unknown", "gamma", "a text", "c2"), pairs).passed
