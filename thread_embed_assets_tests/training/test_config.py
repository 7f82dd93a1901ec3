from __future__ import annotations

import pytest
from pydantic import ValidationError

from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.training.config import MINILM, PROFILES, STAGES, StageConfig, stage_config, validate_config


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
def test_every_stage_of_every_profile_is_valid_and_can_be_overridden(profile: str) -> None:
    assert tuple(PROFILES[profile]) == STAGES
    for stage in STAGES:
        config = stage_config(profile, stage)
        assert config.stage == stage and config.dev_pairs and config.eval_every
        assert stage_config(profile, stage, max_pairs=7, stage="arm").model_dump(include={"max_pairs", "stage"}) == {
            "max_pairs": 7,
            "stage": "arm",
        }


@pytest.mark.parametrize("profile", PROFILES)
def test_the_stages_learn_from_what_they_are_for_and_ever_more_carefully(profile: str) -> None:
    first, second, third = (stage_config(profile, stage) for stage in STAGES)
    assert set(first.strategies) == {Strategy.THREAD, Strategy.TEMPORAL}
    assert set(second.strategies) == {Strategy.RESPONSE, Strategy.SUMMARY} and second.loss == "gist"
    assert set(third.strategies) == set(Strategy) and third.hard_negatives == "mined"
    assert first.learning_rate > second.learning_rate > third.learning_rate


def test_quick_fits_two_cores() -> None:
    stages = [stage_config("quick", stage) for stage in STAGES]
    assert sum(quick.max_pairs or 10**9 for quick in stages) <= 9_000
    for quick in stages:
        assert (quick.max_tokens, quick.epochs, quick.batch_size) == (96, 1, 64)


def test_the_share_of_the_trained_weights_alone_is_always_a_candidate() -> None:
    assert StageConfig().base_weights == (0.0,)
    assert StageConfig(base_weights=(0.5, 0.25, 0.5)).base_weights == (0.25, 0.5)


def test_base_models_go_by_names() -> None:
    assert StageConfig(base_model="minilm").base_model == MINILM
    assert StageConfig(base_model="bge-base").base_model == "BAAI/bge-base-en-v1.5"
    assert StageConfig(guide_model="mpnet").guide_model == "sentence-transformers/all-mpnet-base-v2"
    assert StageConfig(base_model="some/model").base_model == "some/model"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"learning_rat": 1e-5}, "learning_rat"),
        ({"text_format": "emoji"}, "text_format"),
        ({"batch_size": 1}, "batch_size"),
        ({"strategies": {"thread": 0}}, "strategies.thread"),
        ({"strategies": {"gossip": 1}}, "strategies.gossip"),
        ({"strategies": {}}, "strategies"),
        ({"base_weights": [0.5, 1.0]}, "base_weights"),
        ({"base_weights": []}, "base_weights"),
        ({"loss": "triplet"}, "loss"),
        ({"patience": 0}, "patience"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=rf"field '{named}"):
        validate_config(fields)


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="quick, hours, standard, full"):
        stage_config("enormous", "stage1")
    with pytest.raises(InputError, match=r"stage 'stage4'.*stage1, stage2, stage3"):
        stage_config("quick", "stage4")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        StageConfig().epochs = 2
