from __future__ import annotations

import pytest
from pydantic import ValidationError

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.config import PROFILES, Phase, RerankerConfig, reranker_config, validate_config


def test_the_default_is_what_is_declared() -> None:
    config = RerankerConfig()
    assert (config.lora_rank, config.lora_alpha, config.lora_dropout) == (8, 16, 0.1)
    assert (config.batch_size, config.weight_decay, config.clip) == (64, 0.01, 1.0)
    assert (config.adapter, config.learning_rate, config.pretrained_learning_rate) == ("none", 1e-3, 1e-4)
    assert (config.max_tokens, config.kind, config.pooling, config.joint_layers) == (256, "fused", "pair", 0)
    first, second = config.curriculum
    assert ("easy" in first.tiers, first.epochs, second.tiers, second.epochs) == (True, 2, (), 3)
    assert not {"medium", "hard"} & set(first.tiers)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_and_can_be_overridden(profile: str) -> None:
    assert reranker_config(profile, adapter="none", layers=3).model_dump(include={"adapter", "layers"}) == {
        "adapter": "none",
        "layers": 3,
    }


def test_each_profile_is_smaller_than_the_next() -> None:
    quick, standard, full = (reranker_config(name) for name in ("quick", "standard", "full"))
    assert quick.max_train_messages and standard.max_train_messages and full.max_train_messages is None
    assert quick.max_train_messages < standard.max_train_messages
    assert quick.max_tokens < standard.max_tokens < full.max_tokens


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"learning_rat": 1e-5}, "learning_rat"),
        ({"adapter": "prefix"}, "adapter"),
        ({"kind": "early"}, "kind"),
        ({"warmup": 1.0}, "warmup"),
        ({"curriculum": []}, "curriculum"),
        ({"curriculum": [{"tiers": ["simple"]}]}, "curriculum.0.tiers.0"),
        ({"curriculum": [{"epochs": 0}]}, "curriculum.0.epochs"),
        ({"joint_layers": -1}, "joint_layers"),
        ({"max_tokens": 64, "message_tokens": 60}, "message_tokens"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=rf"field '{named}'"):
        validate_config(fields)


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="quick, standard, full"):
        reranker_config("enormous")


def test_a_configuration_survives_json_and_cannot_be_changed() -> None:
    config = RerankerConfig(curriculum=(Phase(tiers=("hard",)),))
    assert validate_config(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError):
        config.seed = 2
