"""A DCGAN with nearest upsampling and 3x3 convolutions, which avoid the checkerboards of transposed convolutions."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from trainer.models.architecture import Architecture, NetworkConfig, initialise_dcgan, norm_layer

# The widely copied 32x32 example passes 0.8 as batch norm's eps; its results depend on it.
_EPS = 0.8


def _generator(config: NetworkConfig) -> nn.Module:
    start = config.image_size // 4
    wide, narrow = config.features(128), config.features(64)
    network = nn.Sequential(
        nn.Linear(config.latent_dim, wide * start**2),
        nn.Unflatten(1, (wide, start, start)),
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
    pixels = (config.image_size // 16) ** 2
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * pixels, 1), nn.Flatten(0))
    initialise_dcgan(network)
    return network


ARCHITECTURES = (
    Architecture(
        "dcgan-upsample",
        _generator,
        _discriminator,
        lambda size: 16 <= size <= 256 and size % 16 == 0,
        "multiples of 16 from 16 to 256",
        reads_critic_norm=True,
        gains_from_bf16=True,
    ),
)
