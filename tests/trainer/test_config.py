from __future__ import annotations

import msgspec
import pytest

from trainer.config import TrainConfig, check_config, override, to_json, with_channels
from trainer.data import check_dataset_name
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS, choose_preset, presets_of
from trainer.registry import Registry


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_every_preset_is_valid_once_it_has_a_data_set_and_survives_json(model: str, preset: str) -> None:
    config = choose_preset(model, preset, PRESETS[model, preset].config.dataset or "folder:faces")
    check_config(config)
    assert msgspec.json.decode(to_json(config), type=TrainConfig) == config


@pytest.mark.parametrize("model", MODELS)
def test_with_no_other_flag_every_model_trains_on_digits(model: str) -> None:
    assert choose_preset(model, None, None).dataset == "digits"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion-mnist", "folder:faces", "zip:faces.zip"])
def test_every_model_has_a_valid_recipe_for_every_data_set(model: str, dataset: str) -> None:
    config = choose_preset(model, None, dataset)
    assert config.dataset == dataset
    check_config(config)


@pytest.mark.parametrize(
    ("model", "dataset", "preset"),
    [
        ("dcgan", "mnist", "dcgan-upsample32"),
        ("dcgan", "fashion-mnist", "dcgan-fmnist32"),
        ("dcgan", "zip:faces.zip", "dcgan64-k4"),
        ("wgan-gp", "fashion-mnist", "mlp-wgan28"),
        ("wgan-div", "folder:faces", "wgan-div"),
        ("gan", "folder:faces", "mlp-anime64"),
    ],
)
def test_the_data_set_picks_the_preset_made_for_it(model: str, dataset: str, preset: str) -> None:
    assert choose_preset(model, None, dataset).preset == preset


def test_the_papers_settings_are_in_their_presets() -> None:
    wgan = PRESETS["wgan", "wgan-paper"].config
    assert (wgan.n_critic, wgan.warm_start, wgan.optimizer, wgan.generator_lr) == (5, True, "rmsprop", 5e-5)
    assert wgan.clip_value == 0.01
    penalty = PRESETS["wgan-gp", "wgan-gp-paper"].config
    assert (penalty.network.critic_norm, penalty.generator_lr, penalty.betas) == ("none", 1e-4, (0.0, 0.9))
    assert (penalty.gp_weight, penalty.n_critic) == (10, 5)
    divergence = PRESETS["wgan-div", "wgan-div-paper"].config
    assert (divergence.div_k, divergence.div_p) == (2, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "--batch-size: expected `int` >= 2"),
        ({"optimizer": "lion"}, "--optimizer: invalid enum value 'lion'"),
        ({"network.latent_dim": 0}, "--latent-dim: expected `int` >= 1"),
        ({"generator_lr": -1.0}, "--lr: expected `float` > 0"),
        ({"n_critic": "two"}, "--n-critic: expected `int`, got `str`"),
        ({"seed": -1}, "--seed: expected `int` >= 0"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_that_names_its_flag(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        override(choose_preset("dcgan", None, None), settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network.image_size": 48}, "--image-size 48: dcgan-k4 makes powers of two"),
        ({"epochs": 3}, "--epochs and --steps"),
        ({"dataset": ""}, "--dataset: preset 'dcgan-digits' has no data set"),
        ({"objective": "hinge"}, "choose one of nonsaturating"),
        ({"network.architecture": "biggan"}, "choose one of mlp-dropout"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(override(choose_preset("dcgan", None, None), settings))


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(UserError, match="dcgan, wgan, wgan-gp, wgan-div"):
        presets_of("vae")
    with pytest.raises(UserError, match="dcgan64-k4"):
        choose_preset("dcgan", "wgan-paper", None)
    with pytest.raises(UserError, match="digits, mnist, fashion-mnist, folder:PATH, zip:PATH"):
        check_dataset_name("celeba")


def test_the_data_decide_the_number_of_channels() -> None:
    assert with_channels(choose_preset("dcgan", None, None), 3).network.channels == 3


def test_a_registry_takes_a_name_once() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="twice"):
        registry.add("one", 2)
    with pytest.raises(UserError, match="--thing 'two': choose one of one"):
        registry["two"]
    assert len(registry) == 1
