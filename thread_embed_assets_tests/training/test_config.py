from __future__ import annotations

import pytest
from pydantic import ValidationError

from thread_embed_assets.errors import InputError
from thread_embed_assets.training.config import PROFILES, StageConfig, stage_config, validate_config


def test_default_dimensions_follow_the_size_of_the_model() -> None:
    config = StageConfig()
    assert config.dims(384) == (384, 256, 128, 64)
    assert config.dims(768) == (768, 512, 256, 128, 64)
    assert config.dims(1024) == (1024, 768, 512, 256, 128, 64)
    assert config.dims(32) == (32,)


def test_dimensions_above_the_size_of_the_model_are_rejected() -> None:
    config = StageConfig(matryoshka_dims=(64, 512, 64))
    assert config.matryoshka_dims == (512, 64)
    with pytest.raises(InputError, match=r"matryoshka_dims.*512 is larger than the 384 dimensions"):
        config.dims(384)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_and_can_be_overridden(profile: str) -> None:
    assert stage_config(profile).base_weight == 0.5
    assert stage_config(profile, max_pairs=7, stage="stage2").max_pairs == 7


def test_quick_fits_two_cores() -> None:
    quick = stage_config("quick")
    assert quick.max_pairs is not None and quick.max_pairs <= 9_000
    assert (quick.max_tokens, quick.epochs, quick.batch_size, quick.learning_rate) == (96, 1, 64, 8e-5)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"learning_rat": 1e-5}, "learning_rat"),
        ({"text_format": "emoji"}, "text_format"),
        ({"batch_size": 1}, "batch_size"),
        ({"strategies": {"thread": 0}}, "strategies.thread"),
        ({"strategies": {"gossip": 1}}, "strategies.gossip"),
        ({"strategies": {}}, "strategies"),
        ({"base_weight": 1.0}, "base_weight"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=rf"field '{named}"):
        validate_config(fields)


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="quick, standard, full"):
        stage_config("enormous")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        StageConfig().epochs = 2
