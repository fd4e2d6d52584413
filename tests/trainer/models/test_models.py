from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainer.conftest import CYCLE_PRESETS, GAN_PRESETS, small_cycle, small_gan
from trainer.config import GanConfig
from trainer.errors import UserError
from trainer.models import (
    ARCHITECTURES,
    NetworkConfig,
    build_discriminator,
    build_generator,
    build_patch_discriminator,
    build_translator,
)
from trainer.models.progressive import ProgressiveNetwork
from trainer.presets import PRESETS

# Exact parameter counts of the published networks, by hand from their layer lists: (generator, discriminator).
PARAMETERS = [
    ("mlp-dropout", 28, 1, 114_800, 110_849),
    ("mlp-shallow", 28, 1, 114_064, 100_609),
    ("mlp-batchnorm", 64, 3, 13_301_632, 6_423_553),
    ("mlp-batchnorm", 28, 1, 1_510_032, 533_505),
    ("dcgan-upsample", 32, 1, 1_049_985, 98_113),
    ("dcgan-upsample", 32, 3, 1_051_139, 98_401),
    ("dcgan-32", 32, 1, 3_444_353, 661_697),
    ("dcgan-k5", 64, 3, 5_142_083, 4_316_545),
    ("dcgan-k4", 64, 3, 3_576_704, 2_765_568),
    ("dcgan-k4", 64, 1, 3_574_656, 2_763_520),
]

# What each preset must build, for any default data set.
PRESET_PARAMETERS = {
    ("gan", "mlp-mnist"): (114_800, 110_849),
    ("gan", "mlp-fmnist"): (114_064, 100_609),
    ("gan", "mlp-anime64"): (13_301_632, 6_423_553),
    ("dcgan", "dcgan-upsample32"): (1_049_985, 98_113),
    ("dcgan", "dcgan-fmnist32"): (3_444_353, 661_697),
    ("dcgan", "dcgan64-k5"): (5_142_083, 4_316_545),
    ("dcgan", "dcgan64-k4"): (3_576_704, 2_765_568),
    ("wgan", "wgan64-k5"): (5_142_083, 4_316_545),
    ("wgan", "wgan64-k4"): (3_576_704, 2_765_568),
    ("wgan", "wgan-paper"): (3_576_704, 2_765_568),
    ("wgan-gp", "wgan-gp"): (3_576_704, 2_765_568 + 64),  # layer norm for batch norm, and a bias in the first layer
    ("wgan-div", "wgan-div"): (3_576_704, 2_765_568 + 64),
    ("wgan", "mlp-wgan28"): (1_510_032, 533_505),
    ("wgan-gp", "mlp-wgan28"): (1_510_032, 533_505),
    ("wgan-div", "mlp-wgan28"): (1_510_032, 533_505),
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def network_of(model: str, preset: str) -> NetworkConfig:
    config = PRESETS[model, preset].config
    assert isinstance(config, GanConfig)
    return config.network


def without_gradient(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.grad is None}


def unused(network: nn.Module) -> set[str]:
    """The unused parameters: in a fully grown network, the layers to and from smaller images."""
    if not isinstance(network, ProgressiveNetwork):
        return set()
    ways = tuple(f"{way}.{stage}." for way in ("to_rgb", "from_rgb") for stage in range(network.stage))
    return {name for name, _ in network.named_parameters() if name.startswith(ways)}


@pytest.mark.parametrize(("architecture", "size", "channels", "generator", "discriminator"), PARAMETERS)
def test_parameter_counts_match_the_published_networks(
    architecture: str, size: int, channels: int, generator: int, discriminator: int
) -> None:
    config = NetworkConfig(architecture=architecture, image_size=size, channels=channels)
    assert count(build_generator(config)) == generator
    assert count(build_discriminator(config)) == discriminator


@pytest.mark.parametrize(("model", "preset"), PRESET_PARAMETERS)
def test_presets_build_the_published_networks(model: str, preset: str) -> None:
    network = network_of(model, preset)
    counts = (count(build_generator(network)), count(build_discriminator(network)))
    assert counts == PRESET_PARAMETERS[model, preset]


@pytest.mark.parametrize(("model", "preset"), GAN_PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_gan_preset_maps_latents_to_images_to_logits_with_a_gradient_everywhere(
    model: str, preset: str, channels: int
) -> None:
    network = small_gan(model, preset, **{"network.channels": channels}).network
    generator, discriminator = build_generator(network), build_discriminator(network)
    images = generator(torch.randn(3, network.latent_dim))
    assert images.shape == (3, channels, network.image_size, network.image_size)
    assert not any(isinstance(layer, nn.Tanh) for layer in generator.modules()) or images.abs().max() <= 1
    logits = discriminator(images)
    assert logits.shape == (3,)
    logits.sum().backward()
    for part in (generator, discriminator):
        assert without_gradient(part) == unused(part)


@pytest.mark.parametrize("preset", [preset for _, preset in CYCLE_PRESETS])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_translating_preset_maps_images_to_images_to_scores_with_a_gradient_everywhere(
    preset: str, channels: int
) -> None:
    network = small_cycle(preset, **{"network.channels": channels}).network
    translator, discriminator = build_translator(network), build_patch_discriminator(network)
    images = translator(torch.rand(3, channels, network.image_size, network.image_size) * 2 - 1)
    assert images.shape == (3, channels, network.image_size, network.image_size)
    assert images.abs().max() <= 1
    scores = discriminator(images)
    assert scores.shape[:2] == (3, 1)
    scores.sum().backward()
    assert without_gradient(translator) == without_gradient(discriminator) == set()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_makes_the_sizes_it_claims_and_refuses_others(architecture: str) -> None:
    claimed = ARCHITECTURES[architecture].makes_size
    squares = [(side, side) for side in (4, 8, 16, 28, 32, 48, 64, 96, 100)]
    for height, width in (*squares, (32, 24), (24, 32), (64, 48), (40, 64), (12, 100), (33, 32)):
        config = NetworkConfig(architecture=architecture, image_size=height, image_width=width, width=0.05)
        if claimed(height, width):
            images = build_generator(config).eval()(torch.randn(1, 100))
            assert images.shape == (1, 1, height, width)
            assert build_discriminator(config).eval()(images).shape == (1,)
        else:
            with pytest.raises(UserError, match=f"--image-size {height}"):
                build_generator(config)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if not ARCHITECTURES[name].grows])
def test_every_architecture_that_does_not_grow_makes_images_that_are_not_square(architecture: str) -> None:
    assert ARCHITECTURES[architecture].makes_size(32, 24)
    assert ARCHITECTURES[architecture].makes_size(40, 64)
