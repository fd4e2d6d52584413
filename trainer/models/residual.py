"""A generator and a discriminator of residual blocks without normalisation.

After R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline", sections 3 and 4): 1x1, 3x3
and 1x1 convolutions per block, Fixup's initialisation instead of norms, bilinear resampling, and a linear output. They
need an objective that keeps the discriminator smooth, such as `relativistic` with R1 and R2. Smaller than the paper's:
one block per resolution and 3x3 convolutions of one group, which suit a CPU.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from trainer.models.architecture import Architecture, NetworkConfig, is_power_of_two_in, upsampling_steps
from trainer.models.latent_layer import LatentLayer
from trainer.models.residual_block import ResidualBlock, scale_weights


def _widths(config: NetworkConfig) -> list[int]:
    """Features of the maps from 4x4 up: at width 1, 512 up to 8x8, then halved at each doubling, at least 64."""
    return [
        config.features(max(64, 512 // 2 ** max(0, step - 1)))
        for step in range(upsampling_steps(config.image_size) + 1)
    ]


def _generator(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)
    layers: list[nn.Module] = [
        nn.Unflatten(1, (config.latent_dim, 1, 1)),
        LatentLayer(config.latent_dim, widths[0]),
        ResidualBlock(widths[0], blocks=len(widths)),
    ]
    for inputs, outputs in pairwise(widths):
        # Before the enlargement, which then copies fewer maps.
        layers += _projection(inputs, outputs)
        layers += [nn.Upsample(scale_factor=2, mode="bilinear"), ResidualBlock(outputs, blocks=len(widths))]
    layers.append(nn.Conv2d(widths[-1], config.channels, 1))
    network = nn.Sequential(*layers)
    _initialise(network)
    return network


def _discriminator(config: NetworkConfig) -> nn.Module:
    widths = _widths(config)[::-1]
    layers: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 1)]
    for inputs, outputs in pairwise(widths):
        # The mean of 2x2 pixels is bilinear reduction by two.
        layers += [ResidualBlock(inputs, blocks=len(widths)), nn.AvgPool2d(2), *_projection(inputs, outputs)]
    last = widths[-1]
    layers += [
        ResidualBlock(last, blocks=len(widths)),
        nn.Conv2d(last, last, 4, groups=last, bias=False),
        nn.Flatten(),
        nn.Linear(last, 1),
        nn.Flatten(0),
    ]
    network = nn.Sequential(*layers)
    _initialise(network)
    return network


def _projection(inputs: int, outputs: int) -> list[nn.Module]:
    return [] if inputs == outputs else [nn.Conv2d(inputs, outputs, 1, bias=False)]


def _initialise(network: nn.Sequential) -> None:
    """Unit variance after every layer outside the blocks, which initialise themselves."""
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear | LatentLayer):
            scale_weights(layer)


ARCHITECTURES = (
    Architecture(
        "residual",
        _generator,
        _discriminator,
        is_power_of_two_in(8, 256),
        "powers of two from 8 to 256",
        gains_from_bf16=True,
    ),
)
