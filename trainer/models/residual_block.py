"""A residual block without normalisation, and the initialisation that makes it trainable."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE: Final = 0.2  # of every leaky ReLU


def scale_weights(layer: nn.Module, gain: float = 1.0) -> None:
    """Sets the weights of a layer so that its outputs have `gain` times the standard deviation of its inputs.

    Biases become 0 (He et al. 2015, "Delving Deep into Rectifiers", section 2.2).
    """
    if isinstance(layer, nn.ConvTranspose2d):  # of one pixel: each output is a sum over the input features alone
        inputs = layer.weight.shape[0]
    elif isinstance(layer, nn.Conv2d | nn.Linear):
        inputs = layer.weight[0].numel()
    else:
        raise TypeError(f"no weights to scale in a {type(layer).__name__}")
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(inputs))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """x + a bottleneck of 1x1, 3x3 and 1x1 convolutions of leaky ReLUs; (N, features, H, W) -> the same shape.

    Initialised as Fixup says (Zhang et al. 2019, "Fixup Initialization: Residual Learning Without Normalization",
    section 3): the last convolution with 0, so that the block begins as the identity, and the others smaller the more
    `blocks` the network has.
    """

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(features, features, 1)
        self.mix = nn.Conv2d(features, features, 3, 1, 1)
        self.leave = nn.Conv2d(features, features, 1, bias=False)
        gain = math.sqrt(2 / (1 + SLOPE**2)) * blocks ** (-1 / 4)  # L^(-1 / (2m - 2)) with m = 3 layers
        scale_weights(self.enter, gain)
        scale_weights(self.mix, gain)
        with torch.no_grad():
            self.leave.weight.zero_()

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        inner = F.leaky_relu(self.mix(F.leaky_relu(self.enter(maps), SLOPE)), SLOPE)
        added: Tensor = maps + self.leave(inner)
        return added
