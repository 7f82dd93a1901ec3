"""What a training stage does, declared and validated, and the profiles that fit it to a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import Strategy

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_LARGE_DIMS = (768, 512, 256, 128, 64)
_SMALL_DIMS = (384, 256, 128, 64)

HardNegatives = Literal["none", "strategy", "same_channel", "bm25"]


class StageConfig(BaseModel):
    """One stage of contrastive training.

    Attributes:
        stage: names the folder below ``models/checkpoints/<mix>``.
        base_model: what training starts from: a hub id, or a folder (such as an earlier stage's model).
        text_format: the format (:mod:`thread_embed_assets.chat.formats`) its pairs are written in; kept with the model.
        strategies: the pair strategies and their weights. Weights act when ``max_pairs`` cuts: a (strategy, source) gets a
            share in proportion to weight x rows.
        max_pairs: training pairs an epoch; None takes all. A smaller set is a seeded uniform sample.
        batch_size: pairs (of as many conversations) that serve as one another's negatives.
        mini_batch_size: pairs that are in memory at once; changes memory and speed, not the gradient.
        warmup: share of the steps in which the learning rate rises to ``learning_rate``; it then falls linearly to 0.
        max_tokens: longest text while training; the finished model keeps its base's own limit.
        matryoshka_dims: embedding sizes trained together; None derives them from the model's size.
        scale: inverse temperature of the softmax over cosine similarities.
        base_weight: share of the base model's weights in the final average (LM-Cocktail, arXiv 2311.13534); 0 is off.
        hard_negatives: one more negative a pair: the strategy's own, the nearest of ``hard_negatives``, or none.
        dev_pairs: held-out pairs for the retrieval measure taken before and after.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(default="stage1", pattern=r"^[a-z][a-z0-9_]*$")
    base_model: str = MINILM
    text_format: str = DEFAULT_FORMAT
    strategies: dict[Strategy, PositiveFloat] = Field(
        default_factory=lambda: {Strategy.THREAD: 1.0, Strategy.TEMPORAL: 1.0}, min_length=1
    )
    max_pairs: PositiveInt | None = None
    epochs: PositiveInt = 1
    batch_size: int = Field(default=64, ge=2)
    mini_batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 8e-5
    warmup: float = Field(default=0.1, ge=0, lt=1)
    max_tokens: int = Field(default=256, ge=8)
    matryoshka_dims: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    scale: PositiveFloat = 20.0
    seed: int = 0
    save_every: PositiveInt = 100
    log_every: PositiveInt = 10
    base_weight: float = Field(default=0.0, ge=0, lt=1)
    hard_negatives: HardNegatives = "none"
    dev_pairs: int = Field(default=500, ge=0)

    @field_validator("text_format")
    @classmethod
    def _declared_format(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"unknown text format {name!r}; declared are {', '.join(FORMATS)}")
        return name

    @field_validator("matryoshka_dims")
    @classmethod
    def _descending(cls, dims: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if dims is None else tuple(sorted(set(dims), reverse=True))

    @property
    def wants_mined_negatives(self) -> bool:
        """Whether the ``hard_negatives`` tables are read."""
        return self.hard_negatives in ("same_channel", "bm25")

    def dims(self, model_size: int) -> tuple[int, ...]:
        """The embedding sizes to train, largest first, for a model with ``model_size`` dimensions.

        Raises:
            InputError: a declared size is larger than the model's.
        """
        if self.matryoshka_dims is None:
            usual = _LARGE_DIMS if model_size >= _LARGE_DIMS[0] else _SMALL_DIMS
            return tuple(sorted({model_size, *(d for d in usual if d < model_size)}, reverse=True))
        too_large = [d for d in self.matryoshka_dims if d > model_size]
        if too_large:
            raise InputError(
                f"stage '{self.stage}', field 'matryoshka_dims'",
                f"{too_large[0]} is larger than the {model_size} dimensions of {self.base_model}",
                f"Use sizes up to {model_size}, or leave the field out",
            )
        return self.matryoshka_dims


# Half of the base's weights: in the pilot the average kept most of the gain on platforms it never saw (responses .643 ->
# .632, base .583) and gave back most of the loss on hand-written summaries (.562 -> .596, base .622).
_BASE_WEIGHT = 0.5

# quick is sized for two cores at about 1,000 tokens a second: windows cut at 96 tokens have 66 on average (Ubuntu IRC) to
# 88 (Slack), so 7,000 pairs take about 18 minutes.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {
        "max_pairs": 7_000,
        "max_tokens": 96,
        "save_every": 10,
        "log_every": 1,
        "dev_pairs": 200,
        "base_weight": _BASE_WEIGHT,
    },
    "standard": {
        "max_pairs": 500_000,
        "batch_size": 512,
        "mini_batch_size": 128,
        "max_tokens": 256,
        "hard_negatives": "strategy",
        "base_weight": _BASE_WEIGHT,
    },
    "full": {
        "batch_size": 1_024,
        "mini_batch_size": 256,
        "max_tokens": 256,
        "hard_negatives": "strategy",
        "save_every": 250,
        "base_weight": _BASE_WEIGHT,
    },
}


def stage_config(profile: str, **overrides: Any) -> StageConfig:
    """The configuration of a profile, with some fields set otherwise.

    Raises:
        InputError: unknown profile, or a field that does not exist or has a wrong value; it names the field.
    """
    if profile not in PROFILES:
        raise InputError(f"training profile {profile!r}", "there is no such profile", f"Use one of {', '.join(PROFILES)}")
    return validate_config({**PROFILES[profile], **overrides})


def validate_config(fields: Mapping[str, Any]) -> StageConfig:
    """Like ``StageConfig(**fields)``, but a wrong field is an InputError that names it."""
    try:
        return StageConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(config)"
        known = ", ".join(StageConfig.model_fields)
        raise InputError(f"training configuration, field '{field}'", first["msg"], f"Known fields: {known}") from error
