"""Layers of progressively grown networks (Karras et al. 2018, "Progressive Growing of GANs", "the paper" here).

Owns normalisation, the minibatch statistic and the equalised learning rate.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.latent_layer import latent_maps

RELU_GAIN: Final = math.sqrt(2)  # He et al. 2015


class PixelNorm(nn.Module):
    """Divides the feature vector (dimension 1) of each pixel by its root mean square (paper, section 4.2)."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) -> the same shape."""
        return features * torch.rsqrt(features.square().mean(dim=1, keepdim=True) + 1e-8)


class MinibatchStd(nn.Module):
    """Appends one map that measures how much the rows of a group differ (paper, section 3).

    Its value is the mean, over maps and pixels, of sqrt(variance over the group + 1e-8), with the biased variance; all
    rows of a group share it. Groups are contiguous rows. A batch of N rows makes floor(N / 4) groups of 4 rows or, if 4
    does not divide N, of nearly equal sizes from 4 to 7, larger ones first. Fewer than 4 rows are one group.

    Args:
        group_rows: the 4 above; None: the full batch is one group.
    """

    def __init__(self, group_rows: int | None = 4) -> None:
        super().__init__()
        self.group_rows = group_rows

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + 1, H, W)."""
        rows, _, height, width = features.shape
        extra = self.spread(features).view(rows, 1, 1, 1).expand(rows, 1, height, width)
        return torch.cat((features, extra), dim=1)

    def spread(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the statistic of each row's group, (N,)."""
        rows, maps, height, width = features.shape
        groups = 1 if self.group_rows is None else max(1, rows // self.group_rows)
        size, larger = divmod(rows, groups)
        statistics: list[Tensor] = []
        start = 0
        # There are at most two group sizes, each computed at once: fewer kernels than group by group.
        for count, members in ((larger, size + 1), (groups - larger, size)):
            part = features[start : start + count * members].reshape(count, members, maps, height, width)
            start += count * members
            if count:
                spread = (part.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
                statistics.append(spread.repeat_interleave(members))
        return torch.cat(statistics)


class EqualisedConv2d(nn.Module):
    """A convolution with an equalised learning rate (paper, section 4.1).

    The stored weight is drawn from N(0, 1) and multiplied by gain / sqrt(fan in) when used. So Adam's steps, which do
    not depend on a weight's scale, are equally large in all layers. Biases begin at 0.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0, gain: float = RELU_GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.padding = padding
        self.scale = gain / math.sqrt(inputs * kernel**2)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H', W')."""
        # Channels last, which the output inherits: a training step on a CPU is a quarter faster.
        weight = (self.weight * self.scale).contiguous(memory_format=torch.channels_last)
        return F.conv2d(features, weight, self.bias, padding=self.padding)

    def plain(self) -> nn.Module:
        """The same layer as an ordinary one, with the scale multiplied into the weight."""
        outputs, inputs, kernel, _ = self.weight.shape
        return _with_weights(nn.Conv2d(inputs, outputs, kernel, padding=self.padding, device="meta"), self)


class EqualisedLatentLayer(nn.Module):
    """The first layer: latents -> maps of 4x4 pixels, dense but with one bias per map, with an equalised learning rate.

    A transposed convolution of one pixel is that dense layer. Its fan in is that of the paper's 4x4 convolution, which
    counts the padding around the pixel: 16 latent_dim.
    """

    def __init__(self, latent_dim: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent_dim, outputs, 4, 4))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = RELU_GAIN / 4 / math.sqrt(latent_dim)

    def forward(self, latents: Tensor) -> Tensor:
        """(N, latent_dim, 1, 1) -> (N, outputs, 4, 4)."""
        return latent_maps(latents, self.weight * self.scale, self.bias)

    def plain(self) -> nn.Module:
        """The same layer as an ordinary one, with the scale multiplied into the weight."""
        latent_dim, outputs, kernel, _ = self.weight.shape
        return _with_weights(nn.ConvTranspose2d(latent_dim, outputs, kernel, device="meta"), self)


def _with_weights(
    layer: nn.Conv2d | nn.ConvTranspose2d, equalised: EqualisedConv2d | EqualisedLatentLayer
) -> nn.Module:
    layer.weight = nn.Parameter(equalised.weight.detach() * equalised.scale)
    layer.bias = nn.Parameter(equalised.bias.detach().clone())
    return layer
