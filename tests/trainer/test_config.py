from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trainer.config import CycleConfig, GanConfig, from_json, override, to_json
from trainer.data.datasets import check_dataset_name
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS, choose_preset
from trainer.registry import Registry


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_every_preset_is_valid_once_it_has_a_data_set_and_survives_json(model: str, preset: str) -> None:
    config = choose_preset(model, preset, PRESETS[model, preset].config.dataset or "folder:faces")
    config.check()
    assert from_json(to_json(config).encode()) == config


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_replacing_nothing_changes_no_preset(model: str, preset: str) -> None:
    config = PRESETS[model, preset].config
    assert override(config, {}) == config


@pytest.mark.parametrize("settings", [{"kind": "vae"}, {"kind": None}, {"surprise": 1}, {"schema_version": 1}])
@pytest.mark.parametrize("model", MODELS)
def test_a_config_of_no_known_kind_or_version_is_not_decoded(model: str, settings: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(choose_preset(model, None, None)) | settings
    with pytest.raises(msgspec.ValidationError):
        from_json(msgspec.json.encode(raw))


def test_a_config_of_one_kind_is_not_read_as_the_other() -> None:
    raw = msgspec.to_builtins(choose_preset("cyclegan", None, None)) | {"kind": "gan"}
    with pytest.raises(msgspec.ValidationError):
        from_json(msgspec.json.encode(raw))


@pytest.mark.parametrize("model", MODELS)
def test_with_no_other_flag_every_model_trains_on_digits(model: str) -> None:
    assert choose_preset(model, None, None).dataset == "digits"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion-mnist", "folder:faces", "zip:faces.zip"])
def test_every_model_has_a_valid_recipe_for_every_data_set(model: str, dataset: str) -> None:
    config = choose_preset(model, None, dataset)
    assert config.dataset == dataset
    config.check()


@pytest.mark.parametrize(
    ("model", "dataset", "preset"),
    [
        ("dcgan", "mnist", "dcgan-upsample32"),
        ("dcgan", "fashion-mnist", "dcgan-fmnist32"),
        ("dcgan", "zip:faces.zip", "dcgan64-k4"),
        ("wgan-gp", "fashion-mnist", "mlp-wgan28"),
        ("wgan-div", "folder:faces", "wgan-div"),
        ("gan", "folder:faces", "mlp-anime64"),
        ("pggan", "mnist", "pggan-small"),
        ("pggan", "folder:faces", "pggan-anime128"),
        ("cyclegan", "fashion-mnist", "cyclegan-digits"),
        ("cyclegan", "folder:horse2zebra", "cyclegan-small"),
    ],
)
def test_the_data_set_picks_the_preset_made_for_it(model: str, dataset: str, preset: str) -> None:
    assert choose_preset(model, None, dataset).preset == preset


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


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("dcgan", {"batch_size": 0}, "--batch-size: expected `int` >= 1"),
        ("dcgan", {"images": 0}, "--images: expected `int` >= 1"),
        ("dcgan", {"optimizer": "lion"}, "--optimizer: invalid enum value 'lion'"),
        ("dcgan", {"network.latent_dim": 0}, "--latent-dim: expected `int` >= 1"),
        ("dcgan", {"generator_lr": 0.0, "discriminator_lr": 0.0}, "--lr: expected `float` > 0"),
        ("dcgan", {"generator_lr": 0.0}, "--generator-lr: expected `float` > 0"),
        ("dcgan", {"n_critic": "two"}, "--n-critic: expected `int`, got `str`"),
        ("dcgan", {"seed": -1}, "--seed: expected `int` >= 0"),
        ("pggan", {"growth.fade_images": -1}, "--fade-images: expected `int` >= 0"),
        ("pggan", {"growth.stabilise_images": 0}, "--stabilise-images: expected `int` >= 1"),
        ("cyclegan", {"pool_images": -1}, "--pool-images: expected `int` >= 0"),
        ("cyclegan", {"network.residual_blocks": 13}, "--residual-blocks: expected `int` <= 12"),
        ("cyclegan", {"domains": ("../a", "b")}, "--domains: expected `str` matching regex"),
        ("cyclegan", {"domains": ("a",)}, "--domains: expected `array` of length 2"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_its_flag(
    model: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        override(choose_preset(model, None, None), settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("dcgan", {"network.image_size": 48}, "--image-size 48: dcgan-k4 makes powers of two"),
        ("dcgan", {"epochs": 3}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"images": 3}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"steps": None}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"batch_size": 1}, "--batch-size 1: batch statistics need at least 2 images"),
        ("dcgan", {"dataset": ""}, "--dataset: preset 'dcgan-digits' has no data set"),
        ("dcgan", {"objective": "hinge"}, "choose one of nonsaturating"),
        ("dcgan", {"network.architecture": "biggan"}, "choose one of mlp-dropout"),
        ("pggan", {"network.image_size": 48}, "--image-size 48: pggan makes powers of two from 8 to 1024"),
        ("pggan", {"growth.start_resolution": 6}, "growth.start_resolution 6: give a power of two"),
        ("pggan", {"growth.batch_sizes": {5: 2}}, "growth.batch_sizes: 5 is no resolution"),
        ("cyclegan", {"network.image_size": 30}, "--image-size 30: cyclegan-resnet translates multiples of 4"),
        ("cyclegan", {"network.architecture": "unet"}, "translators have one, cyclegan-resnet"),
        ("cyclegan", {"domains": ("ink", "ink")}, "--domains: both bundles would be named cyclegan-ink2ink"),
        ("cyclegan", {"domains": ("a", "a2a")}, "--domains: both bundles would be named cyclegan-a2a2a"),
        ("cyclegan", {"domains": ("A", "a")}, "--domains: both bundles would be named cyclegan-A2a"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(model: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        override(choose_preset(model, None, None), settings).check()


@pytest.mark.parametrize(
    ("model", "setting", "flag"),
    [
        ("dcgan", "growth.fade_images", "--fade-images: dcgan"),
        ("dcgan", "pool_images", "--pool-images: dcgan"),
        ("dcgan", "network.residual_blocks", "--residual-blocks: dcgan"),
        ("cyclegan", "n_critic", "--n-critic: cyclegan"),
        ("cyclegan", "network.latent_dim", "--latent-dim: cyclegan"),
        ("cyclegan", "growth.fade_images", "--fade-images: cyclegan"),
    ],
)
def test_a_setting_that_a_model_does_not_use_is_refused(model: str, setting: str, flag: str) -> None:
    with pytest.raises(UserError, match=rf"{flag} \(.*\) has no such setting"):
        override(choose_preset(model, None, None), {setting: 1})


def test_cyclegan_trains_on_one_image_at_a_time_as_its_paper_does() -> None:
    override(choose_preset("cyclegan", None, None), {"batch_size": 1}).check()


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UserError, match="dcgan, wgan, wgan-gp, wgan-div, pggan, cyclegan"):
        choose_preset("vae", None, None)
    with pytest.raises(UserError, match="dcgan64-k4"):
        choose_preset("dcgan", "wgan-paper", None)
    with pytest.raises(UserError, match="digits, mnist, fashion-mnist, folder:PATH, zip:PATH"):
        check_dataset_name("celeba")


def test_a_registry_takes_a_name_once() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="twice"):
        registry.add("one", 2)
    with pytest.raises(UserError, match="--thing 'two': choose one of one"):
        registry["two"]
    assert len(registry) == 1
