"""The definition of an architecture: two builders, the sizes that they can make, and the settings that they read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from torch import nn

from trainer.errors import UserError

CriticNorm = Literal["batch", "instance", "layer", "none"]
Size: TypeAlias = tuple[int, int]  # height and width, in pixels
MakesSize: TypeAlias = Callable[[int, int], bool]  # of a height and a width

LARGEST_SIDE: Final = 1024  # pixels
_SUGGESTED: Final = 2  # sizes in an error message


Side = Annotated[int, msgspec.Meta(ge=4, le=LARGEST_SIDE)]  # pixels


class SizedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of all networks: the size of their images and of their layers."""

    architecture: str
    image_size: Side  # height, and width unless `image_width` is set
    image_width: Side | None = None  # of images that are not square
    channels: Annotated[int, msgspec.Meta(ge=1, le=4)] = 1
    width: Annotated[float, msgspec.Meta(gt=0, le=8)] = 1.0  # factor on the number of features of every hidden layer

    @property
    def size(self) -> Size:
        """Height and width of the images, in pixels."""
        return self.image_size, self.image_width or self.image_size

    def size_at(self, height: int) -> Size:
        """Height and width of images of this height: a growing network makes smaller ones first."""
        return height, height * self.size[1] // self.image_size

    def features(self, count: int) -> int:
        """The number of features of a hidden layer that has `count` at width 1."""
        return max(1, round(count * self.width))


class NetworkConfig(SizedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that determine a generator and its discriminator."""

    latent_dim: Annotated[int, msgspec.Meta(ge=1, le=8192)] = 100
    critic_norm: CriticNorm = "batch"  # ignored by architectures without normalisation in the discriminator
    spectral_norm: bool = False  # of every layer of the discriminator


@dataclass(frozen=True)
class Architecture:
    """One family of networks, by the name that config.json records."""

    name: str
    generator: Callable[[NetworkConfig], nn.Module]
    discriminator: Callable[[NetworkConfig], nn.Module]
    makes_size: MakesSize
    sizes_text: str  # after "images with", for the user: "sides from 4 to 256 pixels"
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
    """A predicate for the sides of squares."""
    return lambda size: low <= size <= high and size & (size - 1) == 0


def sides_are_multiples_of(step: int, low: int, high: int) -> MakesSize:
    """A predicate for `Architecture.makes_size`."""
    return lambda height, width: all(low <= side <= high and side % step == 0 for side in (height, width))


def shown_size(size: Size) -> str:
    """Height x width, also of a square: 64x64, 64x48."""
    return "{}x{}".format(*size)


def flag_size(size: Size) -> str:
    """As --image-size takes it: the side of a square, such as 64, or 64x48."""
    return str(size[0]) if size[0] == size[1] else shown_size(size)


def check_size(size: Size, makes_size: MakesSize, name: str, makes: str, remedy: str) -> None:
    """Checks that an architecture has this size.

    Args:
        size: of the config.
        makes_size: whether the architecture has a size.
        name: of the architecture.
        makes: what it makes, such as "makes images with sides from 4 to 256 pixels".
        remedy: besides another size: "" or " or another --preset".

    Raises:
        UserError: it does not; the message names the nearest sizes that it has.
    """
    if makes_size(*size):
        return
    show = flag_size if size[0] == size[1] else shown_size  # beside 60x20, 64 would not look like a square
    nearest = [show(other) for other in nearest_sizes(size, makes_size)]
    raise UserError(f"--image-size {show(size)}: {name} {makes}; choose {' or '.join(nearest)}, the nearest{remedy}")


def nearest_sizes(size: Size, makes_size: MakesSize) -> list[Size]:
    """The sizes with the smallest difference of a side, and of both; only squares for a square."""

    def difference(other: Size) -> tuple[int, int]:
        differences = [abs(one - two) for one, two in zip(size, other, strict=True)]
        return max(differences), sum(differences)

    found: list[Size] = []
    for reach in (8, 64, LARGEST_SIDE):  # few sizes are far from all that work
        heights, widths = (range(max(1, side - reach), min(LARGEST_SIDE, side + reach) + 1) for side in size)
        pairs = ((side, side) for side in heights) if size[0] == size[1] else itertools.product(heights, widths)
        found = sorted((pair for pair in pairs if makes_size(*pair)), key=difference)
        if len(found) >= _SUGGESTED:
            break
    return found[:_SUGGESTED]
