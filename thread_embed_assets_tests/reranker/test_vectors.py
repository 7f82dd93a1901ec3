from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from thread_embed_assets.reranker.model import Reranker, new_reranker
from thread_embed_assets.reranker.vectors import PairVector, Parts, read_apart
from thread_embed_assets_tests.reranker.tiny_rerankers import tiny_config
from thread_embed_assets_tests.training.tiny import build_tiny_model

SEPARATOR = 3
# [CLS] two words [SEP] three words [SEP] and padding
IDS = torch.tensor([[2, 10, 11, 3, 20, 21, 22, 3, 0, 0]])
MASK = (IDS > 0).long()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(base: Path) -> Reranker:
    torch.manual_seed(1)
    return new_reranker(tiny_config(base)).eval()


def _parts(ids: torch.Tensor = IDS) -> Parts:
    return Parts.of(ids, (ids > 0).long(), SEPARATOR)


def _read(model: Reranker, ids: torch.Tensor, joint_layers: int) -> torch.Tensor:
    with torch.inference_mode():
        return read_apart(model.transformer, ids, _parts(ids), joint_layers)


def test_words_belong_to_the_message_or_the_thread_and_marks_to_neither() -> None:
    parts = _parts()
    assert parts.message[0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert parts.thread[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert parts.in_thread[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]


def test_apart_neither_side_knows_the_other_and_a_joint_layer_tells(model: Reranker) -> None:
    other = IDS.clone()
    other[0, 5] = 40
    apart, changed = _read(model, IDS, 0), _read(model, other, 0)
    assert torch.equal(apart[0, :4], changed[0, :4])
    assert not torch.equal(apart[0, 4:8], changed[0, 4:8])
    assert not torch.allclose(_read(model, IDS, 1)[0, :4], _read(model, other, 1)[0, :4])


def test_the_thread_is_read_as_if_nothing_stood_before_it(model: Reranker) -> None:
    longer = torch.tensor([[2, 10, 11, 12, 13, 14, 3, 20, 21, 22, 3]])
    torch.testing.assert_close(_read(model, IDS, 0)[0, 4:8], _read(model, longer, 0)[0, 7:11])


def test_padding_changes_nothing(model: Reranker) -> None:
    features = torch.zeros(1, 5)
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS, MASK, features), model(IDS[:, :8], MASK[:, :8], features))


def test_the_products_sum_up_to_cosines_with_all_of_the_thread_and_with_its_end() -> None:
    size = 6
    tokens = torch.randn(1, 10, size, generator=torch.Generator().manual_seed(0))
    whole, newest = tokens[0, 4:7].mean(0), None
    weights = 0.5 ** (torch.tensor([2.0, 1.0, 0.0]) / 16)
    newest = (tokens[0, 4:7] * weights[:, None]).sum(0)
    message = tokens[0, 1:3].mean(0)
    _, with_all, _, with_end, _, _ = PairVector(size)(tokens, _parts()).detach().split(size, dim=1)
    assert with_all.sum() / size == pytest.approx(float(cosine_similarity(message, whole, dim=0)), abs=1e-5)
    assert with_end.sum() / size == pytest.approx(float(cosine_similarity(message, newest, dim=0)), abs=1e-5)


def test_how_alike_they_are_is_told_by_cosines_and_by_the_words_that_are_most_alike() -> None:
    size = 6
    tokens = torch.randn(1, 10, size, generator=torch.Generator().manual_seed(0))
    vector = PairVector(size)
    vectors = vector(tokens, _parts()).detach()
    alike = vector.alike(vectors)[0]
    assert alike[:3].tolist() == pytest.approx([float(vectors[0, n * size : (n + 1) * size].mean()) for n in (1, 2, 3)])
    likeness = [[float(cosine_similarity(tokens[0, m], tokens[0, t], dim=0)) for t in (4, 5, 6)] for m in (1, 2)]
    assert float(alike[3]) == pytest.approx(sum(map(max, likeness)) / 2, abs=1e-5)


def test_a_thread_without_a_word_is_like_nothing() -> None:
    ids = torch.tensor([[2, 10, 11, 3, 3]])
    tokens = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))
    vector = PairVector(6)
    vectors = vector(tokens, _parts(ids)).detach()
    assert torch.isfinite(vectors).all() and vectors[0, -1] == -1


def test_a_message_attends_to_what_is_like_it() -> None:
    tokens = torch.zeros(1, 10, 4)
    tokens[0, 1:3] = torch.tensor([1.0, 0, 0, 0])
    tokens[0, 4:7] = torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 0, 0], [0, 0, 1, 0]])
    _, with_all, attended, _, _, _ = PairVector(4)(tokens, _parts()).detach().split(4, dim=1)
    assert attended.sum() / 4 > 0.99 > 0.6 > with_all.sum() / 4


def test_low_rank_matrices_are_trained_in_layers_that_read_apart(base: Path) -> None:
    torch.manual_seed(1)
    model = new_reranker(tiny_config(base, adapter="lora", joint_layers=0))
    model(IDS, MASK, torch.zeros(1, 5)).sum().backward()
    trained = {name: weight for name, weight in model.named_parameters() if "lora_B" in name}
    assert trained and all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
