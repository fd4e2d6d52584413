from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.errors import UserError
from trainer.models import build_discriminator, check_network
from trainer.models.architecture import (
    CriticNorm,
    NetworkConfig,
    flag_size,
    initialise_dcgan,
    is_power_of_two_in,
    norm_layer,
    shown_size,
    upsampling_steps,
)


def test_width_scales_features_and_leaves_at_least_one() -> None:
    config = NetworkConfig(architecture="dcgan-k4", image_size=32, width=0.1)
    assert [config.features(count) for count in (64, 15, 4, 1)] == [6, 2, 1, 1]


@pytest.mark.parametrize(("size", "steps"), [(4, 0), (8, 1), (64, 4), (1024, 8)])
def test_upsampling_steps_count_the_doublings_from_4(size: int, steps: int) -> None:
    assert upsampling_steps(size) == steps


def test_only_powers_of_two_in_range_are_accepted() -> None:
    assert [size for size in range(1, 70) if is_power_of_two_in(8, 64)(size)] == [8, 16, 32, 64]


@pytest.mark.parametrize(
    ("norm", "kinds"),
    [("batch", [nn.BatchNorm2d]), ("instance", [nn.InstanceNorm2d]), ("layer", [nn.GroupNorm]), ("none", [])],
)
def test_each_norm_name_builds_its_layer(norm: CriticNorm, kinds: list[type[nn.Module]]) -> None:
    assert [type(layer) for layer in norm_layer(norm, 4)] == kinds


def test_layer_norm_covers_channels_and_pixels_of_one_sample() -> None:
    (layer,) = norm_layer("layer", 6)
    features = torch.randn(3, 6, 5, 5) * torch.tensor([1.0, 7.0, 0.1]).view(3, 1, 1, 1) + 2
    normalised = layer(features).flatten(1)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std(1, correction=0), torch.ones(3), atol=1e-2, rtol=0)


def test_dcgan_initialisation_keeps_linear_layers() -> None:
    linear, norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
    before = linear.weight.detach().clone()
    initialise_dcgan(nn.Sequential(linear, norm))
    assert torch.equal(linear.weight, before)
    assert not torch.equal(norm.weight, torch.ones(4))
    assert torch.equal(norm.bias, torch.zeros(4))


@pytest.mark.parametrize("architecture", ["mlp-batchnorm", "dcgan-k4"])
def test_spectral_norm_limits_the_largest_singular_value_of_every_layer_to_1(architecture: str) -> None:
    config = NetworkConfig(
        architecture=architecture, image_size=32, width=0.125, critic_norm="none", spectral_norm=True
    )
    network = build_discriminator(config)
    images = torch.randn(2, 1, 32, 32)
    for _ in range(50):  # power iterations
        network(images)
    network.eval()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0.05, atol=0.0)


@pytest.mark.parametrize(("size", "shown", "flag"), [((64, 64), "64x64", "64"), ((64, 48), "64x48", "64x48")])
def test_sizes_are_shown_height_first(size: tuple[int, int], shown: str, flag: str) -> None:
    assert (shown_size(size), flag_size(size)) == (shown, flag)


def test_without_a_width_images_are_square() -> None:
    assert NetworkConfig(architecture="any", image_size=64).size == (64, 64)
    config = NetworkConfig(architecture="any", image_size=64, image_width=48)
    assert (config.size, config.size_at(32)) == ((64, 48), (32, 24))


@pytest.mark.parametrize(
    ("architecture", "size", "nearest"),
    [
        ("mlp-shallow", (300, 200), "256x200 or 256x199"),
        ("dcgan-k4", (50, 50), "48 or 56"),
        ("dcgan-k4", (50, 38), "48x40 or 48x32"),
        ("dcgan-k5", (1024, 4), "512x192 or 512x256"),
        ("dcgan-32", (100, 20), "64x24 or 64x32"),
        ("dcgan-upsample", (33, 30), "32x28 or 32x32"),
        ("pggan", (64, 48), "64x64 or 32x32"),
        ("pggan", (48, 48), "32 or 64"),
    ],
)
def test_a_size_that_does_not_work_is_refused_with_the_nearest_that_do(
    architecture: str, size: tuple[int, int], nearest: str
) -> None:
    height, width = size
    reason = rf"^--image-size {height}.*: {architecture} makes images with .*; choose {nearest}, the nearest, or "
    with pytest.raises(UserError, match=reason):
        check_network(NetworkConfig(architecture=architecture, image_size=height, image_width=width))
    for other in nearest.split(" or "):
        sides = [int(side) for side in other.split("x")]
        check_network(NetworkConfig(architecture=architecture, image_size=sides[0], image_width=sides[-1]))
