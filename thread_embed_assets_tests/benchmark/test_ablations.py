from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.benchmark import ablations
from thread_embed_assets.benchmark.ablation_plan import REFERENCE, Plan, load_plan
from thread_embed_assets.benchmark.ablation_scores import DevSource
from thread_embed_assets.benchmark.ablations import MIX, Material, read_about, run_arm
from thread_embed_assets.benchmark.contenders import Model
from thread_embed_assets.benchmark.tasks import build_tasks, load_tasks
from thread_embed_assets.chat.duplicates import DUPLICATES, HELD_OUT_SHINGLES
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.build import PairOptions, build_pairs
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table, write_tables
from thread_embed_assets.training.checkpoint import Checkpoint
from thread_embed_assets.training.data import PairInput
from thread_embed_assets.training.job import Job
from thread_embed_assets_tests.benchmark.stored import HashEncoder, talk, talks, write_conversations
from thread_embed_assets_tests.pairs.made import pair, write_pairs

SOURCE = "sample_workspace"
QUESTIONS = {
    "training": {"asks": "?", "reference": "trained", "arms": {"base": {"level": "base", "untrained": True}}},
    "window": {"asks": "?", "reference": "drawn", "arms": {"window_3": {"level": "3", "pairs": {"window_sizes": [3]}}}},
    "format": {"asks": "?", "reference": "plain", "arms": {"times": {"level": "times", "pairs": {"text_format": "times"}}}},
    "batch": {"asks": "?", "reference": "8", "arms": {"batch_16": {"level": "16", "stage": {"batch_size": 16}}}},
    "pairs": {"asks": "?", "reference": "A", "arms": {"d": {"level": "D", "stage": {"strategies": {"summary": 1.0}}}}},
    "negatives": {
        "asks": "?",
        "reference": "none",
        "arms": {
            "bm25": {"level": "BM25", "stage": {"hard_negatives": "bm25"}},
            "mined": {"level": "mined", "stage": {"hard_negatives": "mined"}},
        },
    },
    "long": {"asks": "?", "reference": "whole", "arms": {"best_of_3": {"level": "3", "window": 3}}},
}


def planned(base: Path, questions: Mapping[str, Any] = QUESTIONS, **stage: Any) -> Plan:
    settings = {"base_model": str(base), "strategies": {"thread": 1.0}, "max_pairs": 40, "batch_size": 8, **stage}
    return Plan.model_validate({"seeds": [0, 1], "tasks": ["thread", "response"], "stage": settings, "questions": questions})


@dataclass
class Trainer:
    """Writes checkpoints without training, and remembers the jobs."""

    jobs: list[Job] = field(default_factory=list)
    pairs: list[list[dict[str, Any]]] = field(default_factory=list)

    def __call__(self, job: Job) -> Checkpoint:
        self.jobs.append(job)
        self.pairs.append([row for i in job.inputs for row in open_table(i.pairs.path, "pairs").rows_as_dicts()])
        folder = Layout(job.root).checkpoints(job.mix, job.config.stage) / f"run{job.config.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        used = [{"strategy": i.strategy, "source": i.source, "rows_used": 40} for i in job.inputs]
        config, device = job.config.model_dump(mode="json"), {"name": "made up"}
        manifest = {"inputs": used, "config": config, "steps": 5, "tokens": 900, "seconds": 2.5, "device": device}
        return Checkpoint(folder, f"{folder.name}", manifest)


