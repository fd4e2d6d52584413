from __future__ import annotations

import pytest

from trainer.config import CycleConfig, GanConfig
from trainer.data.datasets import NAMES, check_dataset_name
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS, choose_preset


@pytest.mark.parametrize("model", MODELS)
def test_with_no_other_flag_every_model_trains_on_digits(model: str) -> None:
    assert choose_preset(model, None, None).dataset == "digits"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", [*NAMES, "folder:faces", "zip:faces.zip"])
def test_every_model_has_a_valid_recipe_for_every_data_set(model: str, dataset: str) -> None:
    config = choose_preset(model, None, dataset)
    assert config.dataset == dataset
    config.check()


@pytest.mark.parametrize(
    ("model", "dataset", "preset"),
    [
        ("gan", "fashion-mnist", "gan-digits"),
        ("dcgan", "mnist", "dcgan-mnist"),
        ("dcgan", "stacked-mnist", "dcgan-digits"),
        ("wgan", "mnist", "wgan-digits"),
        ("dcgan", "zip:faces.zip", "dcgan64-r3"),
        ("wgan-gp", "fashion-mnist", "wgan-gp-digits"),
        ("wgan-div", "folder:faces", "wgan-div"),
        ("gan", "folder:faces", "mlp-anime64"),
        ("pggan", "mnist", "pggan-small"),
        ("pggan", "folder:faces", "pggan-anime128"),
        ("cyclegan", "fashion-mnist", "cyclegan-digits"),
        ("cyclegan", "folder:horse2zebra", "cyclegan-small"),
        ("dcgan", "cifar10", "dcgan64-r3"),
        ("gan", "celeba", "mlp-anime64"),
    ],
)
def test_the_data_set_chooses_the_preset(model: str, dataset: str, preset: str) -> None:
    assert choose_preset(model, None, dataset).preset == preset


@pytest.mark.parametrize("model", MODELS)
def test_stacked_mnist_has_the_recipe_of_digits(model: str) -> None:
    assert choose_preset(model, None, "stacked-mnist").preset == choose_preset(model, None, "digits").preset


def gan_preset(model: str, preset: str) -> GanConfig:
    config = PRESETS[model, preset].config
    assert isinstance(config, GanConfig)
    return config


def test_the_papers_settings_are_in_their_presets() -> None:
    wgan = gan_preset("wgan", "wgan-paper")
    assert (wgan.n_critic, wgan.warm_start, wgan.optimizer, wgan.generator_lr) == (5, True, "rmsprop", 5e-5)
    assert wgan.clip_value == 0.01
    penalty = gan_preset("wgan-gp", "wgan-gp-paper")
    assert (penalty.network.critic_norm, penalty.generator_lr, penalty.betas) == ("none", 1e-4, (0.0, 0.9))
    assert (penalty.gp_weight, penalty.n_critic) == (10, 5)
    divergence = gan_preset("wgan-div", "wgan-div-paper")
    assert (divergence.div_k, divergence.div_p) == (2, 6)
    growing = gan_preset("pggan", "pggan-paper")
    assert (growing.objective, growing.drift, growing.n_critic) == ("wgan-gp", 1e-3, 1)
    assert (growing.generator_lr, growing.betas, growing.ema_decay) == (1e-3, (0.0, 0.99), 0.999)
    assert growing.growth is not None
    assert growing.growth.stabilise_images == growing.growth.fade_images == 600_000
    assert (growing.network.image_size, growing.network.latent_dim) == (1024, 512)


@pytest.mark.parametrize(("preset", "blocks"), [("cyclegan-paper128", 6), ("cyclegan-paper", 9)])
def test_the_settings_of_the_cyclegan_paper_are_in_its_presets(preset: str, blocks: int) -> None:
    config = PRESETS["cyclegan", preset].config
    assert isinstance(config, CycleConfig)
    assert (config.generator_lr, config.discriminator_lr, config.betas) == (2e-4, 2e-4, (0.5, 0.999))
    assert (config.cycle_weight, config.identity_weight, config.pool_images) == (10, 5, 50)
    assert (config.batch_size, config.epochs, config.constant_lr_share) == (1, 200, 0.5)
    assert (config.network.residual_blocks, config.network.upsampling, config.network.patch_field) == (
        blocks,
        "transposed",
        70,
    )


def test_pictures_are_jittered_and_digits_are_not() -> None:
    configs = (preset.config for preset in PRESETS.values())
    jittered = {config.preset: config.jitter for config in configs if isinstance(config, CycleConfig)}
    assert jittered == {name: name != "cyclegan-digits" for name in jittered}


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UserError, match="dcgan, wgan, wgan-gp, wgan-div, pggan, cyclegan"):
        choose_preset("vae", None, None)
    with pytest.raises(UserError, match="dcgan64-k4"):
        choose_preset("dcgan", "wgan-paper", None)
    with pytest.raises(UserError, match=r"digits, mnist, fashion-mnist, .*folder:PATH, zip:PATH"):
        check_dataset_name("imagenet")


@pytest.mark.parametrize(
    ("model", "preset", "made_for", "length"),
    [
        ("dcgan", "dcgan64-k4", "any images", "50 epochs"),
        ("wgan", "mlp-wgan28", "mnist or fashion-mnist", "30 epochs"),
        ("pggan", "pggan-paper", "any images", "12,000,000 images"),
    ],
)
def test_a_preset_describes_its_data_and_length(model: str, preset: str, made_for: str, length: str) -> None:
    entry = PRESETS[model, preset]
    assert (entry.made_for, entry.length) == (made_for, length)
