"""What the reranker is and how it is trained, declared and validated, and the profiles that fit it to a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from thread_embed_assets.errors import InputError, wrong_field
from thread_embed_assets.reranker.candidates import Tier

Kind = Literal["fused", "late"]
Adapter = Literal["none", "lora"]
Pooling = Literal["cls", "mean", "pair"]

_THREAD_TOKENS = 8  # the least that a thread gets of a pair, with the tokens that separate


class Phase(BaseModel):
    """Some epochs over the examples of some tiers.

    Attributes:
        tiers: of the messages it trains on; none named are all. Of a table without such messages the phase is left out.
        epochs: passes over them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiers: tuple[Tier, ...] = ()
    epochs: PositiveInt = 1


class RerankerConfig(BaseModel):
    """A reranker and its training.

    Attributes:
        base_model: the transformer that it starts from: a name of ``training.config.BASE_MODELS``, a hub id or a folder.
            Of the kind ``late`` it is a cross-encoder with one logit.
        kind: ``fused`` joins the text's vector and the projected features before a head; ``late`` gives a head the logit of
            a cross-encoder that was trained elsewhere, and the features.
        adapter: ``lora`` trains low-rank matrices beside query and value (arXiv 2106.09685), ``none`` the whole transformer.
            Head and projection are trained in either.
        lora_rank, lora_alpha, lora_dropout: of these matrices: their rank, their factor times the rank, and the share of
            inputs that are dropped while training.
        pooling: the text's vector is that of its first token, the mean over its tokens, or ``pair``: message and thread
            compared (:class:`.vectors.PairVector`).
        layers: how many of the base's layers are kept, from the first; None keeps all.
        joint_layers: the last so many layers read message and thread together, those before each by itself; None lets all
            read them together. With 0, what the base model knows of how alike two texts are is there from the start. The
            kind ``late`` knows neither this nor ``pooling``.
        use_features: without them the model reads the text alone, to tell what they add.
        projection_size: of the features once projected.
        head_size: of the head's inner layer.
        head_dropout: the share of it that is dropped while training.
        batch_size: pairs of a message and a candidate.
        learning_rate: of new weights: head, projection, low-rank matrices.
        pretrained_learning_rate: of the transformer's own weights, where they are trained.
        warmup: share of the steps in which the rates rise; they then fall to 0 along half a cosine.
        weight_decay: of all weights but biases and norms.
        clip: the longest gradient.
        positive_weight: of a positive pair in the loss, beside 1 of a negative one. At 1 the scores are calibrated to the
            share of positives in training, not to that among all candidates.
        max_tokens: of a pair, with the tokens that separate.
        message_tokens: of a message within it, at most; what it leaves is the thread's.
        curriculum: phases one after another.
        max_train_messages: whose pairs are trained on, a seeded uniform sample; None takes all.
        max_dev_messages: that are ranked after each epoch; the best epoch's weights are kept.
        save_every: steps between states that a killed run goes on from.
        log_every: steps between reports of the loss.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = "minilm"
    kind: Kind = "fused"
    adapter: Adapter = "none"
    lora_rank: PositiveInt = 8
    lora_alpha: PositiveInt = 16
    lora_dropout: float = Field(default=0.1, ge=0, lt=1)
    pooling: Pooling = "pair"
    layers: PositiveInt | None = None
    joint_layers: NonNegativeInt | None = 0
    use_features: bool = True
    projection_size: PositiveInt = 32
    head_size: PositiveInt = 128
    head_dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    pretrained_learning_rate: PositiveFloat = 1e-4
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: PositiveFloat = 1.0
    positive_weight: PositiveFloat = 1.0
    max_tokens: int = Field(default=256, ge=16)
    message_tokens: int = Field(default=96, ge=4)
    curriculum: tuple[Phase, ...] = Field(default=(Phase(tiers=("easy", "random"), epochs=2), Phase(epochs=3)), min_length=1)
    max_train_messages: PositiveInt | None = None
    max_dev_messages: PositiveInt | None = 2_000
    save_every: PositiveInt = 200
    log_every: PositiveInt = 20
    seed: int = 0

    @field_validator("message_tokens")
    @classmethod
    def _leaves_room(cls, tokens: int, others: ValidationInfo) -> int:
        most = others.data.get("max_tokens", tokens + _THREAD_TOKENS) - _THREAD_TOKENS
        if tokens > most:
            raise ValueError(f"{tokens} leave too little to the thread: give the message at most {most}")
        return tokens


# quick: 400 messages of four pairs, of 70 tokens each, take a minute an epoch on one core in bf16. Its 93 steps are few, but
# a higher rate makes them worse: hit@1 of 250 dev messages rose to .42 in the fourth epoch, and was .18 after two at 2e-3.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": {
        "max_tokens": 96,
        "message_tokens": 40,
        "max_train_messages": 400,
        "max_dev_messages": 60,
        "save_every": 20,
        "log_every": 5,
    },
    "standard": {
        "max_tokens": 160,
        "message_tokens": 64,
        "curriculum": (Phase(tiers=("easy", "random")), Phase(epochs=2)),
        "max_train_messages": 10_000,
        "max_dev_messages": 400,
    },
    "full": {},
}


def reranker_config(profile: str, /, **overrides: Any) -> RerankerConfig:
    """The configuration of a profile, with some fields set otherwise.

    Raises:
        InputError: unknown profile, or a field that does not exist or has a wrong value; it names the field.
    """
    if profile not in PROFILES:
        raise InputError(f"reranker profile {profile!r}", "there is no such profile", f"Use one of {', '.join(PROFILES)}")
    return validate_config({**PROFILES[profile], **overrides})


def validate_config(fields: Mapping[str, Any]) -> RerankerConfig:
    """Like ``RerankerConfig(**fields)``, but a wrong field is an InputError that names it."""
    try:
        return RerankerConfig.model_validate(fields)
    except ValidationError as error:
        known = ", ".join(RerankerConfig.model_fields)
        raise wrong_field(error, "reranker configuration", f"Known fields: {known}", whole="(config)") from error