@dataclass
class Encoders:
    """One encoder per model; a model that was not trained tells fewer words apart."""

    made: list[HashEncoder] = field(default_factory=list)

    def __call__(self, model: Model) -> HashEncoder:
        self.made.append(HashEncoder(model.fingerprint, 48 if model.fingerprint.startswith("run") else 6))
        return self.made[-1]

    @property
    def seen(self) -> str:
        return "\n".join(text for encoder in self.made for text in encoder.seen)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    (folder / "modules.json").write_text("[]")
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Material:
    layout = Layout(tmp_path_factory.mktemp("stored"))
    draw = random.Random(8)
    train = [talk(500 + n, draw, 12, split="train", channel="quiet") for n in range(25)]
    tables = Normalised(*write_conversations(layout.conversations(SOURCE), [*train, *talks(40, dev=15)], SOURCE))
    build_tasks(SOURCE, tables.conversations, tables.messages, {}, layout.tasks(SOURCE))
    with write_tables(layout.duplicates(SOURCE), {"duplicates": DUPLICATES, "held_out_shingles": HELD_OUT_SHINGLES}):
        pass
    arguments = (SOURCE, tables.conversations, tables.messages, PairOptions(), layout.pairs("thread", SOURCE))
    pairs = build_pairs(Strategy.THREAD, *arguments)
    assert pairs.rows > 50
    dev = [DevSource(SOURCE, layout.tasks(SOURCE), tables)]
    return Material(layout, load_catalog(), [PairInput("thread", SOURCE, pairs)], dev)


@pytest.fixture
def material(stored: Material, tmp_path: Path) -> Material:
    """A copy, to run arms in."""
    shutil.copytree(stored.layout.root, tmp_path / "root")
    layout = Layout(tmp_path / "root")
    pairs = PairInput("thread", SOURCE, open_table(layout.pairs("thread", SOURCE), "pairs"))
    return replace(stored, layout=layout, inputs=[pairs])


def scores(path: Path) -> list[dict[str, Any]]:
    return list(open_table(path, "scores").rows_as_dicts())


def test_an_arm_is_scored_with_each_seed_on_every_dev_query(material: Material, base: Path) -> None:
    trainer, encoders = Trainer(), Encoders()
    path = run_arm(planned(base), REFERENCE, material, "cpu", trainer, encoders)
    assert path == material.layout.ablation(REFERENCE) / "scores.duckdb"
    assert [job.config.seed for job in trainer.jobs] == [0, 1]
    assert {job.root for job in trainer.jobs} == {path.parent}, "no checkpoint of an arm lies among those of the project"
    assert {job.mix for job in trainer.jobs} == {MIX} and {job.device for job in trainer.jobs} == {"cpu"}
    dev = {(t.name, query) for t in load_tasks(material.dev[0].tasks) for query in t.query_ids if t.split == "dev"}
    found = scores(path)
    for seed in (0, 1):
        of_seed = [(row["task"], row["query_id"]) for row in found if row["seed"] == seed]
        assert len(of_seed) == len(set(of_seed)) and set(of_seed) == {(t, q) for t, q in dev if t in ("thread", "response")}
    assert {row["source"] for row in found} == {SOURCE} and 0 < sum(row["MRR@10"] for row in found) / len(found) <= 1
    [first, second] = open_table(path, "runs").rows_as_dicts(order_by="seed")
    assert first["checkpoint"] == "run0" and first["pairs"] == 40 and first["tokens"] == 900 and first["steps"] == 5
    assert first["train_seconds"] == 2.5 and first["device"] == "made up" and first["inputs"] == f'{{"thread {SOURCE}": 40}}'
    assert first["texts_embedded"] == len(encoders.made[0].seen) > 0 and second["score_seconds"] > 0
    setting = read_about(path)["setting"]
    assert setting["stage"]["max_pairs"] == 40 and setting["seeds"] == [0, 1] and list(setting["dev"]) == [SOURCE]


def test_what_is_there_is_not_made_again_unless_something_changed(material: Material, base: Path) -> None:
    path = run_arm(planned(base), REFERENCE, material, "cpu", Trainer(), Encoders())
    refuse = Trainer()
    written = path.stat().st_mtime_ns
    assert run_arm(planned(base), REFERENCE, material, "cpu", refuse, Encoders()) == path
    assert not refuse.jobs and path.stat().st_mtime_ns == written
    larger = Trainer()
    run_arm(planned(base).changed({"max_pairs": 41}, [3]), REFERENCE, material, "cpu", larger, Encoders())
    assert [(job.config.max_pairs, job.config.seed) for job in larger.jobs] == [(41, 3)]


