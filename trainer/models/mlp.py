"""Fully connected GANs (Goodfellow et al. 2014), in three forms from courses and tutorials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from trainer.models.architecture import Architecture, NetworkConfig, sides_are_multiples_of

_MAKES_SIZE = sides_are_multiples_of(1, 4, 256)


def _architecture(
    name: str,
    generator_widths: Sequence[int],
    discriminator_widths: Sequence[int],
    *,
    slope: float,
    dropout: float = 0.0,
    batch_norm_eps: float | None = None,
) -> Architecture:
    """A family of MLPs whose hidden layers are Linear, (batch norm,) leaky ReLU, (dropout).

    Only the generator has batch norm, and not in its first layer.
    """

    def hidden(inputs: int, outputs: int, *, norm: bool) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
        if norm and batch_norm_eps is not None:
            layers.append(nn.BatchNorm1d(outputs, batch_norm_eps))
        layers.append(nn.LeakyReLU(slope))
        if dropout:
            layers.append(nn.Dropout(dropout))
        return layers

    def generator(config: NetworkConfig) -> nn.Module:
        image_shape = (config.channels, *config.size)
        values = math.prod(image_shape)
        widths = [config.latent_dim, *(config.features(width) for width in generator_widths)]
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += hidden(inputs, outputs, norm=index > 0)
        return nn.Sequential(*layers, nn.Linear(widths[-1], values), nn.Tanh(), nn.Unflatten(1, image_shape))

    def discriminator(config: NetworkConfig) -> nn.Module:
        values = config.channels * math.prod(config.size)
        widths = [values, *(config.features(width) for width in discriminator_widths)]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += hidden(inputs, outputs, norm=False)
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))

    return Architecture(name, generator, discriminator, _MAKES_SIZE, "sides from 4 to 256 pixels")


ARCHITECTURES = (
    _architecture("mlp-dropout", (32, 64, 128), (128, 64, 32), slope=0.01, dropout=0.3),
    _architecture("mlp-shallow", (128,), (128,), slope=0.2),
    _architecture("mlp-batchnorm", (128, 256, 512, 1024), (512, 256), slope=0.2, batch_norm_eps=0.8),
)
