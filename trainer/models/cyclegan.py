"""CycleGAN's networks: a residual translator, and a discriminator that scores patches.

Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", section 4 and
appendix 7.2. Instance normalisation has no scale and shift and keeps no running statistics, so a network computes the
same in training and evaluation mode, and each image independently of its batch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import msgspec
from torch import Tensor, nn

from trainer.errors import UserError
from trainer.models.architecture import SizedConfig, check_size, sides_are_multiples_of

ARCHITECTURE = "cyclegan-resnet"
_SHORTEST, _LONG_SIDE, _LONGEST = 24, 32, 256  # pixels
SIZES_TEXT = f"sides of multiples of 4 from {_SHORTEST} to {_LONGEST} pixels, the longer side from {_LONG_SIDE}"

Upsampling = Literal["transposed", "nearest"]
PatchField = Literal[70, 94]


class TranslatorConfig(SizedConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that determine a translator and its discriminator."""

    latent_dim: ClassVar[int] = 0  # it takes images

    architecture: str = ARCHITECTURE
    channels: Annotated[int, msgspec.Meta(ge=1, le=4)] = 3
    residual_blocks: Annotated[int, msgspec.Meta(ge=1, le=12)] = 9  # in the paper 9 at 256 pixels, 6 at 128
    upsampling: Upsampling = "transposed"  # as in the paper; "nearest" avoids checkerboard artefacts
    patch_field: PatchField = 70  # side in pixels of the patch that one score of the discriminator sees


def check_translator(config: TranslatorConfig) -> None:
    """Raises UserError if there is no such architecture, or it cannot translate images of this size."""
    if config.architecture != ARCHITECTURE:
        raise UserError(f"architecture {config.architecture!r}: the only architecture of translators is {ARCHITECTURE}")
    check_size(config.size, translates_size, ARCHITECTURE, f"translates images with {SIZES_TEXT}", "")


def translates_size(height: int, width: int) -> bool:
    """Whether there is a translator for images of this size, in pixels."""
    # At 24x24, a discriminator with patches of 94 pixels would normalise maps of one pixel.
    return max(height, width) >= _LONG_SIDE and sides_are_multiples_of(4, _SHORTEST, _LONGEST)(height, width)


def build_translator(config: TranslatorConfig) -> nn.Module:
    """Builds a translator: images (N, C, H, W) in [-1, 1] -> images of the other domain, same shape and range.

    Raises:
        UserError: as check_translator.
    """
    check_translator(config)
    narrow, middle, wide = (config.features(count) for count in (64, 128, 256))
    network = nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(config.channels, narrow, 7),
        *_norm_relu(narrow),
        nn.Conv2d(narrow, middle, 3, 2, 1),  # half the size
        *_norm_relu(middle),
        nn.Conv2d(middle, wide, 3, 2, 1),  # a quarter of the size
        *_norm_relu(wide),
        *(_ResidualBlock(wide) for _ in range(config.residual_blocks)),
        *_doubling(wide, middle, config.upsampling),
        *_norm_relu(middle),
        *_doubling(middle, narrow, config.upsampling),
        *_norm_relu(narrow),
        nn.ReflectionPad2d(3),
        nn.Conv2d(narrow, config.channels, 7),
        nn.Tanh(),
    )
    _initialise(network)
    return network


def build_patch_discriminator(config: TranslatorConfig) -> nn.Module:
    """Builds a discriminator: images (N, C, H, W) -> a map of scores (N, 1, h, w), one per patch.

    A patch is `patch_field` pixels a side. Field 70 (the paper's, from Isola et al. 2017, "pix2pix", section 3.2.2)
    halves the size three times, h = H // 8 - 2; field 94 halves it four times, h = H // 16.

    Raises:
        UserError: as check_translator.
    """
    check_translator(config)
    widths = [config.channels, *(config.features(count) for count in (64, 128, 256, 512))]
    strides = (2, 2, 2, 1) if config.patch_field == 70 else (2, 2, 2, 2)
    layers: list[nn.Module] = []
    for index, ((inputs, outputs), stride) in enumerate(zip(pairwise(widths), strides, strict=True)):
        layers.append(nn.Conv2d(inputs, outputs, 4, stride, 1))
        if index > 0:
            layers.append(_norm(outputs))
        layers.append(nn.LeakyReLU(0.2))
    if config.patch_field == 94:
        layers.append(nn.ZeroPad2d((1, 0, 1, 0)))  # left and top; the last convolution keeps the map's size
    network = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
    _initialise(network)
    return network


class _ResidualBlock(nn.Module):
    """x plus two convolutions of x (He et al. 2016), without an activation after the sum."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3),
            *_norm_relu(features),
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3),
            _norm(features),
        )

    def forward(self, images: Tensor) -> Tensor:
        residual: Tensor = self.layers(images)
        return images + residual


def _doubling(inputs: int, outputs: int, upsampling: Upsampling) -> list[nn.Module]:
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, 1, 1)]


def _norm(features: int) -> nn.Module:
    return nn.InstanceNorm2d(features, affine=False, track_running_stats=False)


def _norm_relu(features: int) -> list[nn.Module]:
    return [_norm(features), nn.ReLU()]


def _initialise(network: nn.Module) -> None:
    """Weights N(0, 0.02) (the paper, appendix 7.1) and biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
