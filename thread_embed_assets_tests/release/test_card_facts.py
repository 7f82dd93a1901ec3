from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.card_facts import facts_of_checkpoint, facts_of_released
from thread_embed_assets.release.hub import push_to_hub
from thread_embed_assets.release.pack import pack
from thread_embed_assets.release.package import publish
from thread_embed_assets.release.promotion import promote
from thread_embed_assets.release.weights import add_results, named_released, released_models
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets_tests.release.made import BASE, FREE, OTHER, TRAINED_BY, WITHHELD, Made, make


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    return made


def _leaderboard(layout: Layout, *contenders: tuple[str, str]) -> None:
    scores = {"thread": {"MRR@10": {"mean": 0.5, "low": 0.4, "high": 0.6}, "Recall@1": {"mean": 0.1, "low": 0, "high": 1}}}
    rows = [{"contender": name, "role": role, "format": "plain", "scores": scores} for name, role in contenders]
    shorter = [
        {"contender": name, "task": "thread", "dim": dim, "mean": 0.5, "low": 0.4, "high": 0.6}
        for name, _ in contenders
        for dim in (16, None)
    ]
    task = {"task": "thread", "tier": "gold", "n": 9, "documents": 9}
    entry = {"source": FREE, "tasks": [task], "rows": rows, "matryoshka": shorter}
    layout.benchmark.mkdir(parents=True, exist_ok=True)
    (layout.benchmark / "leaderboard.json").write_text(json.dumps({"sources": [entry]}))


def test_a_checkpoint_tells_its_stages_sources_and_scores(made: Made) -> None:
    first = made.checkpoint(FREE)
    last = made.checkpoint(FREE, WITHHELD, stage="stage2", parent=first, seed=2)
    facts = facts_of_checkpoint(last, made.layout, made.catalog)
    assert not facts.scores and not facts.shorter and facts.general is None
    _leaderboard(
        made.layout, ("bm25", "baseline"), ("tiny", "base"), ("ThreadEmbed-open", "tuned"), ("other", "reference"),
        ("recency", "baseline"), ("ThreadEmbed-open+bm25", "tuned_hybrid"),
        ("ThreadEmbed-open, unfitted", "control"), ("tiny, fitted", "control"),
    )  # fmt: skip
    for model in ("ThreadEmbed-all", "ThreadEmbed-open"):
        made.layout.regression.mkdir(parents=True, exist_ok=True)
        (made.layout.regression / "general_tasks.json").write_text(json.dumps({"model": model}))
        facts = facts_of_checkpoint(last, made.layout, made.catalog)
        assert (facts.general is not None) == (model == "ThreadEmbed-open"), "of this model, not of another"
    assert facts.base == BASE and [stage["stage"] for stage in facts.stages] == ["stage1", "stage2"]
    assert facts.dims == [32, 16] and facts.withheld == [WITHHELD]
    used = {name: about["rows_used"] for name, about in facts.sources.items()}
    assert used[FREE] == 2 * used[WITHHELD] > 0, "added up over the stages"
    assert facts.sources[FREE]["licence"] == made.catalog[FREE].licence
    assert facts.sources[FREE]["address"] == "https://github.com/jkkummerfeld/irc-disentanglement"
    assert [row["contender"] for row in facts.scores] == [
        "bm25", "tiny", "ThreadEmbed-open", "ThreadEmbed-open+bm25", "ThreadEmbed-open, unfitted"
    ]  # fmt: skip
    assert facts.scores[0] == {
        "source": FREE, "tier": "gold", "task": "thread", "n": 9, "contender": "bm25", "reading": "plain",
        "mean": 0.5, "low": 0.4, "high": 0.6,
    }  # fmt: skip
    assert [row["dim"] for row in facts.shorter] == [None, 16]


def test_what_the_first_stage_saw_stays_with_the_package(made: Made) -> None:
    """The planted fault: a last stage on free texts only, whose details name those alone."""
    first = made.checkpoint(FREE, WITHHELD)
    last = made.checkpoint(FREE, stage="stage2", parent=first, seed=2)
    details = last.model / "thread_embed.json"
    details.write_text(json.dumps({**json.loads(details.read_text()), "sources": [FREE]}))
    package = publish(last.model, made.layout, facts_of_checkpoint(last, made.layout, made.catalog))
    with pytest.raises(InputError, match=f"trained on {WITHHELD}, which may not be passed on"):
        push_to_hub(package, "tester/chat", made.catalog)
    shutil.rmtree(first.folder)
    assert facts_of_checkpoint(last, made.layout, made.catalog).withheld == ["an earlier stage"]


def test_a_released_model_tells_its_own_scores_where_there_is_no_leaderboard(made: Made) -> None:
    checkpoint = made.checkpoint(FREE, OTHER)
    pack(checkpoint, made.layout, made.catalog, "small", tasks=made.tasks, trained_by=TRAINED_BY)
    [released] = released_models(made.layout)
    row = {"source": FREE, "task": "thread", "metric": "MRR@10", "mean": 0.25, "low": 0.2, "high": 0.3}
    add_results(released, [row])
    facts = facts_of_released(released, made.layout, made.catalog)
    assert [r["mean"] for r in facts.scores] == [0.25] and facts.name == "small" and facts.dims == [32, 16]
    assert facts.rebuild[0] == TRAINED_BY and FREE in facts.compared and not facts.withheld
    assert facts.sources[FREE]["address"].startswith("https://github.com/") and facts.sources[FREE]["rows_used"] > 0
    _leaderboard(made.layout, ("tiny", "base"), ("ThreadEmbed-released-small", "tuned"))
    assert [r["mean"] for r in facts_of_released(released, made.layout, made.catalog).scores] == [0.5, 0.5]
    promote(named_released("small", made.layout), made.layout, made.catalog)
    card = (made.layout.promoted_model / "README.md").read_text()
    assert "# small" in card and "| ThreadEmbed-released-small | plain | 0.500 | 0.400 to 0.600 |" in card
