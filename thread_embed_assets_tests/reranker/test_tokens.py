from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import EXAMPLES
from thread_embed_assets.reranker.onnx_reranker import PairReader, of_like_length, padded
from thread_embed_assets.reranker.tokens import TIERS, prepare_rows
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables
from thread_embed_assets_tests.reranker.tiny_rerankers import example, write_examples
from thread_embed_assets_tests.training.tiny import build_tiny_model

FIRST, SEPARATOR = 2, 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny")) / "tokenizer.json"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TableHandle:
    return write_examples(tmp_path_factory.mktemp("examples") / "examples.duckdb")


def _reader(tokenizer: Path, max_tokens: int = 32, message_tokens: int = 12) -> PairReader:
    return PairReader(tokenizer, FIRST, SEPARATOR, max_tokens, message_tokens)


def test_a_pair_is_message_and_thread_between_separators(tokenizer: Path) -> None:
    [pair] = _reader(tokenizer).pairs(["baka dela"], ["fimi"])
    message, thread = ((_reader(tokenizer).pairs([text], [""])[0][1:-2]) for text in ("baka dela", "fimi"))
    assert pair == [FIRST, *message, SEPARATOR, *thread, SEPARATOR]
    assert len(message) == 2 and len(thread) == 1


def test_long_messages_lose_their_end_and_long_threads_their_middle(tokenizer: Path) -> None:
    [[*_, baka], [*_, dela]] = _letters(tokenizer, "baka", "dela")
    reader = _reader(tokenizer, max_tokens=16, message_tokens=4)
    [pair] = reader.pairs(["baka baka baka baka dela"], ["dela " + "baka " * 50 + "dela dela"])
    assert pair == [FIRST, *[baka] * 4, SEPARATOR, dela, baka, *[baka] * 5, dela, dela, SEPARATOR]
    assert len(pair) == 16


def test_what_the_message_leaves_is_the_threads_and_the_same_for_messages_of_about_one_length(tokenizer: Path) -> None:
    reader = _reader(tokenizer, max_tokens=96, message_tokens=40)
    counts = (1, 3, 16, 17, 32, 40, 60)
    pairs = reader.pairs(["baka " * count for count in counts], ["dela " * 200] * len(counts))
    room = [len(pair) - pair.index(SEPARATOR) - 2 for pair in pairs]
    assert room == [93 - 16] * 3 + [93 - 32] * 2 + [93 - 40] * 2
    assert all(len(pair) <= 96 for pair in pairs)


def test_a_text_that_spells_a_special_token_is_a_text(tokenizer: Path) -> None:
    [pair] = _reader(tokenizer).pairs(["baka [SEP] dela"], ["[CLS] [PAD]"])
    assert pair.count(SEPARATOR) == 2 and pair.count(FIRST) == 1 and pair.count(0) == 0


def _letters(tokenizer: Path, *texts: str) -> list[list[int]]:
    return [pair[1:-2] for pair in _reader(tokenizer).pairs(texts, [""] * len(texts))]


def test_rows_of_like_length_are_together_and_filled_up() -> None:
    parts = [part.tolist() for part in of_like_length([9, 1, 5, 2, 7], 2)]
    assert parts == [[1, 3], [2, 4], [0]]
    ids, mask = padded([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [7, 0]] and mask.tolist() == [[1, 1], [1, 0]]


def test_rows_are_what_the_table_says_message_by_message(tokenizer: Path, table: TableHandle, tmp_path: Path) -> None:
    reader = _reader(tokenizer)
    rows = prepare_rows([table], "train", reader, tmp_path / "train", None, 0)
    stored = list(table.rows_as_dicts(where="split = 'train'", order_by="group_id, candidate_id"))
    assert len(rows) == len(stored) == 240
    assert rows.groups.tolist() == [int(row["group_id"][1:]) for row in stored]
    assert rows.labels.tolist() == [row["label"] for row in stored]
    assert [TIERS[tier] for tier in rows.tiers] == [row["tier"] for row in stored]
    assert rows.features[:, 0].tolist() == [row["entity_overlap"] for row in stored]
    wanted = reader.pairs([row["message"] for row in stored], [row["thread"] for row in stored])
    places = np.array([200, 3, 77])
    ids, mask, features = rows.batch(places)
    assert [row[: keep.sum()].tolist() for row, keep in zip(ids, mask, strict=True)] == [wanted[p] for p in places]
    np.testing.assert_array_equal(features, rows.features[places])


def test_rows_are_tokenised_once(tokenizer: Path, table: TableHandle, tmp_path: Path) -> None:
    first = prepare_rows([table], "dev", _reader(tokenizer), tmp_path / "dev", None, 0)
    again = prepare_rows([], "dev", _reader(tokenizer), tmp_path / "dev", None, 0)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert isinstance(again.tokens, np.memmap)


def test_a_sample_takes_whole_messages_and_is_drawn_by_the_seed(tokenizer: Path, table: TableHandle, tmp_path: Path) -> None:
    drawn = [
        prepare_rows([table], "train", _reader(tokenizer), tmp_path / f"{n}", 10, seed) for n, seed in enumerate((0, 0, 1))
    ]
    for rows in drawn:
        assert np.bincount(rows.groups).tolist() == [4] * 10
    np.testing.assert_array_equal(drawn[0].features, drawn[1].features)
    assert not np.array_equal(drawn[0].features, drawn[2].features)


def test_several_tables_are_read_one_after_another(tokenizer: Path, table: TableHandle, tmp_path: Path) -> None:
    other = write_examples(tmp_path / "other.duckdb", messages=3, dev_messages=0)
    rows = prepare_rows([table, other], "train", _reader(tokenizer), tmp_path / "train", None, 0)
    assert rows.groups[-1] == 62 and np.bincount(rows.groups).tolist() == [4] * 63


def test_a_message_without_a_right_candidate_is_found(tokenizer: Path, tmp_path: Path) -> None:
    with write_tables(tmp_path / "bad.duckdb", {"examples": EXAMPLES}) as writer:
        for group, labels in (("m1", (1, 0)), ("m2", (0, 0)), ("m3", (1, 1))):
            for place, label in enumerate(labels):
                writer.add("examples", example(group, str(place), "dev", "easy", label, [0.0] * 5, "baka|dela"))
    bad = open_table(tmp_path / "bad.duckdb", "examples")
    with pytest.raises(InputError, match=r"bad\.duckdb: 2 messages of dev"):
        prepare_rows([bad], "dev", _reader(tokenizer), tmp_path / "dev", None, 0)
    with pytest.raises(InputError, match="no examples of the split train"):
        prepare_rows([bad], "train", _reader(tokenizer), tmp_path / "train", None, 0)


def test_batches_come_in_few_widths(tokenizer: Path, table: TableHandle, tmp_path: Path) -> None:
    rows = prepare_rows([table], "train", _reader(tokenizer, max_tokens=30), tmp_path / "train", None, 0)
    by_length = np.argsort(rows.lengths, kind="stable")
    widths = set()
    for place in by_length[::7]:
        ids, mask, _ = rows.batch(np.array([place]))
        assert mask.sum() == rows.lengths[place] and (ids[mask == 0] == 0).all()
        widths.add(ids.shape[1])
    assert widths == {16, rows.longest} and 16 < rows.longest <= 30
