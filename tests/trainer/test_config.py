from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from trainer.config import check_flags, from_json, override, to_json
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS, choose_preset


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_every_preset_with_a_data_set_is_valid_and_survives_json(model: str, preset: str) -> None:
    config = choose_preset(model, preset, PRESETS[model, preset].config.dataset or "folder:faces")
    config.check()
    assert from_json(to_json(config).encode()) == config


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_an_empty_override_changes_nothing(model: str, preset: str) -> None:
    config = PRESETS[model, preset].config
    assert override(config, {}) == config


@pytest.mark.parametrize("settings", [{"kind": "vae"}, {"kind": None}, {"surprise": 1}, {"schema_version": 1}])
@pytest.mark.parametrize("model", MODELS)
def test_a_config_of_unknown_kind_or_version_is_refused(model: str, settings: dict[str, Any]) -> None:
    raw = msgspec.to_builtins(choose_preset(model, None, None)) | settings
    with pytest.raises(msgspec.ValidationError):
        from_json(msgspec.json.encode(raw))


def test_a_config_of_one_kind_is_not_decoded_as_the_other() -> None:
    raw = msgspec.to_builtins(choose_preset("cyclegan", None, None)) | {"kind": "gan"}
    with pytest.raises(msgspec.ValidationError):
        from_json(msgspec.json.encode(raw))


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
        ("dcgan", {"network.image_size": 50}, "--image-size 50: dcgan-k4 makes images with sides of 3 to 8 times"),
        ("dcgan", {"epochs": 3}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"images": 3}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"steps": None}, "--epochs, --steps and --images: give one of the three"),
        ("dcgan", {"batch_size": 1}, "--batch-size 1: batch statistics need at least 2 images"),
        ("dcgan", {"dataset": ""}, "--dataset: preset 'dcgan-digits' has no data set"),
        ("dcgan", {"objective": "vanilla"}, "choose one of nonsaturating"),
        ("pggan", {"network.spectral_norm": True}, "--spectral-norm: does not go with pggan"),
        ("dcgan", {"network.architecture": "biggan"}, "choose one of mlp-dropout"),
        (
            "pggan",
            {"network.image_size": 48},
            "--image-size 48: pggan makes images with equal sides of a power of two from 8 to 1024 pixels",
        ),
        ("pggan", {"growth.start_resolution": 6}, "growth.start_resolution 6: give a power of two"),
        ("pggan", {"growth.batch_sizes": {5: 2}}, "growth.batch_sizes: 5 is not a resolution"),
        (
            "cyclegan",
            {"network.image_size": 30},
            "--image-size 30: cyclegan-resnet translates images with sides of multiples of 4",
        ),
        ("cyclegan", {"network.architecture": "unet"}, "the only architecture of translators is cyclegan-resnet"),
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


@pytest.mark.parametrize(
    ("model", "exports", "latents"),
    [
        ("gan", {"": "ema_generator"}, True),
        ("cyclegan", {"-a2b": "generator_ab", "-b2a": "generator_ba"}, False),
    ],
)
def test_a_kind_names_what_it_exports_and_measures(model: str, exports: dict[str, str], latents: bool) -> None:
    config = choose_preset(model, None, None)
    assert (config.exports, config.takes_latents, config.network.latent_dim > 0) == (exports, latents, latents)
    assert config.score_metric in config.METRICS
    with pytest.raises(UserError, match="--best-by 'beauty': choose one of"):
        override(config, {"best_by": "beauty"}).check()


@pytest.mark.parametrize(
    ("model", "preset", "field", "is_read"),
    [
        ("wgan", "wgan-digits", "clip_value", True),
        ("wgan-gp", "wgan-gp-digits", "clip_value", False),
        ("pggan", "pggan-small", "gp_weight", True),
        ("pggan", "pggan-small", "critic_norm", False),
        ("dcgan", "dcgan-digits", "critic_norm", True),
        ("dcgan", "dcgan-digits", "objective", True),
        ("wgan", "wgan-digits", "objective", False),
        ("cyclegan", "cyclegan-digits", "pool_images", True),
    ],
)
def test_a_flag_without_effect_is_refused(model: str, preset: str, field: str, is_read: bool) -> None:
    flag = f"--{field.replace('_', '-')}"
    with nullcontext() if is_read else pytest.raises(UserError, match=rf"^{flag}: {model} \({preset}\) has no such"):
        check_flags(PRESETS[model, preset].config, [field])


def test_one_beta_of_adam_is_replaced_and_named_in_errors() -> None:
    config = PRESETS["dcgan", "dcgan-digits"].config
    assert override(config, {"betas.0": 0.25}).betas == (0.25, config.betas[1])
    for index, flag in enumerate(("--beta1", "--beta2")):
        with pytest.raises(UserError, match=f"^{flag}: expected"):
            override(config, {f"betas.{index}": 1.5})


def test_the_objective_of_another_model_is_refused_as_a_flag() -> None:
    config = override(PRESETS["dcgan", "dcgan-digits"].config, {"objective": "wgan"})
    with pytest.raises(UserError, match=r"^--objective wgan: belongs to another model; give --model wgan$"):
        check_flags(config, ["objective"])


@pytest.mark.parametrize("model", ["dcgan", "cyclegan"])
def test_a_config_from_before_there_were_widths_is_of_squares(model: str) -> None:
    raw = msgspec.to_builtins(choose_preset(model, None, None))
    del raw["network"]["image_width"]
    config = from_json(msgspec.json.encode(raw))
    assert config == choose_preset(model, None, None)
    assert config.network.size == (32, 32)


def test_a_width_out_of_range_is_an_error_of_the_flag() -> None:
    with pytest.raises(UserError, match=r"^--image-size: expected `int` <= 1024$"):
        override(choose_preset("dcgan", None, None), {"network.image_width": 2000})
