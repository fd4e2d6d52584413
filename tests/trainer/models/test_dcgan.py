from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.config import GanConfig
from trainer.models import NetworkConfig, build_discriminator, build_generator
from trainer.models.architecture import CriticNorm
from trainer.presets import PRESETS


def network_of(model: str, preset: str) -> NetworkConfig:
    config = PRESETS[model, preset].config
    assert isinstance(config, GanConfig)
    return config.network


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
def test_a_critic_without_batch_norm_scores_each_image_independently(norm: CriticNorm) -> None:
    network = NetworkConfig(architecture="dcgan-k4", image_size=32, width=0.125, critic_norm=norm)
    critic = build_discriminator(network)
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(critic(images)[:1], critic(images[:1]))


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
@pytest.mark.parametrize("architecture", ["dcgan-k4", "dcgan-k5", "dcgan-32", "dcgan-upsample"])
def test_a_critic_sees_the_contrast_of_an_image(architecture: str, norm: CriticNorm) -> None:
    network = NetworkConfig(architecture=architecture, image_size=32, width=0.5, critic_norm=norm)
    critic = build_discriminator(network).eval()
    images = torch.randn(8, 1, 32, 32)
    vivid, faded = critic(images), critic(0.4 * images)
    assert (vivid - faded).abs().mean() > 0.02 * vivid.std()


def test_the_critic_of_the_wgan_gp_paper_has_no_batch_norm() -> None:
    network = network_of("wgan-gp", "wgan-gp-paper")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in build_discriminator(network).modules())


def test_dcgan_initialisation_has_the_papers_spread() -> None:
    generator = build_generator(network_of("dcgan", "dcgan64-k4"))
    weights = torch.cat([m.weight.flatten() for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    scales = torch.cat([m.weight for m in generator.modules() if isinstance(m, nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01)


def test_width_scales_hidden_layers_only() -> None:
    network = NetworkConfig(architecture="dcgan-k4", image_size=64, channels=3, width=0.5)
    shapes = [m.weight.shape[:2] for m in build_generator(network).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [tuple(shape) for shape in shapes] == [(100, 256), (256, 128), (128, 64), (64, 32), (32, 3)]


@pytest.mark.parametrize(("size", "widths"), [(64, [512, 256, 128, 64]), (512, [1024, 1024, 1024, 512, 256, 128, 64])])
def test_a_stage_per_doubling_has_half_the_features_and_at_most_1024(size: int, widths: list[int]) -> None:
    config = NetworkConfig(architecture="dcgan-k4", image_size=size, channels=3)
    with torch.device("meta"):
        network = build_discriminator(config)
    assert [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)] == [*widths[::-1], 1]


@pytest.mark.parametrize(
    ("size", "start"),
    [((64, 64), (4, 4)), ((64, 48), (4, 3)), ((96, 64), (6, 4)), ((24, 40), (3, 5)), ((128, 64), (8, 4))],
)
@pytest.mark.parametrize("architecture", ["dcgan-k4", "dcgan-k5"])
def test_the_smallest_map_has_the_shape_of_the_images(
    architecture: str, size: tuple[int, int], start: tuple[int, int]
) -> None:
    config = NetworkConfig(architecture=architecture, image_size=size[0], image_width=size[1], width=1 / 64)
    maps: list[tuple[int, ...]] = []
    generator = build_generator(config).eval()
    for layer in generator.modules():
        if isinstance(layer, nn.ConvTranspose2d) and layer.stride == (2, 2):
            layer.register_forward_hook(lambda _, inputs, __: maps.append(tuple(inputs[0].shape[-2:])))
    generator(torch.randn(1, config.latent_dim))
    assert maps[0] == start
