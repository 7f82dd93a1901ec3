"""``thread-embed release`` as people call it, and which model search takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from thread_embed_assets.command_line import main
from thread_embed_assets.errors import InputError
from thread_embed_assets.release.current_model import model_for_search
from thread_embed_assets.release.standing import contender_name
from thread_embed_assets.release.weights import released_models, unpack
from thread_embed_assets.storage.layout import ROOT_VARIABLE
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets_tests.release.made import FREE, make


def test_a_released_model_is_used_when_none_is_promoted(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    made.checkpoint(FREE)
    assert main(["release", "first", "--trained-by", "make it"]) == 0
    assert "first: 0." in capsys.readouterr().out
    released = model_for_search(made.layout, None)
    assert released == unpack(released_models(made.layout)[0], made.layout) == model_for_search(made.layout, "first")
    shutil.copytree(made.layout.released / "first", made.layout.released / "second")
    with pytest.raises(InputError, match="Name one with --model: first, first"):
        model_for_search(made.layout, None)
    shutil.copytree(tiny_model, made.layout.promoted_model)
    assert model_for_search(made.layout, None) == made.layout.promoted_model
    assert main(["release", "third", "--mix", "all"]) == 1
    assert "mix 'all': it has no checkpoint" in capsys.readouterr().err


def test_the_leaderboards_rows_of_a_released_model_are_put_beside_it(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    monkeypatch.setenv(ROOT_VARIABLE, str(made.layout.root))
    made.checkpoint(FREE)
    assert main(["release", "first", "--trained-by", "make it"]) == 0
    released = released_models(made.layout)[0]
    score = {"mean": 0.51, "low": 0.4, "high": 0.6}
    row = {"contender": contender_name(released), "status": "RUN", "scores": {"reply": {"MRR@10": score}}}
    others = {**row, "contender": "bm25"}
    board = {"sources": [{"source": FREE, "rows": [others, row]}]}
    made.layout.benchmark.mkdir(parents=True, exist_ok=True)
    (made.layout.benchmark / "leaderboard.json").write_text(json.dumps(board))
    assert main(["release", "first", "--results"]) == 0
    results = json.loads((released.folder / "results.json").read_text())
    assert results["leaderboard"] == [{"source": FREE, "task": "reply", "metric": "MRR@10", **score}]
    card = (released.folder / "README.md").read_text()
    assert f"| {FREE} | reply | MRR@10 | 0.510 | 0.400 | 0.600 |" in card
    assert unpack(released_models(made.layout)[0], made.layout).exists()
    assert main(["release", "nobody", "--results"]) == 1
