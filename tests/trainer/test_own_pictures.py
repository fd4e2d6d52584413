from __future__ import annotations

import pytest

from trainer.config import CycleConfig, GanConfig
from trainer.data.inspection import Inspection
from trainer.errors import UserError
from trainer.flags import MODELS
from trainer.models.growth import total_images
from trainer.own_pictures import FEW_PICTURES, PRESET, recipe_for
from trainer.presets import PRESETS


def pictures(count: int, side: int = 128) -> Inspection:
    """Two folders of translators' domains with `count` pictures each, of which a GAN sees all."""
    return Inspection("faces", 2 * count, {}, {"trainA": count, "trainB": count}, [(side, side)])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [3, 150, 100_000])
def test_the_recipe_of_every_model_is_valid_and_counts_steps(model: str, device: str, count: int) -> None:
    config = recipe_for(model, pictures(count), device, "folder:faces")
    config.check()
    assert (config.model, config.preset, config.dataset) == (model, PRESET, "folder:faces")
    assert config.steps is not None
    assert config.epochs is config.images is None
    assert config.network.image_size == (32 if device == "cpu" else 64)
    assert config.batch_size <= (count if isinstance(config, CycleConfig) else 2 * count)


@pytest.mark.parametrize("model", MODELS)
def test_no_preset_has_the_name_of_these_recipes(model: str) -> None:
    assert (model, PRESET) not in PRESETS


@pytest.mark.parametrize("model", MODELS)
def test_many_pictures_and_a_gpu_train_for_more_steps_on_larger_networks(model: str) -> None:
    few, many = (recipe_for(model, pictures(count), "cpu", "zip:x") for count in (100, 5000))
    on_gpu = recipe_for(model, pictures(100), "cuda", "zip:x")
    assert few.steps is not None
    assert (many.steps, on_gpu.steps) == (2 * few.steps, 2 * few.steps)
    assert on_gpu.network.width == 2 * few.network.width
    assert on_gpu.batch_size == 2 * few.batch_size


@pytest.mark.parametrize("model", [model for model in MODELS if model != "cyclegan"])
def test_only_few_pictures_are_mirrored_and_none_are_augmented(model: str) -> None:
    few, many = (recipe_for(model, pictures(count // 2), "cpu", "zip:x") for count in (FEW_PICTURES, FEW_PICTURES + 2))
    assert not isinstance(few, CycleConfig)
    assert not isinstance(many, CycleConfig)
    assert (few.mirror, few.augment, few.score_metric) == (True, (), "sliced_wasserstein_distance")
    assert (many.mirror, many.augment) == (False, ())


def test_small_pictures_are_not_enlarged_on_a_gpu() -> None:
    assert recipe_for("dcgan", pictures(100, side=40), "cuda", "zip:x").network.image_size == 32


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_growing_network_reaches_its_final_size_before_the_run_ends(device: str) -> None:
    config = recipe_for("pggan", pictures(100), device, "zip:x")
    assert config.growth is not None
    assert config.steps is not None
    grown = total_images(config.growth, config.network.image_size)
    assert 0.8 < grown / (config.steps * config.batch_size) < 0.95


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(UserError, match=r"^--model 'vae': choose one of gan, dcgan"):
        recipe_for("vae", pictures(9), "cpu", "zip:x")


def test_the_dcgan_has_the_measured_loss() -> None:
    config = recipe_for("dcgan", pictures(100), "cpu", "zip:x")
    assert isinstance(config, GanConfig)
    assert (config.objective, config.r1, config.r2) == ("relativistic", 1.0, 1.0)