def test_arms_that_train_nothing_use_the_references_models(material: Material, base: Path) -> None:
    trainer, encoders = Trainer(), Encoders()
    reference = run_arm(planned(base), REFERENCE, material, "cpu", Trainer(), Encoders())
    path = run_arm(planned(base), "best_of_3", material, "cpu", trainer, encoders)
    assert {job.root for job in trainer.jobs} == {material.layout.ablation(REFERENCE)}, "where the same run is there already"
    tasks = [task for task in load_tasks(material.dev[0].tasks, ["dev"]) if task.name in ("thread", "response")]
    whole = {text for task in tasks for text in task.document_texts("plain")}
    assert encoders.seen and not [text for text in encoders.made[0].seen if text in whole], "only windows were embedded"
    assert {row["query_id"] for row in scores(path)} == {row["query_id"] for row in scores(reference)}
    assert sorted(p.name for p in path.parent.iterdir()) == ["scores.duckdb"]
    untrained = Trainer()
    base_scores = scores(run_arm(planned(base), "base", material, "cpu", untrained, Encoders()))
    assert not untrained.jobs and {row["seed"] for row in base_scores} == {0}
    assert sum(r["MRR@10"] for r in base_scores) / len(base_scores) < sum(r["MRR@10"] for r in scores(reference)) / len(
        scores(reference)
    )


def test_an_arm_with_other_windows_builds_its_own_pairs_and_throws_them_away(material: Material, base: Path) -> None:
    trainer = Trainer()
    path = run_arm(planned(base), "window_3", material, "cpu", trainer, Encoders())
    [job, _] = trainer.jobs
    [given] = job.inputs
    assert given.pairs.path == path.parent / "data" / "pairs" / "thread" / f"{SOURCE}.duckdb"
    assert {len(row["positive_ids"]) for row in trainer.pairs[0]} == {3}
    assert 0 < len(trainer.pairs[0]) <= material.inputs[0].pairs.rows
    assert [p.name for p in path.parent.iterdir()] == ["scores.duckdb"], "its models and pairs are gone"
    assert {len(row["positive_ids"]) for row in material.inputs[0].pairs.rows_as_dicts()} != {3}, (
        "the project's are as before"
    )


def test_an_arm_with_another_format_is_trained_and_scored_in_it(material: Material, base: Path) -> None:
    trainer, encoders = Trainer(), Encoders()
    run_arm(planned(base), "times", material, "cpu", trainer, encoders)
    assert {job.config.text_format for job in trainer.jobs} == {"times"}
    assert {row["text_format"] for row in trainer.pairs[0]} == {"times"}
    [task, *_] = load_tasks(material.dev[0].tasks, ["dev"])
    assert set(task.document_texts("times")) <= set(encoders.made[0].seen)


