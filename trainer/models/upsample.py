"""A DCGAN with nearest upsampling and 3x3 convolutions, which avoid the checkerboards of transposed convolutions."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from trainer.models.architecture import (
    Architecture,
    NetworkConfig,
    initialise_dcgan,
    norm_layer,
    sides_are_multiples_of,
)

# The widely copied 32x32 example passes 0.8 as batch norm's eps; its results depend on it.
_EPS = 0.8


def _generator(config: NetworkConfig) -> nn.Module:
    height, width = (side // 4 for side in config.size)
    wide, narrow = config.features(128), config.features(64)
    network = nn.Sequential(
        nn.Linear(config.latent_dim, wide * height * width),
        nn.Unflatten(1, (wide, height, width)),
        nn.BatchNorm2d(wide),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(wide, wide, 3, 1, 1),
        nn.BatchNorm2d(wide, _EPS),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(wide, narrow, 3, 1, 1),
        nn.BatchNorm2d(narrow, _EPS),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, config.channels, 3, 1, 1),
        nn.Tanh(),
    )
    initialise_dcgan(network)
    return network


def _discriminator(config: NetworkConfig) -> nn.Module:
    widths = [config.channels, *(config.features(count) for count in (16, 32, 64, 128))]
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
        if index > 0:
            layers += norm_layer(config.critic_norm, outputs, _EPS)
    pixels = math.prod(-(-side // 16) for side in config.size)  # four halvings, each rounded up
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * pixels, 1), nn.Flatten(0))
    initialise_dcgan(network)
    return network


ARCHITECTURES = (
    Architecture(
        "dcgan-upsample",
        _generator,
        _discriminator,
        sides_are_multiples_of(4, 16, 256),
        "sides of multiples of 4 from 16 to 256 pixels",
        reads_critic_norm=True,
        gains_from_bf16=True,
    ),
)
