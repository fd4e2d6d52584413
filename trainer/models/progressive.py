"""Progressively grown networks (Karras et al. 2018, "Progressive Growing of GANs"): the paper's and a 128x128 variant.

Owns the layers of every resolution, and which of them run. growth.py decides when to grow; the trainer passes its
decision to `set_growth`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.architecture import Architecture, NetworkConfig, is_power_of_two_in, upsampling_steps
from trainer.models.progressive_layers import (
    RELU_GAIN,
    EqualisedConv2d,
    EqualisedLatentLayer,
    MinibatchStd,
    PixelNorm,
)

_FEATURES: Final = (512, 512, 512, 512, 256, 128, 64, 32, 16)  # per map at 4x4, 8x8, ... 1024x1024; paper, table 2


class ProgressiveNetwork(nn.Module):
    """Holds the layers of every resolution and runs those that `resolution` and `alpha` select.

    A new network is fully grown. Growth is not part of the state dict: it follows from the images seen, and the caller
    sets it after loading a state. Unused parameters get no gradient (None, not 0).
    """

    def __init__(self, stages: int) -> None:
        super().__init__()
        self.final_resolution = 4 << (stages - 1)
        self.resolution = self.final_resolution  # pixels, height and width
        self.alpha = 1.0  # weight of the newest stage; the stage before it has 1 - alpha

    @property
    def stage(self) -> int:
        """The newest stage that runs; stage 0 makes 4x4."""
        return upsampling_steps(self.resolution)

    def set_growth(self, resolution: int, alpha: float) -> None:
        """Selects the stages that run.

        Args:
            resolution: pixels, height and width; a power of two from 4 to the final resolution.
            alpha: weight of the newest stage, from 0 to 1; must be 1 at 4x4, which has no stage before it.

        Raises:
            ValueError: the network has no such growth.
        """
        if not is_power_of_two_in(4, self.final_resolution)(resolution):
            raise ValueError(f"resolution {resolution}: must be a power of two from 4 to {self.final_resolution}")
        if not 0 <= alpha <= 1 or (resolution == 4 and alpha != 1):
            raise ValueError(f"alpha {alpha} at {resolution}x{resolution}: must be from 0 to 1, and 1 at 4x4")
        self.resolution = resolution
        self.alpha = float(alpha)


class ProgressiveGenerator(ProgressiveNetwork):
    """Blocks that each double the resolution, and a toRGB layer per block (paper, figure 2).

    Args:
        blocks: stage by stage; latents (N, latent_dim) -> (N, C, 4, 4), then (N, C, R, R) -> (N, C', 2R, 2R).
        to_rgb: stage by stage; (N, C, R, R) -> images (N, channels, R, R).
    """

    def __init__(self, blocks: Sequence[nn.Module], to_rgb: Sequence[nn.Module]) -> None:
        super().__init__(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.to_rgb = nn.ModuleList(to_rgb)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, channels, resolution, resolution), without a tanh."""
        stage = self.stage
        features = latents
        for block in self.blocks[:stage]:
            features = block(features)
        images: Tensor = self.to_rgb[stage](self.blocks[stage](features))
        if self.alpha == 1:
            return images
        before = F.interpolate(self.to_rgb[stage - 1](features), scale_factor=2.0, mode="nearest")
        return torch.lerp(before, images, self.alpha)


class ProgressiveDiscriminator(ProgressiveNetwork):
    """The mirror image of the generator: a fromRGB layer per block, and blocks that halve the resolution.

    Args:
        blocks: stage by stage; (N, C, 4, 4) -> logits (N,), then (N, C', 2R, 2R) -> (N, C, R, R).
        from_rgb: stage by stage; images (N, channels, R, R) -> (N, C, R, R).
    """

    def __init__(self, blocks: Sequence[nn.Module], from_rgb: Sequence[nn.Module]) -> None:
        super().__init__(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.from_rgb = nn.ModuleList(from_rgb)

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, resolution, resolution) -> logits (N,).

        Raises:
            ValueError: the images have another resolution.
        """
        if images.shape[-2:] != (self.resolution, self.resolution):
            raise ValueError(f"images of {tuple(images.shape[-2:])} pixels, but the growth is at {self.resolution}")
        stage = self.stage
        features: Tensor = self.blocks[stage](self.from_rgb[stage](images))
        if self.alpha != 1:
            before = self.from_rgb[stage - 1](F.avg_pool2d(images, 2))
            features = torch.lerp(before, features, self.alpha)
        for block in reversed(self.blocks[:stage]):
            features = block(features)
        return features


def plain(generator: ProgressiveGenerator) -> ProgressiveGenerator:
    """A copy for export that makes the same images: in eval mode, without unused layers.

    Equalised layers become ordinary convolutions. Draws nothing from torch's random state.
    """
    stage = generator.stage
    unused = stage if generator.alpha == 1 else stage - 1
    to_rgb = [nn.Identity() if index < unused else layer for index, layer in enumerate(generator.to_rgb[: stage + 1])]
    network = copy.deepcopy(ProgressiveGenerator([*generator.blocks[: stage + 1]], to_rgb))
    network.set_growth(generator.resolution, generator.alpha)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, EqualisedConv2d | EqualisedLatentLayer):
                setattr(parent, name, child.plain())
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Variant:
    normalise_first: bool  # pixel norm before the LeakyReLU instead of after it
    equalise_ends: bool  # equalise toRGB, fromRGB and the score; else they are ordinary layers
    activate_from_rgb: bool
    widen_first: bool  # the first convolution of a discriminator block changes the features, not the second
    group_rows: int | None  # of the minibatch standard deviation

    def end(self, inputs: int, outputs: int, gain: float = 1.0) -> nn.Module:
        return EqualisedConv2d(inputs, outputs, 1, gain=gain) if self.equalise_ends else nn.Conv2d(inputs, outputs, 1)

    def normalised(self, layer: nn.Module) -> list[nn.Module]:
        finish: list[nn.Module] = [nn.LeakyReLU(0.2), PixelNorm()]
        return [layer, *(reversed(finish) if self.normalise_first else finish)]


def _features(config: NetworkConfig) -> list[int]:
    return [config.features(count) for count in _FEATURES[: upsampling_steps(config.image_size) + 1]]


def _generator(variant: _Variant, config: NetworkConfig) -> nn.Module:
    features = _features(config)
    blocks = [
        nn.Sequential(
            PixelNorm(),
            nn.Unflatten(1, (config.latent_dim, 1, 1)),
            *variant.normalised(EqualisedLatentLayer(config.latent_dim, features[0])),
            *variant.normalised(EqualisedConv2d(features[0], features[0], 3, 1)),
        )
    ]
    blocks += [
        nn.Sequential(
            nn.Upsample(scale_factor=2),
            *variant.normalised(EqualisedConv2d(inputs, outputs, 3, 1)),
            *variant.normalised(EqualisedConv2d(outputs, outputs, 3, 1)),
        )
        for inputs, outputs in pairwise(features)
    ]
    return ProgressiveGenerator(blocks, [variant.end(count, config.channels) for count in features])


def _discriminator(variant: _Variant, config: NetworkConfig) -> nn.Module:
    features = _features(config)
    last = features[0]
    blocks = [
        nn.Sequential(
            MinibatchStd(variant.group_rows),
            *(EqualisedConv2d(last + 1, last, 3, 1), nn.LeakyReLU(0.2)),
            *(EqualisedConv2d(last, last, 4), nn.LeakyReLU(0.2)),  # of all 4x4 pixels: a dense layer
            *(variant.end(last, 1), nn.Flatten(0)),
        )
    ]
    for outputs, inputs in pairwise(features):
        middle = outputs if variant.widen_first else inputs
        convolutions = (EqualisedConv2d(inputs, middle, 3, 1), EqualisedConv2d(middle, outputs, 3, 1))
        layers = [layer for convolution in convolutions for layer in (convolution, nn.LeakyReLU(0.2))]
        blocks.append(nn.Sequential(*layers, nn.AvgPool2d(2)))
    from_rgb: list[nn.Module] = [
        nn.Sequential(variant.end(config.channels, count, RELU_GAIN), nn.LeakyReLU(0.2))
        if variant.activate_from_rgb
        else variant.end(config.channels, count)
        for count in features
    ]
    return ProgressiveDiscriminator(blocks, from_rgb)


_PAPER: Final = _Variant(
    normalise_first=False, equalise_ends=True, activate_from_rgb=True, widen_first=False, group_rows=4
)
_ANIME: Final = _Variant(
    normalise_first=True, equalise_ends=False, activate_from_rgb=False, widen_first=True, group_rows=None
)


def _architecture(name: str, variant: _Variant, largest: int) -> Architecture:
    sizes_text = f"equal sides of a power of two from 8 to {largest} pixels"
    is_side = is_power_of_two_in(8, largest)
    builders = (partial(_generator, variant), partial(_discriminator, variant))
    return Architecture(
        name,
        *builders,
        lambda height, width: height == width and is_side(height),
        sizes_text,
        grows=True,
        gains_from_bf16=True,
    )


ARCHITECTURES = (_architecture("pggan", _PAPER, 1024), _architecture("pggan-anime128", _ANIME, 128))
