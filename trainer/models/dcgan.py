"""DCGANs of transposed convolutions (Radford et al. 2016): the PyTorch tutorial's, a 5x5 one, and one for 32x32."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from torch import nn

from trainer.models.architecture import (
    Architecture,
    NetworkConfig,
    Size,
    initialise_dcgan,
    norm_layer,
    sides_are_multiples_of,
)
from trainer.models.latent_layer import LatentLayer

_SMALLEST: Final = 8  # pixels, each side of an image
_LARGEST: Final = 512
_SHORTEST_START: Final = 3  # pixels, each side of the smallest map
_LONGEST_START: Final = 8  # a longer one would leave few doublings, and so few layers


def _widths(config: NetworkConfig) -> list[int]:
    """Features of the generator's hidden maps, the smallest first: halved at each doubling, 64 at width 1 in the last.

    At most 1024, which 128x128 needs: at 512x512, 4096 would take 134 million weights in one layer.
    """
    doublings = _doublings(*config.size)
    return [config.features(min(64 * 2**power, 1024)) for power in reversed(range(doublings))]


def _doublings(height: int, width: int) -> int:
    """As many as leave `_SHORTEST_START` pixels for each side of the smallest map: 4 for 64x64, and for 64x48."""
    count = 0
    while all(side % 2 == 0 and side // 2 >= _SHORTEST_START for side in (height, width)):
        height, width, count = height // 2, width // 2, count + 1
    return count


def _start(config: NetworkConfig) -> Size:
    """Height and width of the smallest map: 4x4 for powers of two, 4x3 for 64x48."""
    height, width = config.size
    doublings = _doublings(height, width)
    return height >> doublings, width >> doublings


def _makes_size(height: int, width: int) -> bool:
    doublings = _doublings(height, width)
    return doublings > 0 and all(
        _SMALLEST <= side <= _LARGEST and _SHORTEST_START <= side >> doublings <= _LONGEST_START
        for side in (height, width)
    )


def _generator_k4(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (config.latent_dim, 1, 1)),
        LatentLayer(config.latent_dim, widths[0], _start(config), bias=False),  # (N, 512, 4, 4) at 64x64
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    for inputs, outputs in pairwise(widths):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(widths[-1], config.channels, 4, 2, 1, bias=False), nn.Tanh()]
    network = nn.Sequential(*layers)
    initialise_dcgan(network)
    return network


def _discriminator_k4(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)[::-1]
    # Without a bias, norms over a sample would hide its contrast: a gray image would score like a vivid one.
    first_bias = config.critic_norm != "batch"
    layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 4, 2, 1, bias=first_bias), nn.LeakyReLU(0.2)]
    for inputs, outputs in pairwise(widths):
        # A norm makes the bias of the convolution before it useless.
        bias = config.critic_norm == "none"
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=bias), *norm_layer(config.critic_norm, outputs)]
        layers.append(nn.LeakyReLU(0.2))
    layers += [nn.Conv2d(widths[-1], 1, _start(config), bias=False), nn.Flatten(0)]
    network = nn.Sequential(*layers)
    initialise_dcgan(network)
    return network


def _generator_k5(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)
    height, width = _start(config)
    stem = widths[0] * height * width
    layers: list[nn.Module] = [
        nn.Linear(config.latent_dim, stem, bias=False),
        nn.BatchNorm1d(stem),
        nn.ReLU(),
        nn.Unflatten(1, (widths[0], height, width)),
    ]
    for inputs, outputs in pairwise(widths):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    layers += [nn.ConvTranspose2d(widths[-1], config.channels, 5, 2, 2, output_padding=1), nn.Tanh()]
    return nn.Sequential(*layers)


def _discriminator_k5(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)[::-1]
    layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 5, 2, 2), nn.LeakyReLU(0.2)]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 5, 2, 2), *norm_layer(config.critic_norm, outputs), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(widths[-1], 1, _start(config)), nn.Flatten(0)]
    return nn.Sequential(*layers)


def _start_32(config: NetworkConfig) -> Size:
    """Height and width of the smallest map, after three doublings the size of the images."""
    height, width = config.size
    return height // 8, width // 8


def _generator_32(config: NetworkConfig) -> nn.Module:
    first, second, third = (config.features(count) for count in (512, 256, 128))
    return nn.Sequential(
        nn.Unflatten(1, (config.latent_dim, 1, 1)),
        LatentLayer(config.latent_dim, first, _start_32(config)),
        nn.ReLU(),  # the published network has no batch norm here
        nn.ConvTranspose2d(first, second, 4, 2, 1),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.ConvTranspose2d(second, third, 4, 2, 1),
        nn.BatchNorm2d(third),
        nn.ReLU(),
        nn.ConvTranspose2d(third, config.channels, 4, 2, 1),
        nn.Tanh(),
    )


def _discriminator_32(config: NetworkConfig) -> nn.Module:
    first, second, third = (config.features(count) for count in (64, 128, 256))
    return nn.Sequential(
        nn.Conv2d(config.channels, first, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(first, second, 4, 2, 1),
        *norm_layer(config.critic_norm, second),
        nn.LeakyReLU(0.2),
        nn.Conv2d(second, third, 4, 2, 1),
        *norm_layer(config.critic_norm, third),
        nn.LeakyReLU(0.2),
        nn.Conv2d(third, 1, _start_32(config), 2),
        nn.Flatten(0),
    )


_SIZES_TEXT = (
    f"sides of {_SHORTEST_START} to {_LONGEST_START} times the same power of two, from {_SMALLEST} to {_LARGEST} pixels"
)
_SIZES = (_makes_size, _SIZES_TEXT)

ARCHITECTURES = (
    Architecture("dcgan-k4", _generator_k4, _discriminator_k4, *_SIZES, reads_critic_norm=True, gains_from_bf16=True),
    Architecture("dcgan-k5", _generator_k5, _discriminator_k5, *_SIZES, reads_critic_norm=True, gains_from_bf16=True),
    Architecture(
        "dcgan-32",
        _generator_32,
        _discriminator_32,
        sides_are_multiples_of(8, 24, 64),
        "sides of multiples of 8 from 24 to 64 pixels",
        reads_critic_norm=True,
        gains_from_bf16=True,
    ),
)
