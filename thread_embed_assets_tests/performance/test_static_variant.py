from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from thread_embed_assets.release.onnx_embedder import Floats
from thread_embed_assets_tests.benchmark.task_files import write_task_file
from thread_embed_assets_tests.performance import static_variant
from thread_embed_assets_tests.performance.embedding_speed import Encode
from thread_embed_assets_tests.performance.static_variant import VARIANTS, Variant, kept, main, own_weights, verdict

TASKS = {"a thread": np.array([1.0, 0.5, 0.0, 1.0]), "a summary": np.array([0.5, 0.5])}


def test_the_share_that_is_kept_is_of_the_mean_over_tasks() -> None:
    assert kept(TASKS, TASKS) == {"kept": 1, "low": 1, "high": 1}
    half = kept(TASKS, {**TASKS, "a summary": np.array([0.0, 0.25])})
    assert half["kept"] == pytest.approx((0.625 + 0.125) / (0.625 + 0.5), abs=1e-4)
    assert half["low"] < half["kept"] < half["high"] < 1


def _row(variant: str, share: float, *faster: float) -> dict[str, Any]:
    return {"variant": variant, "quality": {"kept": share}, "times_faster": {str(n): f for n, f in enumerate(faster)}}


@pytest.mark.parametrize(
    ("rows", "enough", "fast"),
    [
        ([_row("y", 0.6, 99, 99), _row("x", 0.85, 50, 90)], True, True),
        ([_row("x", 0.8499, 50, 90)], False, True),
        ([_row("x", 0.9, 90, 49.9)], True, False),
    ],
)
def test_both_bars_must_be_met_at_every_length(rows: list[dict[str, Any]], enough: bool, fast: bool) -> None:
    found = verdict(rows)
    assert found == {"best": "x", "keeps_enough": enough, "fast_enough": fast, "earns_its_place": enough and fast}


def test_the_models_own_weights_are_read_where_it_has_them(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "library.Pooling", "path": "1_Pooling"}]))
    assert own_weights(tmp_path) == {}
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "library.WordWeights", "path": "1_WordWeights"}]))
    (tmp_path / "1_WordWeights").mkdir()
    (tmp_path / "1_WordWeights" / "config.json").write_text(json.dumps({"vocab": ["a"], "word_weights": {"a": 2.5}}))
    assert own_weights(tmp_path) == {"a": 2.5}


def _bag_of_words(letters: int | None, repeat: int = 1) -> Encode:
    """Each word a place of its own, or each beginning of so many letters."""

    def encode(texts: Sequence[str]) -> Floats:
        vectors = np.zeros((len(texts), 512), np.float32)
        for _ in range(repeat):
            vectors[:] = 1e-6
            for row, text in zip(vectors, texts, strict=True):
                for word in text.split():
                    row[zlib.crc32(word[:letters].encode()) % 512] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    return encode


def test_the_report_has_quality_speed_and_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planted faults: a variant that cannot tell words apart, and one that is as slow as the model."""
    words = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    tasks = write_task_file(tmp_path / "made.duckdb", "made", seed=1)
    variants = {"defaults": _bag_of_words(0), "own weights": _bag_of_words(None, 20)}

    def distilled(_: Path, variant: Variant) -> Encode:
        return next(variants[name] for name, known in VARIANTS.items() if known == variant)

    monkeypatch.setattr(static_variant, "encoder", lambda *_: _bag_of_words(None, 20))
    monkeypatch.setattr(static_variant, "distilled", distilled)
    monkeypatch.setattr(static_variant, "version", lambda _: "0")
    arguments = ["--package", str(tmp_path), "--tasks", str(tasks), "--tokens", "12", "--texts", "40", "--rounds", "3"]
    main([*arguments, "--variants", *variants])
    report = json.loads(capsys.readouterr().out)
    lossy, slow = report["static"]
    assert report["queries"] == {"made reply": 12, "made summary": 12}
    assert slow["quality"]["kept"] == 1 and slow["mrr@10"] == report["full"]["mrr@10"]
    assert lossy["quality"]["kept"] < 0.85 and lossy["times_faster"]["12"] > 4 > slow["times_faster"]["12"]
    wanted = {"best": "own weights", "keeps_enough": True, "fast_enough": False, "earns_its_place": False}
    assert report["verdict"] == wanted
