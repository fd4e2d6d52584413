"""The served graph: a network, plus the conversions from input pixels and to output pixels.

Both exported files compute exactly this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ganserve.bundle import ImageInput, RowInput


class ServedGraph(nn.Module):
    """Rows in, images and pixels out, in eval mode.

    The graph makes the pixels because uint8 takes a quarter of the bytes of float32 to copy and send. For the same
    reason, the graph of a network that takes images takes pixels; clients then need not know its value range.

    Args:
        network: With a `LatentInput`: latents (N, latent_dim) -> images (N, C, H, W). With an `ImageInput`: images
            (N, C, H, W) in the value range -> images (N, C, H, W). All float32.
        row_input: What the network takes.
        value_min: The image value of pixel 0, for inputs and outputs; lower outputs are clamped.
        value_max: The image value of pixel 255, for inputs and outputs; higher outputs are clamped.
    """

    dtype_of_weights: Tensor

    def __init__(
        self, network: nn.Module, row_input: RowInput, value_min: float = -1.0, value_max: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.takes_pixels = isinstance(row_input, ImageInput)
        self.value_min = value_min
        self.value_max = value_max
        if self.takes_pixels:
            # uint8 input does not say which dtype to compute in. This buffer follows the weights when a loaded file is
            # moved to another dtype.
            self.register_buffer("dtype_of_weights", torch.zeros(()), persistent=False)
        self.eval()

    def images(self, rows: Tensor) -> Tensor:
        """Rows, float32 (N, latent_dim) or uint8 (N, H, W, C) -> images, float32 (N, C, H, W)."""
        if self.takes_pixels:
            values = rows.to(torch.float32) / 255.0 * (self.value_max - self.value_min) + self.value_min
            # Contiguous, because a network may call view(), which fails on a permuted tensor.
            rows = values.permute(0, 3, 1, 2).contiguous().type_as(self.dtype_of_weights)
        images: Tensor = self.network(rows)
        return images

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images, float32 (N, C, H, W), and pixels, uint8 (N, H, W, C)."""
        images = self.images(rows)
        levels = (images - self.value_min) / (self.value_max - self.value_min) * 255.0
        pixels = torch.round(levels).clamp(0.0, 255.0).to(torch.uint8)
        return images, pixels.permute(0, 2, 3, 1).contiguous()


class SpatialLatents(nn.Module):
    """Reshapes latents (N, latent_dim) to (N, latent_dim, 1, 1), which DCGAN code expects."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, **forward_kwargs: Any) -> Tensor:
        """Latents (N, latent_dim) -> images (N, C, H, W), or whatever else the generator returns."""
        images: Tensor = self.generator(latents[:, :, None, None], **forward_kwargs)
        return images
