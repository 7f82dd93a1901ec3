from __future__ import annotations

import json
from pathlib import Path

import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.release import promotion
from thread_embed_assets.release.history import packages, promoted_package, records, roll_back
from thread_embed_assets.release.pack import pack
from thread_embed_assets.release.promotion import Decision, Policy, promote
from thread_embed_assets.release.weights import named_released
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.training.base_models import MIRROR_VARIABLE
from thread_embed_assets.training.checkpoint import Checkpoint, identity_of
from thread_embed_assets_tests.benchmark.test_duel import drawn, write_results
from thread_embed_assets_tests.benchmark.test_floor import write_general_tasks
from thread_embed_assets_tests.release.made import FREE, TRAINED_BY, Made, make, write_source

DEFAULT = Policy()


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A root with pair tables, tasks and a base model."""
    made = make(tmp_path, tiny_model)
    monkeypatch.setenv(MIRROR_VARIABLE, str(made.mirror))
    return made


@pytest.fixture
def champion(made: Made) -> Checkpoint:
    """Promoted as the first, which has nobody to beat."""
    first = made.checkpoint(FREE, seed=1)
    decision = _promote(made, first)
    assert decision.promoted and decision.champion == ""
    return first


def _promote(made: Made, challenger: Checkpoint, policy: Policy = DEFAULT) -> Decision:
    return promote(challenger, made.layout, made.catalog, policy)


def _scored(made: Made, challenger: Checkpoint, champion: Checkpoint, lift: float) -> None:
    models = {
        "ThreadEmbed-open": ("tuned", identity_of(challenger.model)),
        "champion": ("champion", identity_of(champion.model)),
    }
    scores = {"ThreadEmbed-open": drawn(lift), "champion": drawn(0.0)}
    write_results(made.layout.results(FREE), FREE, models, scores)


def _states(decision: Decision) -> dict[str, str]:
    return {rule.name: rule.state for rule in decision.rules}


def _is_promoted(made: Made, checkpoint: Checkpoint) -> bool:
    found = promoted_package(made.layout)
    assert found is not None
    return found.identity == identity_of(checkpoint.model) == identity_of(made.layout.promoted_model)


def test_a_challenger_that_wins_is_promoted_and_the_page_says_why(made: Made, champion: Checkpoint) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    _scored(made, challenger, champion, 0.05)
    decision = _promote(made, challenger)
    assert decision.promoted and _is_promoted(made, challenger)
    assert _states(decision) == {
        "contamination": "passed",
        "general floor": "unknown",
        "same dev queries": "passed",
        "beats the champion": "passed",
        "no task falls": "passed",
    }
    page = decision.markdown()
    assert "| general floor | **UNKNOWN** | NOT RUN: " in page and "general floor UNKNOWN: NOT RUN" in decision.words
    assert (
        f"is promoted over {identity_of(champion.model)}" in page
        and "| beats the champion | **PASSED** | MRR@10 +0.0500 [" in page
    )
    assert records(made.layout)[-1].why == decision.words


@pytest.mark.parametrize("lift", [-0.05, 0.0])
def test_a_challenger_that_loses_or_draws_is_refused_and_the_champion_stays(
    lift: float, made: Made, champion: Checkpoint
) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    _scored(made, challenger, champion, lift)
    decision = _promote(made, challenger)
    assert not decision.promoted and _is_promoted(made, champion)
    assert _states(decision)["beats the champion"] == "failed"
    last = records(made.layout)[-1]
    assert last.event == "refused" and f"{identity_of(champion.model)} stays: beats the champion" in last.why


def test_a_challenger_with_one_task_that_falls_is_refused(made: Made, champion: Checkpoint) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    models = {
        "ThreadEmbed-open": ("tuned", identity_of(challenger.model)),
        "champion": ("champion", identity_of(champion.model)),
    }
    mixed = {**drawn(0.2), "summary": drawn(-0.03)["summary"]}
    write_results(made.layout.results(FREE), FREE, models, {"ThreadEmbed-open": mixed, "champion": drawn(0.0)})
    decision = _promote(made, challenger)
    assert not decision.promoted
    assert [name for name, state in _states(decision).items() if state == "failed"] == ["no task falls"]
    assert _promote(made, challenger, Policy(margin=0.04)).promoted, "the margin is the policy's"


def test_a_challenger_without_results_or_with_older_ones_is_refused(made: Made, champion: Checkpoint) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    decision = _promote(made, challenger)
    assert not decision.promoted and _states(decision)["same dev queries"] == "failed"
    _scored(made, made.checkpoint(FREE, seed=3), champion, 0.05)
    decision = _promote(made, challenger)
    assert not decision.promoted and "not of open/stage1/0000000000000002" in decision.words and _is_promoted(made, champion)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_contaminated_challenger_is_refused(split: str, made: Made, champion: Checkpoint) -> None:
    where = f"split = '{split}' AND task = 'summary'"
    texts = (row["text_plain"] for row in open_table(made.layout.tasks(FREE), "corpus").rows_as_dicts(["text_plain"], where))
    write_source(made.layout, FREE, anchor=next(text for text in texts if "twice" not in text), split="train")
    challenger = made.checkpoint(FREE, seed=2)
    _scored(made, challenger, champion, 0.05)
    decision = _promote(made, challenger)
    assert not decision.promoted and _is_promoted(made, champion)
    assert [name for name, state in _states(decision).items() if state == "failed"] == ["contamination"]


def test_the_first_model_is_refused_if_it_is_contaminated(made: Made) -> None:
    where = "split = 'test' AND task = 'summary'"
    rows = open_table(made.layout.tasks(FREE), "corpus").rows_as_dicts(["text_plain"], where)
    write_source(made.layout, FREE, anchor=next(iter(rows))["text_plain"], split="train")
    with pytest.raises(InputError, match="is not promoted: contamination: "):
        _promote(made, made.checkpoint(FREE, seed=1))
    assert promoted_package(made.layout) is None and records(made.layout)[-1].event == "refused"


def test_a_challenger_below_the_floor_is_refused_and_an_unknown_floor_if_it_is_required(
    made: Made, champion: Checkpoint
) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    _scored(made, challenger, champion, 0.05)
    assert not _promote(made, challenger, Policy(floor="required")).promoted
    write_general_tasks(made.layout.regression, [0.02, 0.012], identity_of(challenger.model))
    decision = _promote(made, challenger)
    assert not decision.promoted and _states(decision)["general floor"] == "failed"
    write_general_tasks(made.layout.regression, [0.0, 0.0], identity_of(challenger.model))
    assert _promote(made, challenger, Policy(floor="required")).promoted and _is_promoted(made, challenger)


def test_a_model_that_somebody_went_back_from_is_not_promoted_again_by_itself(made: Made, champion: Checkpoint) -> None:
    challenger = made.checkpoint(FREE, seed=2)
    _scored(made, challenger, champion, 0.05)
    assert _promote(made, challenger).promoted
    roll_back(made.layout)
    decision = _promote(made, challenger)
    assert not decision.promoted and _is_promoted(made, champion)
    assert [name for name, state in _states(decision).items() if state == "failed"] == ["not taken back"]
    [name] = [package.name for package in packages(made.layout) if not package.promoted]
    roll_back(made.layout, name)
    assert _is_promoted(made, challenger)
    roll_back(made.layout)
    assert not _promote(made, challenger).promoted


def test_the_champion_itself_is_packaged_again_and_asked_nothing(
    made: Made, champion: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "_rules", lambda *_: pytest.fail("nothing is to be asked"))
    decision = _promote(made, champion)
    assert decision.promoted and decision.rules == () and "packaged again" in decision.markdown()
    assert records(made.layout)[-1].event == "packaged again"


def test_a_released_model_is_another_one_than_its_checkpoint(made: Made, champion: Checkpoint) -> None:
    pack(champion, made.layout, made.catalog, "small", tasks=made.tasks, trained_by=TRAINED_BY)
    decision = promote(named_released("small", made.layout), made.layout, made.catalog)
    assert decision.challenger == "released/small/0000000000000001" and not decision.promoted
    assert _states(decision)["contamination"] == "passed" and _states(decision)["same dev queries"] == "failed"


def test_what_a_released_model_may_have_read_refuses_it(made: Made, champion: Checkpoint) -> None:
    pack(champion, made.layout, made.catalog, "small", trained_by=TRAINED_BY)
    made.layout.pairs("thread", FREE).unlink()
    decision = promote(named_released("small", made.layout), made.layout, made.catalog)
    contamination = decision.rules[0]
    assert contamination.state == "failed" and "its manifest does not know these tasks" in contamination.words


def test_a_record_is_one_line_of_json(made: Made, champion: Checkpoint) -> None:
    [line] = (made.layout.model_history / "promotions.jsonl").read_text().splitlines()
    assert json.loads(line)["challenger"] == identity_of(champion.model)
