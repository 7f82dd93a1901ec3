"""What a training stage does, declared and validated, and the profiles that fit the three stages to a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.pairs.schema import Strategy

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BASE_MODELS = {
    "minilm": MINILM,
    "bge-base": "BAAI/bge-base-en-v1.5",
    "gte-base": "thenlper/gte-base",
    "mpnet": "sentence-transformers/all-mpnet-base-v2",
}
_LARGE_DIMS = (768, 512, 256, 128, 64)
_SMALL_DIMS = (384, 256, 128, 64)

STAGE1, STAGE2, STAGE3 = STAGES = ("stage1", "stage2", "stage3")

Loss = Literal["infonce", "gist"]
HardNegatives = Literal["none", "strategy", "same_channel", "bm25", "mined"]
Adapter = Literal["none", "lora"]


class StageConfig(BaseModel):
    """One stage of contrastive training.

    Attributes:
        stage: names the folder below ``models/checkpoints/<mix>``.
        base_model: what training starts from: a name of ``BASE_MODELS``, a hub id, or a folder (such as an earlier stage's
            model). Its folder says how it pools and what it puts before texts.
        text_format: the format (:mod:`thread_embed_assets.chat.formats`) its pairs are written in; kept with the model.
        strategies: the pair strategies and their weights. Weights act when ``max_pairs`` cuts: a (strategy, source) gets a
            share in proportion to weight x rows.
        max_pairs: training pairs an epoch; None takes all. A smaller set is a seeded uniform sample.
        epochs: passes over its pairs.
        batch_size: pairs (of as many conversations) that serve as one another's negatives.
        mini_batch_size: pairs that are in memory at once; changes memory and speed, not the gradient.
        learning_rate: the highest.
        warmup: share of the steps in which the learning rate rises to ``learning_rate``; it then falls linearly to 0.
        max_tokens: longest text while training; the finished model keeps its base's own limit.
        matryoshka_dims: embedding sizes trained together; None derives them from the model's size.
        loss: names a builder of :data:`thread_embed_assets.training.losses.LOSSES`.
        scale: inverse temperature of the softmax over cosine similarities.
        guide_model: whose similarities tell ``gist`` which negatives may be false (GISTEmbed, arXiv 2402.16829): a hub id or
            a folder; None is the model that the stage starts from.
        gist_margin: a negative counts unless the guide puts it above ``(1 - gist_margin)`` times the positive's similarity.
        gradient_cache: embed twice, so that memory holds one mini-batch only (arXiv 2101.06983); without it a step costs a
            quarter less, and memory must hold a batch's activations. None lets the device's memory decide.
        seed: of every draw.
        save_every: steps between states that a killed run goes on from.
        log_every: steps between reports of the loss.
        base_weights: candidate shares of the original base model's weights in the final average (LM-Cocktail, arXiv
            2311.13534); the best on dev wins, and of one alone nobody asks dev. 0 are the trained weights alone.
        hard_negatives: more negatives a pair: the strategy's own, the nearest of the ``hard_negatives`` table, those that
            the stage 2 model mined, or none.
        negatives: how many of them a pair.
        dev_pairs: held-out pairs for the retrieval measure that is taken before, while and after it trains.
        eval_every: steps between measures on dev; with any, the best weights measured are kept; 0 measures start and end.
        patience: measures in a row without gain after which training stops; None trains to the end.
        adapter: ``lora`` trains low-rank matrices beside the linear layers (arXiv 2106.09685), merged when it is done.
        lora_rank: of these matrices.
        token_weight_power: tokens' vectors are averaged with weights ``idf ** power`` (:mod:`.token_weights`) over the pairs
            that are trained on; 0 is a plain mean. None is 0.75 for a model that takes a mean, and 0 for others. A model
            that weighs its tokens already keeps its weights.
        freeze_word_embeddings: leave the word embeddings as they are: half of a MiniLM's weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(default=STAGE1, pattern=r"^[a-z][a-z0-9_]*$")
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
    loss: Loss = "infonce"
    scale: PositiveFloat = 20.0
    guide_model: str | None = None
    gist_margin: float = Field(default=0.05, ge=0, lt=1)
    gradient_cache: bool | None = None
    seed: int = 0
    save_every: PositiveInt = 100
    log_every: PositiveInt = 10
    base_weights: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    hard_negatives: HardNegatives = "none"
    negatives: PositiveInt = 1
    dev_pairs: int = Field(default=500, ge=0)
    eval_every: int = Field(default=0, ge=0)
    patience: PositiveInt | None = None
    adapter: Adapter = "none"
    lora_rank: PositiveInt = 16
    token_weight_power: float | None = Field(default=0.0, ge=0)
    freeze_word_embeddings: bool = False

    @field_validator("base_model", "guide_model")
    @classmethod
    def _by_name(cls, name: str | None) -> str | None:
        return name if name is None else BASE_MODELS.get(name, name)

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

    @field_validator("base_weights")
    @classmethod
    def _shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        wrong = [share for share in shares if not 0 <= share < 1]
        if wrong:
            raise ValueError(f"{wrong[0]} is no share of the base model: give numbers from 0 to below 1")
        return tuple(sorted(set(shares)))

    @property
    def wants_mined_negatives(self) -> bool:
        """Whether a table of hard negatives is read."""
        return self.hard_negatives in ("same_channel", "bm25", "mined")

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


