from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from thread_embed_assets.reranker.candidates import FEATURES, Candidate
from thread_embed_assets.reranker.groups import score_rows as group_scores
from thread_embed_assets.reranker.model import Reranker, new_reranker, pair_reader
from thread_embed_assets.reranker.onnx_reranker import PairReader, padded
from thread_embed_assets.reranker.scoring import TorchScorer, hits, ranks, score_rows
from thread_embed_assets.reranker.tokens import prepare_rows
from thread_embed_assets.training.devices import DeviceChoice
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config, write_examples
from thread_embed_assets_tests.training.tiny import WORDS, build_tiny_model

CPU = DeviceChoice("cpu", "fp32", "test")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    torch.manual_seed(2)
    base = build_tiny_model(tmp_path_factory.mktemp("tiny"))
    return new_reranker(tiny_config(base, adapter="none")).eval()


def test_ranks_count_ties_and_what_is_no_number_against_the_model() -> None:
    scores = np.array([3, 1, 2, 5, 5, 1, np.nan, 0, 4], dtype=np.float32)
    labels = np.array([0, 1, 0, 1, 0, 0, 0, 0, 1], dtype=np.int8)
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2], dtype=np.int32)
    assert ranks(scores, labels, groups).tolist() == [3, 2, 2]
    lost = np.where(labels == 1, np.nan, scores).astype(np.float32)
    assert ranks(lost, labels, groups).tolist() == [3, 3, 3]


def test_a_table_and_a_message_are_scored_as_the_rows_that_are_trained_on(model: Reranker, tmp_path: Path) -> None:
    table = write_examples(tmp_path / "examples.duckdb", messages=5, dev_messages=30)
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    scorer = TorchScorer(tmp_path / "model", CPU)
    found = group_scores(table, "split = 'dev'", scorer.rows)
    reader = PairReader(tmp_path / "model" / "tokenizer.json", **model.reading)
    rows = prepare_rows([table], "dev", reader, tmp_path / "rows", None, 0)
    np.testing.assert_allclose(found, score_rows(model, rows), atol=1e-6)
    one = model(*(torch.from_numpy(values) for values in rows.batch(np.array([17]))))
    assert found[17] == pytest.approx(one.item(), abs=1e-5)
    stored = list(table.rows_as_dicts(where="split='dev'", order_by="group_id, candidate_id"))
    for row, expected in list(zip(stored, found, strict=True))[16:20]:
        features = np.array([row[name] for name in FEATURES], np.float32)
        [logit] = scorer.logits(row["message"], [Candidate(row["candidate_id"], row["thread"], features)])
        assert logit == pytest.approx(expected, abs=1e-6)
    assert scorer.logits("nothing to choose from", []).shape == (0,)


@pytest.mark.parametrize("fields", [{}, {"joint_layers": 1}, {"joint_layers": None}, {"pooling": "mean"}])
def test_in_bf16_a_saved_one_scores_as_the_model_does(tmp_path: Path, fields: dict[str, object]) -> None:
    """What was read of a thread is remembered in between; the candidates of messages are partly the same."""
    torch.manual_seed(2)
    model = new_reranker(tiny_config(build_tiny_model(tmp_path / "tiny"), adapter="none", **fields)).eval()
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    bf16 = DeviceChoice("cpu", "bf16", "test")
    scorer, reader = TorchScorer(tmp_path / "model", bf16), pair_reader(tmp_path / "model")
    model.place_on(bf16)
    for message, threads in (("baka dela", WORDS[:5]), ("fimi", WORDS[3:9]), ("baka", WORDS[:5])):
        features = np.random.default_rng(3).uniform(0, 2, (len(threads), len(FEATURES))).astype(np.float32)
        found = scorer.logits(message, [Candidate(text, text, f) for text, f in zip(threads, features, strict=True)])
        inputs = (*padded(reader.pairs([message] * len(threads), threads)), features)
        with torch.inference_mode():
            wanted = model(*(torch.from_numpy(values) for values in inputs)).numpy()
        np.testing.assert_allclose(found, wanted, atol=5e-3)
        assert np.ptp(found) > 0.02


def test_hits_of_all_and_by_tier(model: Reranker, tmp_path: Path) -> None:
    table = write_examples(tmp_path / "examples.duckdb", messages=0, dev_messages=8)
    reader = PairReader(_tokenizer(model, tmp_path), **model.reading)
    rows = prepare_rows([table], "dev", reader, tmp_path / "rows", None, 0)
    easy = np.isin(rows.groups, [0, 2, 4, 6])
    scores = np.where(easy, rows.labels, -rows.labels).astype(np.float32)  # right on easy, last on hard
    found = hits(scores, rows)
    assert found["tiers"] == {
        "easy": {"hit@1": 1.0, "mrr": 1.0, "messages": 4},
        "hard": {"hit@1": 0.0, "mrr": 0.25, "messages": 4},
    }
    assert (found["hit@1"], found["mrr"], found["messages"]) == (0.5, 0.625, 8)


def _tokenizer(model: Reranker, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(model.tokenizer, encoding="utf-8")
    return path
