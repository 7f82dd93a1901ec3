from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from thread_embed_assets.training.batches import ConversationBatchSampler
from thread_embed_assets.training.config import StageConfig
from thread_embed_assets.training.data import PairInput, write_training_data
from thread_embed_assets_tests.training.tiny import write_pairs


@pytest.fixture(scope="module")
def dataset(inputs: list[PairInput], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("batches")
    return write_training_data(StageConfig(), [inputs[0]], "all", folder).datasets["thread-alpha"]


def _sampler(dataset: Dataset, batch_size: int = 8) -> ConversationBatchSampler:
    return ConversationBatchSampler(dataset, batch_size=batch_size, drop_last=False, generator=torch.Generator(), seed=3)


def _repeats(dataset: Dataset, batches: list[list[int]]) -> int:
    conversations = dataset.with_format(None)["conversation"]
    return sum(count - 1 for batch in batches for count in Counter(conversations[i] for i in batch).values())


def test_a_batch_holds_a_conversation_once(dataset: Dataset) -> None:
    batches = list(_sampler(dataset))
    assert [len(batch) for batch in batches] == [8] * len(batches)
    assert len(batches) >= 5
    assert _repeats(dataset, batches) == 0


@pytest.mark.parametrize("library_sampler", ["batch_sampler", "no_duplicates_hashed"])
def test_the_librarys_samplers_repeat_conversations_even_with_a_label(
    dataset: Dataset, tiny_model: Path, tmp_path: Path, library_sampler: str
) -> None:
    """The real trainer with a conversation number as label: the reason why we have a sampler of our own."""
    plain = dataset.with_format(None)
    numbers = {c: n for n, c in enumerate(sorted(set(plain["conversation"])))}
    label = [numbers[c] for c in plain["conversation"]]
    labelled = Dataset.from_dict({"anchor": plain["anchor"], "positive": plain["positive"], "label": label})
    model = SentenceTransformer(str(tiny_model), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=8, batch_sampler=library_sampler, use_cpu=True, report_to=[]
    )
    loss = MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=DatasetDict(a=labelled), loss=loss)
    assert _repeats(dataset, list(trainer.get_train_dataloader().batch_sampler)) > 0


def test_a_hard_negatives_conversation_is_kept_apart_too(inputs: list[PairInput], tmp_path: Path) -> None:
    config = StageConfig(hard_negatives="strategy")
    temporal = write_pairs(tmp_path, "temporal", "alpha", 300, random.Random(2), conversations=40, negatives=1.0)
    hard = write_training_data(config, [temporal], "all", tmp_path).datasets["temporal-alpha-hard"]
    rows = hard.with_format(None)
    batches = list(_sampler(hard))
    assert len(batches) > 5
    for batch in batches:
        taken = [rows[i][column] for i in batch for column in ("conversation", "negative_conversation_1")]
        assert len(set(taken)) == len(taken)


def test_several_negatives_a_pair_leave_a_small_data_set_its_batches() -> None:
    count, negatives = 40, 4
    rows = {"anchor": [f"asks {n}" for n in range(count)], "positive": [f"says {n}" for n in range(count)]}
    rows["conversation"] = [f"c{n}" for n in range(count)]
    for place in range(1, negatives + 1):
        rows[f"negative_{place}"] = [f"other {place} {n}" for n in range(count)]
        rows[f"negative_conversation_{place}"] = [f"c{(n * 7 + place * 11) % count}" for n in range(count)]
    batches = list(_sampler(Dataset.from_dict(rows), batch_size=32))
    assert {len(batch) for batch in batches} == {4}
    assert len(batches) >= 5


def test_the_length_is_exact_in_every_epoch(dataset: Dataset) -> None:
    sampler = _sampler(dataset)
    seen = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) >= len(sampler)
        assert _repeats(dataset, batches) == 0
        seen.append(batches)
    assert seen[0] != seen[1]
    sampler.set_epoch(2)
    assert list(sampler) == seen[2]


def test_few_conversations_get_smaller_batches(tmp_path: Path) -> None:
    few = write_pairs(tmp_path, "thread", "alpha", 50, random.Random(1), conversations=6)
    dataset = write_training_data(StageConfig(), [few], "all", tmp_path).datasets["thread-alpha"]
    batches = list(_sampler(dataset, batch_size=64))
    assert {len(batch) for batch in batches} == {3}
    assert _repeats(dataset, batches) == 0
    assert len(batches) >= 14


def test_numbers_keep_nothing_apart(dataset: Dataset) -> None:
    plain = dataset.with_format(None)
    scored = plain.add_column("label", [1.0] * len(plain))
    assert list(_sampler(scored)) == list(_sampler(plain))


def test_each_process_gets_its_part_of_every_batch(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(_sampler(dataset))
    parts = []
    for rank in (0, 1):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        parts.append(list(_sampler(dataset)))
    assert [[*first, *second] for first, second in zip(*parts, strict=True)] == whole
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert {len(batch) for batch in _sampler(dataset)} == {2}, "eight rows are shared by three as six"