def test_pairs_with_held_out_text_are_refused(material: Material, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [task, *_] = load_tasks(material.dev[0].tasks, ["dev"])

    def leaky(strategy: Strategy, source: str, *arguments: Any, **more: Any) -> Any:
        leak = pair(1, source=source, conversation_id="c0500", positive=task.document_texts("plain")[0])
        return write_pairs(arguments[3], [leak])

    monkeypatch.setattr(ablations, "build_pairs", leaky)
    trainer = Trainer()
    with pytest.raises(InputError, match="pairs with held-out text: 1 of 1"):
        run_arm(planned(base), "window_3", material, "cpu", trainer, Encoders())
    assert not trainer.jobs


def test_an_arm_without_its_pairs_says_what_is_missing(material: Material, base: Path) -> None:
    with pytest.raises(InputError, match=r"arm 'd': there are no summary pairs. Materialise summary_pairs"):
        run_arm(planned(base), "d", material, "cpu", Trainer(), Encoders())
    with pytest.raises(
        InputError, match=f"thread-{SOURCE} has no table of hard negatives.*Materialise hard_negatives of {SOURCE}"
    ):
        run_arm(planned(base), "bm25", material, "cpu", Trainer(), Encoders())
    with pytest.raises(InputError, match=r"and the arm wants 'mined' ones. Materialise mined_negatives of the mix"):
        run_arm(planned(base), "mined", material, "cpu", Trainer(), Encoders())
    with pytest.raises(InputError, match=r"arm 'e': there is no such arm. Declared are reference, base, window_3"):
        run_arm(planned(base), "e", material, "cpu", Trainer(), Encoders())
    with pytest.raises(InputError, match="there is not one dev query to score"):
        run_arm(planned(base), REFERENCE, replace(material, dev=[]), "cpu", Trainer(), Encoders())
    assert not (material.layout.ablation(REFERENCE) / "scores.duckdb").exists()


def test_a_killed_arm_leaves_no_scores_and_goes_on(material: Material, base: Path) -> None:
    trainer = Trainer()

    def killed(job: Job) -> Checkpoint:
        if job.config.seed == 1:
            raise KeyboardInterrupt
        return trainer(job)

    with pytest.raises(KeyboardInterrupt):
        run_arm(planned(base), "batch_16", material, "cpu", killed, Encoders())
    assert not (material.layout.ablation("batch_16") / "scores.duckdb").exists()
    encoders = Encoders()
    path = run_arm(planned(base), "batch_16", material, "cpu", trainer, encoders)
    assert {row["seed"] for row in scores(path)} == {0, 1}
    assert not encoders.made[0].seen, "what the first seed embedded before is still there"


def test_the_declared_arms_are_valid_and_differ_from_the_reference() -> None:
    plan = load_plan()
    reference = plan.config(REFERENCE, 0)
    for name, arm in plan.arms.items():
        config = plan.config(name, 0)
        assert config.text_format in FORMATS
        assert (config.max_pairs, config.epochs) == (reference.max_pairs, reference.epochs)
        if arm.trains:
            assert (config, plan.options(name)) != (reference, plan.options(REFERENCE)), name
    told = set(plan.questions)
    assert told >= {
        *("window_size", "text_format", "loss", "batch_size", "strategies", "hard_negatives", "base_share", "adapter"),
        *("long_documents", "max_tokens"),
    }


def _with(arm: Mapping[str, Any]) -> dict[str, Any]:
    return {"q": {"asks": "?", "reference": "r", "arms": {"x": {"level": "1", **arm}}}}


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        (_with({}), "'x' differs from the reference in nothing"),
        (_with({"stage": {"max_pairs": 9}}), "'max_pairs' is the budget"),
        (_with({"stage": {"seed": 9}}), "'seed' is the budget"),
        (_with({"untrained": True, "window": 3}), "an arm differs in one way"),
        (_with({"together": True}), "give 'window', too"),
        (_with({"widow": 3}), "Extra inputs are not permitted"),
        ({**_with({"window": 3}), "p": _with({"window": 4})["q"]}, "'x' cannot name an arm"),
        ({"q": {**_with({})["q"], "arms": {"reference": {"level": "1", "window": 3}}}}, "'reference' cannot name an arm"),
    ],
)
def test_a_wrong_declaration_is_named(questions: dict[str, Any], problem: str, base: Path, tmp_path: Path) -> None:
    import yaml

    content = {"seeds": [0], "tasks": ["thread"], "stage": {"max_pairs": 5}, "questions": questions}
    path = tmp_path / "ablations.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError) as error:
        load_plan(path)
    assert problem in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"stage": {"bach_size": 9}}, "training configuration, field 'bach_size'"),
        ({"pairs": {"windows": 9}}, "arm 'x', field 'pairs.windows'"),
        ({"pairs": {"window_sizes": [9]}}, "not ascending sizes of 3 to 8"),
    ],
)
def test_a_field_that_training_or_pairs_do_not_have_is_named(arm: dict[str, Any], message: str, base: Path) -> None:
    with pytest.raises(InputError, match=message):
        planned(base, _with(arm)).config("x", 0)


def test_shares_of_the_base_are_weighed(tmp_path: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from thread_embed_assets_tests.training.tiny import build_tiny_model

    tuned = build_tiny_model(tmp_path / "tuned")
    other = SentenceTransformer(str(tuned), device="cpu")
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(1.0)
    other.save_pretrained(str(tmp_path / "other"), create_model_card=False)
    ablations._average(tuned, tmp_path / "other", 0.25, tmp_path / "mixed")
    before, mixed = (SentenceTransformer(str(path), device="cpu").state_dict() for path in (tuned, tmp_path / "mixed"))
    floats = [name for name, value in before.items() if value.is_floating_point()]
    assert floats and all(torch.allclose(mixed[name], before[name] + 0.25, atol=1e-5) for name in floats)
