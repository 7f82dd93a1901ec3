from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark import embeddings
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, ModelEncoder, unit
from thread_embed_assets.errors import InputError
from thread_embed_assets.training.token_weights import weigh_tokens
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


def test_a_models_place_in_the_cache_covers_prompts_pooling_and_precision(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    prints = [
        ModelEncoder(tiny_model, "weights").fingerprint,
        ModelEncoder(tiny_model, "weights", query_prompt="query: ").fingerprint,
        ModelEncoder(tiny_model, "weights", document_prompt="query: ").fingerprint,
        ModelEncoder(tiny_model, "weights", query_prompt="").fingerprint,
        ModelEncoder(tiny_model, "weights", precision="bf16").fingerprint,
        ModelEncoder(bare, "weights", pooling="cls").fingerprint,
        ModelEncoder(bare, "weights", pooling="mean").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == "weights", "vectors of older runs stay good"
    assert ModelEncoder(tiny_model, "weights", pooling="cls").fingerprint == "weights", "its folder says how it pools"
    monkeypatch.setenv("THREAD_EMBED_EMBED_PRECISION", "bf16")
    assert ModelEncoder(tiny_model, "weights").fingerprint == prints[4]
    monkeypatch.setenv("THREAD_EMBED_EMBED_PRECISION", "fp8")
    with pytest.raises(InputError, match=r"THREAD_EMBED_EMBED_PRECISION.*'fp8'.*bf16"):
        ModelEncoder(tiny_model, "weights")


def test_given_prompts_replace_those_of_the_model(tmp_path: Path, tiny_model: Path) -> None:
    prompted = tmp_path / "prompted"
    shutil.copytree(tiny_model, prompted)
    settings = prompted / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "prompts": {"query": "ba ", "document": "ka "}}))
    cache, texts = EmbeddingCache(tmp_path / "cache"), ["baka dela", "fimi"]
    bare = ModelEncoder(tiny_model, "bare", "cpu")
    given = ModelEncoder(prompted, "given", "cpu", query_prompt="gola ", document_prompt="")
    same = ModelEncoder(prompted, "same", "cpu", query_prompt="ne ", document_prompt="ne ")
    half = ModelEncoder(prompted, "half", "cpu", query_prompt="gola ")
    assert given.role_key("query") != given.role_key("document")
    assert same.role_key("query") == same.role_key("document") == ""
    assert half.role_key("query") != half.role_key("document")

    def plain(prompt: str) -> np.ndarray:
        return cache.embed(bare, [prompt + text for text in texts])

    for encoder, query, document in ((given, "gola ", ""), (same, "ne ", "ne "), (half, "gola ", "ka ")):
        np.testing.assert_allclose(cache.embed(encoder, texts, "query"), plain(query), atol=1e-5)
        np.testing.assert_allclose(cache.embed(encoder, texts, "document"), plain(document), atol=1e-5)


def test_pooling_is_told_where_the_folder_does_not_say_it(tmp_path: Path, tiny_model: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    for path in tiny_model.iterdir():
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            shutil.copy(path, words)
    cache, texts = EmbeddingCache(tmp_path / "cache"), ["baka dela fimi", "gola"]
    with pytest.raises(InputError, match=r"words: it has no modules\.json.*pooling: mean"):
        cache.embed(ModelEncoder(words, "untold", "cpu"), texts)
    mean = cache.embed(ModelEncoder(words, "mean", "cpu", pooling="mean"), texts)
    first = cache.embed(ModelEncoder(words, "first", "cpu", pooling="cls"), texts)
    np.testing.assert_allclose(mean, cache.embed(ModelEncoder(tiny_model, "own", "cpu"), texts), atol=1e-5)
    assert np.abs(mean - first).max() > 1e-2


def test_bf16_is_near_fp32_and_not_the_same(tmp_path: Path, tiny_model: Path) -> None:
    cache, texts = EmbeddingCache(tmp_path), ["baka dela fimi", "gola nepi"]
    whole = cache.embed(ModelEncoder(tiny_model, "tiny", "cpu", precision="fp32"), texts)
    half = cache.embed(ModelEncoder(tiny_model, "tiny", "cpu", precision="bf16"), texts)
    assert 1e-6 < np.abs(whole - half).max() < 0.05


def test_shards_are_opened_once_for_many_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 8)
    texts = [f"text number {i}" for i in range(400)]
    whole = EmbeddingCache(tmp_path).embed(HashEncoder(), texts)
    assert len(list(tmp_path.rglob("*.vectors"))) == 50
    opened: list[Path] = []
    vectors = embeddings._vectors
    monkeypatch.setattr(embeddings, "_vectors", lambda path: opened.append(path) or vectors(path))
    cache = EmbeddingCache(tmp_path)
    cache.embed(HashEncoder(), texts[:1])
    assert len(opened) == 51, "each shard once for the index, and the one that holds the text"
    opened.clear()
    for number in range(30):
        np.testing.assert_array_equal(cache.embed(HashEncoder(), [texts[number]])[0], whole[number])
    assert len(opened) == 30
    opened.clear()
    cache.embed(HashEncoder(), ["a text that is not there"])
    assert opened == []
    encoder = HashEncoder()
    np.testing.assert_array_equal(cache.embed(encoder, texts[::-1]), whole[::-1])
    assert encoder.seen == []


