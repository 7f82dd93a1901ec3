from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.benchmark.contenders import Model, reference_model, standard_contenders, text_format_of
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.errors import InputError


def test_a_model_says_its_format_and_plain_is_the_default(tmp_path: Path) -> None:
    assert text_format_of(tmp_path) == "plain"
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "speakers"}))
    assert text_format_of(tmp_path) == "speakers"
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "verse"}))
    with pytest.raises(InputError, match=r"thread_embed\.json.*'verse'.*plain"):
        text_format_of(tmp_path)


def test_the_standard_contenders(tmp_path: Path) -> None:
    (tmp_path / "thread_embed.json").write_text(json.dumps({"text_format": "times"}))
    base, tuned = Model("base", tmp_path / "nowhere", "b"), Model("tuned", tmp_path, "t")
    rows = {c.name: c for c in standard_contenders(base, [tuned], "it is not here")}
    assert list(rows) == ["bm25", "base", "base+bm25", "tuned", "tuned+bm25", "all-mpnet-base-v2"]
    assert rows["base"].formats == rows["bm25"].formats == tuple(FORMATS)
    assert rows["tuned"].formats == ("times",)
    assert rows["tuned+bm25"].parts == ("bm25", "tuned")
    assert rows["all-mpnet-base-v2"].not_run == "it is not here"


def test_the_reference_runs_only_where_the_mirror_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREAD_EMBED_MODEL_MIRROR", str(tmp_path))
    assert "is not on this machine" in str(reference_model())
    folder = tmp_path / "sentence-transformers" / "all-mpnet-base-v2"
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text("[]")
    found = reference_model()
    assert isinstance(found, Model)
    assert (found.name, found.location) == ("all-mpnet-base-v2", folder)