# A half of the base kept, in the pilot, most of the gain on platforms it never saw (responses .643 -> .632, base .583) and
# gave back most of the loss on hand-written summaries (.562 -> .596, base .622).
_BASE_WEIGHTS = (0.0, 0.25, 0.5)

# quick and hours are sized for two cores at 1,000 to 2,000 tokens a second: windows cut at 96 tokens have 66 on average
# (Ubuntu IRC) to 88 (Slack), so 1,000 pairs take one to two minutes, with a guide or a hard negative half as long again.
_QUICK: dict[str, Any] = {
    "max_tokens": 96,
    "mini_batch_size": 16,
    "save_every": 10,
    "log_every": 1,
    "dev_pairs": 200,
    "eval_every": 20,
    "base_weights": _BASE_WEIGHTS,
}
_HOURS: dict[str, Any] = {**_QUICK, "save_every": 20, "dev_pairs": 1_000, "eval_every": 40}
_STANDARD: dict[str, Any] = {
    "batch_size": 512,
    "mini_batch_size": 128,
    "max_tokens": 256,
    "dev_pairs": 2_000,
    "eval_every": 200,
    "patience": 5,
    "base_weights": _BASE_WEIGHTS,
}
_FULL: dict[str, Any] = {
    **_STANDARD,
    "batch_size": 1_024,
    "mini_batch_size": 256,
    "save_every": 250,
    "eval_every": 500,
}

# Stage 1 learns what belongs together, from messages and windows of the same thread and time; stage 2 what answers and what
# sums up, more carefully and past likely false negatives; stage 3 tells it from what the stage 2 model takes it for.
_STAGE_1: dict[str, Any] = {"strategies": {Strategy.THREAD: 1.0, Strategy.TEMPORAL: 1.0}, "token_weight_power": None}
_STAGE_2: dict[str, Any] = {
    "strategies": {Strategy.RESPONSE: 1.0, Strategy.SUMMARY: 1.0},
    "learning_rate": 2e-5,
    "loss": "gist",
}
# What leaves training is half the base: that lifts the ablations' reference from .558 to .572, the mean of twelve dev tasks.
_STAGE_3: dict[str, Any] = {
    "strategies": dict.fromkeys(Strategy, 1.0),
    "learning_rate": 1e-5,
    "hard_negatives": "mined",
    "base_weights": (0.5,),
}

PROFILES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        STAGE1: {**_QUICK, **_STAGE_1, "max_pairs": 4_500},
        STAGE2: {**_QUICK, **_STAGE_2, "max_pairs": 1_500},
        STAGE3: {**_QUICK, **_STAGE_3, "max_pairs": 1_000},
    },
    "hours": {
        STAGE1: {**_HOURS, **_STAGE_1, "max_pairs": 24_000, "learning_rate": 1.2e-4},
        STAGE2: {**_HOURS, **_STAGE_2, "max_pairs": 10_000, "learning_rate": 4e-5},
        STAGE3: {**_HOURS, **_STAGE_3, "max_pairs": 5_000, "learning_rate": 2e-5},
    },
    "standard": {
        STAGE1: {**_STANDARD, **_STAGE_1, "max_pairs": 500_000, "hard_negatives": "strategy"},
        STAGE2: {**_STANDARD, **_STAGE_2, "max_pairs": 200_000},
        STAGE3: {**_STANDARD, **_STAGE_3, "max_pairs": 100_000, "batch_size": 128, "negatives": 4},
    },
    "full": {
        STAGE1: {**_FULL, **_STAGE_1, "hard_negatives": "strategy"},
        STAGE2: {**_FULL, **_STAGE_2},
        STAGE3: {**_FULL, **_STAGE_3, "batch_size": 256, "negatives": 7},
    },
}


def stage_config(profile: str, stage: str, /, **overrides: Any) -> StageConfig:
    """The configuration of a profile's stage, with some fields set otherwise.

    Raises:
        InputError: unknown profile or stage, or a field that does not exist or has a wrong value; it names the field.
    """
    if profile not in PROFILES:
        raise InputError(f"training profile {profile!r}", "there is no such profile", f"Use one of {', '.join(PROFILES)}")
    if stage not in PROFILES[profile]:
        raise InputError(f"training stage {stage!r}", "there is no such stage", f"Use one of {', '.join(STAGES)}")
    return validate_config({"stage": stage, **PROFILES[profile][stage], **overrides})


def validate_config(fields: Mapping[str, Any]) -> StageConfig:
    """Like ``StageConfig(**fields)``, but a wrong field is an InputError that names it."""
    try:
        return StageConfig.model_validate(fields)
    except ValidationError as error:
        known = ", ".join(StageConfig.model_fields)
        raise wrong_field(error, "training configuration", f"Known fields: {known}", whole="(config)") from error
