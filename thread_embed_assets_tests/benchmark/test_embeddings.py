from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark import embeddings
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, ModelEncoder, unit
from thread_embed_assets.errors import InputError
from thread_embed_assets_tests.benchmark.stored import HashEncoder
from thread_embed_assets_tests.training.tiny import build_tiny_model

TEXTS = ["one thing", "another longer thing", "one thing", "x", ""]


def test_vectors_are_unit_float32_in_the_order_of_the_texts(tmp_path: Path) -> None:
    encoder = HashEncoder()
    found = EmbeddingCache(tmp_path).embed(encoder, TEXTS)
    assert found.dtype == np.float32
    expected = unit(np.asarray(HashEncoder().encode(TEXTS, "document"), dtype=np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_each_text_is_embedded_once_longest_first_and_never_again(tmp_path: Path) -> None:
    encoder = HashEncoder()
    cache = EmbeddingCache(tmp_path)
    first = cache.embed(encoder, TEXTS)
    assert encoder.seen == ["another longer thing", "one thing", "x", ""]
    assert cache.embedded == 4
    again = EmbeddingCache(tmp_path).embed(encoder, [*TEXTS[::-1], "new"], "query")
    assert encoder.seen[4:] == ["new"]
    np.testing.assert_array_equal(again[:5], first[::-1])


def test_models_do_not_share_vectors_and_roles_only_without_prompts(tmp_path: Path) -> None:
    plain, other, prompted = HashEncoder("a"), HashEncoder("b"), HashEncoder("c", prompts=True)
    cache = EmbeddingCache(tmp_path)
    for encoder in (plain, other, prompted):
        cache.embed(encoder, ["hello"], "query")
        cache.embed(encoder, ["hello"], "document")
    assert [len(e.seen) for e in (plain, other, prompted)] == [1, 1, 2]


def test_a_half_written_shard_is_embedded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 2)
    texts = [f"text number {i}" for i in range(6)]
    whole = EmbeddingCache(tmp_path).embed(HashEncoder(), texts)
    shards = sorted((tmp_path / "fake").glob("*.vectors"))
    assert len(shards) == 3
    content = shards[0].read_bytes()
    for cut in (0, 40, len(content) // 2, len(content) - 1):
        shards[0].write_bytes(content[:cut])
        encoder = HashEncoder()
        np.testing.assert_array_equal(EmbeddingCache(tmp_path).embed(encoder, texts), whole)
        assert len(encoder.seen) == 2


def test_what_a_killed_run_had_embedded_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 3)

    class Killed(HashEncoder):
        def encode(self, texts, role):  # type: ignore[no-untyped-def]
            if self.seen:
                raise KeyboardInterrupt
            return super().encode(texts, role)

    texts = [f"text number {i}" for i in range(9)]
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path).embed(Killed(), texts)
    encoder = HashEncoder()
    EmbeddingCache(tmp_path).embed(encoder, texts)
    assert len(encoder.seen) == 6


def _fill(folder: Path, start: int) -> None:
    EmbeddingCache(folder).embed(HashEncoder(), [f"text number {i}" for i in range(start, start + 40)])


def test_processes_share_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 8)
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_fill, args=(tmp_path, start)) for start in (0, 20, 0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    encoder = HashEncoder()
    found = EmbeddingCache(tmp_path).embed(encoder, [f"text number {i}" for i in range(60)])
    assert encoder.seen == []
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("fault", [np.array([[np.nan, 1.0]]), np.ones((2, 2)), np.ones(2)])
def test_a_model_that_gives_nonsense_is_an_error_and_nothing_is_stored(tmp_path: Path, fault: np.ndarray) -> None:
    class Broken(HashEncoder):
        def encode(self, texts, role):  # type: ignore[no-untyped-def]
            return fault

    with pytest.raises(InputError, match="model fake"):
        EmbeddingCache(tmp_path).embed(Broken(), ["a text"])
    assert not list(tmp_path.rglob("*.vectors"))


def test_no_texts_give_no_vectors(tmp_path: Path) -> None:
    assert EmbeddingCache(tmp_path).embed(HashEncoder(), []).shape == (0, 0)


def test_a_real_model_gets_its_own_prompts(tmp_path: Path, tiny_model: Path) -> None:
    prompted = tmp_path / "prompted"
    shutil.copytree(tiny_model, prompted)
    settings = prompted / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prompts": {"query": "gola find ", "document": ""}}))
    bare, with_prompt = ModelEncoder(tiny_model, "bare", "cpu"), ModelEncoder(prompted, "prompted", "cpu")
    assert bare.role_key("query") == bare.role_key("document") == ""
    assert with_prompt.role_key("query") != with_prompt.role_key("document")
    cache, texts = EmbeddingCache(tmp_path / "cache"), ["baka dela", "fimi"]
    asked = cache.embed(with_prompt, texts, "query")
    stored = cache.embed(with_prompt, texts, "document")
    np.testing.assert_allclose(stored, cache.embed(bare, texts, "document"), atol=1e-5)
    np.testing.assert_allclose(asked, cache.embed(bare, ["gola find " + t for t in texts], "document"), atol=1e-5)
    assert np.abs(asked - stored).max() > 1e-3


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))