def test_what_another_cache_has_stored_meanwhile_is_found(tmp_path: Path) -> None:
    first, second = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    first.embed(HashEncoder(), ["one"])
    second.embed(HashEncoder(), ["two"])
    encoder = HashEncoder()
    first.embed(encoder, ["one", "two"])
    assert encoder.seen == []


def test_a_shard_that_is_gone_is_embedded_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    before = cache.embed(HashEncoder(), TEXTS)
    for path in tmp_path.rglob("*.vectors"):
        path.unlink()
    encoder = HashEncoder()
    np.testing.assert_array_equal(cache.embed(encoder, TEXTS), before)
    assert len(encoder.seen) == 4
    np.testing.assert_array_equal(cache.embed(encoder, TEXTS), before)
    assert len(encoder.seen) == 4


def test_every_stored_text_is_found_whatever_bytes_its_key_has(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(3000)]
    keys = [embeddings._key("", text) for text in texts]
    assert any(key.endswith(b"\0") for key in keys)
    assert any(b"\0" in key[:-1] for key in keys)
    cache, encoder = EmbeddingCache(tmp_path), HashEncoder(size=16)
    whole = cache.embed(encoder, texts)
    again = EmbeddingCache(tmp_path).embed(encoder, texts[::-1])
    np.testing.assert_array_equal(again, whole[::-1])
    assert len(encoder.seen) == 3000


class Paid(HashEncoder):
    """Costs a token a character, and has to be prepared."""

    prepared: Sequence[str] = ()
    tokens = 0

    def prepare(self, texts: Sequence[str]) -> None:
        self.prepared = texts

    def encode(self, texts, role):  # type: ignore[no-untyped-def]
        self.tokens += sum(map(len, texts))
        return super().encode(texts, role)

    def usage(self) -> Mapping[str, float]:
        used, self.tokens = self.tokens, 0
        return {"tokens": used}


def test_timing_sums_what_was_really_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 2)
    paid = Paid("paid")
    cache = EmbeddingCache(tmp_path)
    cache.embed(paid, TEXTS)
    assert sorted(paid.prepared) == sorted(set(TEXTS)), "told of all texts, not of a shard's"
    first = cache.timing("paid")
    assert first == json.loads((tmp_path / "paid" / "timing.json").read_text())
    assert first["seconds"] > 0
    assert {k: v for k, v in first.items() if k != "seconds"} == {"texts": 4, "characters": 30, "tokens": 30}
    cache.embed(paid, TEXTS)
    assert cache.timing("paid") == first
    EmbeddingCache(tmp_path).embed(paid, ["one more"])
    assert {k: v for k, v in cache.timing("paid").items() if k != "seconds"} == {"texts": 5, "characters": 38, "tokens": 38}
    assert cache.timing("unknown") == {}


def test_damaged_timing_costs_no_vectors(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.embed(HashEncoder(), ["one"])
    (tmp_path / "fake" / "timing.json").write_text("{")
    cache.embed(HashEncoder(), ["one", "two"])
    assert cache.timing("fake")["texts"] == 1


def test_loading_a_model_is_not_time_spent_on_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(embeddings.time, "perf_counter", lambda: clock[0])

    class Slow(HashEncoder):
        def prepare(self, texts: Sequence[str]) -> None:
            clock[0] += 100

        def encode(self, texts, role):  # type: ignore[no-untyped-def]
            clock[0] += 2
            return super().encode(texts, role)

    cache = EmbeddingCache(tmp_path)
    cache.embed(Slow(), ["one"])
    assert cache.timing("fake")["seconds"] == 2


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_a_model_fitted_to_texts_has_its_own_place_in_the_cache(tmp_path: Path, tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    weigh_tokens(model, ["the build is red", "the build is green"], 0.75)
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    texts = ["the disk is full", "the disk is fine"]
    plain, fitted, again = (
        ModelEncoder(tmp_path / "model", "w", device="cpu", fitted_to=to) for to in (None, texts, texts[::-1])
    )
    assert plain.fingerprint == "w" != fitted.fingerprint == again.fingerprint
    cache = EmbeddingCache(tmp_path / "cache")
    assert np.abs(cache.embed(plain, texts) - cache.embed(fitted, texts)).max() > 1e-3
