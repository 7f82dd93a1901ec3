"""The arms of the ablations as ``ablations.yaml`` declares them: one difference each from one reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError, model_validator

from thread_embed_assets.benchmark.tasks import TASK_NAMES
from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.pairs.build import PairOptions
from thread_embed_assets.training.config import StageConfig, validate_config

ARMS = Path(__file__).with_name("ablations.yaml")
REFERENCE = "reference"
TABLE = "table"  # folder beside the arms'
_BUDGET = ("max_pairs", "epochs", "seed")


class Arm(BaseModel):
    """One level of one question: it differs from the reference in one way.

    Attributes:
        level: its name in the table.
        stage: fields of StageConfig that are other than the reference's; not the budget.
        pairs: fields of PairOptions; pair tables of its own are built.
        base_share: the base's share in an average with the reference's weights; nothing is trained.
        window: messages in a window; a document has a vector for each, and the best counts; nothing is trained.
        together: all windows count, and the whole.
        untrained: the base model as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: str = Field(min_length=1)
    stage: dict[str, Any] = Field(default_factory=dict)
    pairs: dict[str, Any] = Field(default_factory=dict)
    base_share: float = Field(default=0.0, ge=0, lt=1)
    window: PositiveInt | None = None
    together: bool = False
    untrained: bool = False

    @property
    def trains(self) -> bool:
        """Whether it needs a model of its own; the others use the reference's in another way, or none that was trained."""
        return bool(self.stage or self.pairs)

    @model_validator(mode="after")
    def _one_difference(self) -> Arm:
        differences = [self.trains, self.base_share > 0, self.window is not None, self.untrained]
        if sum(differences) > 1:
            raise ValueError("an arm differs in one way: by 'stage' and 'pairs', or base_share, or window, or untrained")
        if self.together and self.window is None:
            raise ValueError("'together' says how windows are read: give 'window', too")
        budget = [field for field in _BUDGET if field in self.stage]
        if budget:
            raise ValueError(f"{budget[0]!r} is the budget, which is the same for all arms")
        return self


class Question(BaseModel):
    """A choice that is measured.

    Attributes:
        asks: the question, as the table has it.
        reference: the level that the reference stands for.
        arms: the other levels, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    asks: str = Field(min_length=1)
    reference: str = Field(min_length=1)
    arms: dict[str, Arm] = Field(min_length=1)


class Plan(BaseModel):
    """All questions, the reference, and what is the same for all arms.

    Attributes:
        seeds: each arm is trained with each.
        tasks: the dev tasks that are scored.
        stage: fields of StageConfig of the reference, the budget with them.
        pairs: fields of PairOptions of the reference.
        questions: by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: tuple[int, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    stage: dict[str, Any]
    pairs: dict[str, Any] = Field(default_factory=dict)
    questions: dict[str, Question] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        unknown = [task for task in self.tasks if task not in TASK_NAMES]
        if unknown:
            raise ValueError(f"unknown task {unknown[0]!r}: write some of {', '.join(TASK_NAMES)}")
        names = [name for question in self.questions.values() for name in question.arms]
        wrong = [n for n in names if names.count(n) > 1 or n in (REFERENCE, TABLE) or not n.isidentifier()]
        if wrong:
            raise ValueError(f"{wrong[0]!r} cannot name an arm: names are words like batch_32, each for one arm")
        same = [name for q in self.questions.values() for name, arm in q.arms.items() if arm == Arm(level=arm.level)]
        if same:
            raise ValueError(f"{same[0]!r} differs from the reference in nothing")
        if "max_pairs" not in self.stage:
            raise ValueError("'stage' has no max_pairs: declare the budget")
        return self

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Every arm by name, the reference first."""
        others = {name: arm for question in self.questions.values() for name, arm in question.arms.items()}
        return {REFERENCE: Arm(level=REFERENCE), **others}

    def changed(self, stage: Mapping[str, Any], seeds: Sequence[int] = ()) -> Plan:
        """The plan with other fields of the reference's stage, such as a larger budget, and other seeds.

        Raises:
            InputError: the budget would have no end.
        """
        changes = {"stage": {**self.stage, **stage}, "seeds": tuple(seeds) or self.seeds}
        return _validated("the plan of ablations", {**self.model_dump(), **changes})

    def options(self, name: str) -> PairOptions:
        """How the pairs of an arm are built.

        Raises:
            InputError: a field that PairOptions does not have, or a value that it does not take.
        """
        given = {**self.pairs, **self.arms[name].pairs}
        known = [field.name for field in fields(PairOptions)]
        unknown = [field for field in given if field not in known]
        if unknown:
            problem = "pair tables have no such option"
            raise InputError(f"arm '{name}', field 'pairs.{unknown[0]}'", problem, f"Known fields: {', '.join(known)}")
        try:
            return TypeAdapter(PairOptions).validate_python(given)
        except ValidationError as error:
            raise wrong_field(error, f"arm '{name}'", f"Correct {ARMS.name}", inside="pairs") from error

    def config(self, name: str, seed: int) -> StageConfig:
        """What trains an arm's model; of an arm that does not train, the reference's.

        Raises:
            InputError: a field that StageConfig does not have, or a value that it does not take.
        """
        text_format = self.options(name).text_format
        return validate_config({**self.stage, "text_format": text_format, **self.arms[name].stage, "seed": seed})


def load_plan(path: Path = ARMS) -> Plan:
    """The declared arms.

    Raises:
        InputError: the file is not YAML, or a field is unknown, missing or wrong; the message names it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(path, f"not valid YAML ({error})", "Mend the file at that line") from error
    return _validated(path, content)


def _validated(place: str | Path, content: Any) -> Plan:
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        raise wrong_field(error, place, "Correct that field") from error
