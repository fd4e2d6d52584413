"""The definition of an architecture: two builders, the sizes that they can make, and the settings that they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from torch import nn

CriticNorm = Literal["batch", "instance", "layer", "none"]


class NetworkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that determine a generator and its discriminator."""

    architecture: str
    image_size: Annotated[int, msgspec.Meta(ge=4, le=1024)]  # pixels, height and width
    channels: Annotated[int, msgspec.Meta(ge=1, le=4)] = 1
    latent_dim: Annotated[int, msgspec.Meta(ge=1, le=8192)] = 100
    width: Annotated[float, msgspec.Meta(gt=0, le=8)] = 1.0  # factor on the number of features of every hidden layer
    critic_norm: CriticNorm = "batch"  # ignored by architectures without normalisation in the discriminator
    spectral_norm: bool = False  # of every layer of the discriminator

    def features(self, count: int) -> int:
        """The number of features of a hidden layer that has `count` at width 1."""
        return max(1, round(count * self.width))


@dataclass(frozen=True)
class Architecture:
    """One family of networks, by the name that config.json records."""

    name: str
    generator: Callable[[NetworkConfig], nn.Module]
    discriminator: Callable[[NetworkConfig], nn.Module]
    makes_size: Callable[[int], bool]
    sizes_text: str  # for the user, such as "powers of two from 8 to 128"
    reads_critic_norm: bool = False
    grows: bool = False  # both networks are `ProgressiveNetwork`s
    gains_from_bf16: bool = False  # a step is faster in bf16 on a device that has instructions for it


def norm_layer(kind: CriticNorm, features: int, eps: float = 1e-5) -> list[nn.Module]:
    """The normalisation after a discriminator's convolution, as a list of zero or one module.

    `layer` normalises over channels and pixels of one sample, with a scale and shift per channel: the replacement for
    batch normalisation that WGAN-GP recommends (Gulrajani et al. 2017, section 4).
    """
    if kind == "batch":
        return [nn.BatchNorm2d(features, eps)]
    if kind == "instance":
        return [nn.InstanceNorm2d(features, eps, affine=True)]
    if kind == "layer":
        return [nn.GroupNorm(1, features, eps)]
    return []


def initialise_dcgan(network: nn.Module) -> None:
    """DCGAN's initialisation: convolutions N(0, 0.02), batch norm scales N(1, 0.02) and shifts 0; the rest unchanged.

    Source: Radford et al. 2016, section 4; normalisation scales as in the PyTorch tutorial.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def upsampling_steps(image_size: int) -> int:
    """The number of doublings from 4x4 to `image_size`."""
    return (image_size // 4).bit_length() - 1


def is_power_of_two_in(low: int, high: int) -> Callable[[int], bool]:
    """A predicate for `Architecture.makes_size`."""
    return lambda size: low <= size <= high and size & (size - 1) == 0
