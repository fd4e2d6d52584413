"""DCGANs of transposed convolutions (Radford et al. 2016): the PyTorch tutorial's, a 5x5 one, and one for 32x32."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from trainer.models.architecture import (
    Architecture,
    NetworkConfig,
    initialise_dcgan,
    is_power_of_two_in,
    norm_layer,
    upsampling_steps,
)
from trainer.models.latent_layer import LatentLayer


def _widths(config: NetworkConfig) -> list[int]:
    """Features of the generator's hidden maps from 4x4 up: halved at each doubling, 64 at width 1 in the last.

    At most 1024, which 128x128 needs: at 512x512, 4096 would take 134 million weights in one layer.
    """
    steps = upsampling_steps(config.image_size)
    return [config.features(min(64 * 2**power, 1024)) for power in reversed(range(steps))]


def _generator_k4(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (config.latent_dim, 1, 1)),
        LatentLayer(config.latent_dim, widths[0], bias=False),  # (N, 512, 4, 4) at 64x64
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
    layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten(0)]
    network = nn.Sequential(*layers)
    initialise_dcgan(network)
    return network


def _generator_k5(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)
    stem = widths[0] * 4 * 4
    layers: list[nn.Module] = [
        nn.Linear(config.latent_dim, stem, bias=False),
        nn.BatchNorm1d(stem),
        nn.ReLU(),
        nn.Unflatten(1, (widths[0], 4, 4)),
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
    layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0), nn.Flatten(0)]
    return nn.Sequential(*layers)


def _generator_32(config: NetworkConfig) -> nn.Module:
    first, second, third = (config.features(count) for count in (512, 256, 128))
    return nn.Sequential(
        nn.Unflatten(1, (config.latent_dim, 1, 1)),
        LatentLayer(config.latent_dim, first),
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
        nn.Conv2d(third, 1, 4, 2, 0),
        nn.Flatten(0),
    )


_SIZES = (is_power_of_two_in(8, 512), "powers of two from 8 to 512")

ARCHITECTURES = (
    Architecture("dcgan-k4", _generator_k4, _discriminator_k4, *_SIZES, reads_critic_norm=True, gains_from_bf16=True),
    Architecture("dcgan-k5", _generator_k5, _discriminator_k5, *_SIZES, reads_critic_norm=True, gains_from_bf16=True),
    Architecture(
        "dcgan-32",
        _generator_32,
        _discriminator_32,
        lambda size: size == 32,
        "only 32",
        reads_critic_norm=True,
        gains_from_bf16=True,
    ),
)
