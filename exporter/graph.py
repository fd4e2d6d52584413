"""The graph that is served: a network between the rows that come in and the pixels that go out.

Both exported files compute exactly this module. Knows nothing of files and formats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ganserve.bundle import LatentInput, RowInput


class ServedGraph(nn.Module, ABC):
    """Rows in, images and pixels out; pixels leave the device at a quarter of the bytes.

    Args:
        value_min: the value of `images` that becomes pixel 0; what lies below is clamped.
        value_max: the value of `images` that becomes pixel 255; what lies above is clamped.
    """

    def __init__(self, value_min: float, value_max: float) -> None:
        super().__init__()
        self.value_min = value_min
        self.value_max = value_max

    @abstractmethod
    def images(self, rows: Tensor) -> Tensor:
        """Rows, a batch of the bundle's input -> images, float32 (N, C, H, W)."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images, float32 (N, C, H, W), and pixels, uint8 (N, H, W, C)."""
        images = self.images(rows)
        levels = (images - self.value_min) / (self.value_max - self.value_min) * 255.0
        pixels = torch.round(levels).clamp(0.0, 255.0).to(torch.uint8)
        return images, pixels.permute(0, 2, 3, 1).contiguous()


class ServedGenerator(ServedGraph):
    """Latents in.

    Args:
        generator: called as generator(latents), latents (N, latent_dim) -> images (N, C, H, W), both float32.
        value_min: see `ServedGraph`.
        value_max: see `ServedGraph`.
    """

    def __init__(self, generator: nn.Module, value_min: float = -1.0, value_max: float = 1.0) -> None:
        super().__init__(value_min, value_max)
        self.generator = generator

    def images(self, rows: Tensor) -> Tensor:
        """Latents, float32 (N, latent_dim) -> images, float32 (N, C, H, W)."""
        images: Tensor = self.generator(rows)
        return images


class ServedTranslator(ServedGraph):
    """Pixels in, for image-to-image: a client sends a quarter of the bytes, and needs no value range.

    Args:
        translator: called as translator(images), images (N, C, H, W) -> images, both float32 in the value range.
        value_min: of the images on both sides, see `ServedGraph`; input pixel 0 becomes it.
        value_max: of the images on both sides, see `ServedGraph`; input pixel 255 becomes it.
    """

    like: Tensor

    def __init__(self, translator: nn.Module, value_min: float = -1.0, value_max: float = 1.0) -> None:
        super().__init__(value_min, value_max)
        self.translator = translator
        # Integers have no precision to keep: this follows the weights when a loaded file is moved to another dtype.
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def images(self, rows: Tensor) -> Tensor:
        """Pixels, uint8 (N, H, W, C) -> images, float32 (N, C, H, W)."""
        levels = rows.to(torch.float32) / 255.0
        values = levels * (self.value_max - self.value_min) + self.value_min
        # Contiguous, as networks are written for: view() fails on a permuted tensor.
        images: Tensor = self.translator(values.permute(0, 3, 1, 2).contiguous().type_as(self.like))
        return images


def served_graph(network: nn.Module, row_input: RowInput, value_min: float, value_max: float) -> ServedGraph:
    """The graph, in eval mode, that serves `network` for rows of this input."""
    served = ServedGenerator if isinstance(row_input, LatentInput) else ServedTranslator
    return served(network, value_min, value_max).eval()


class SpatialLatents(nn.Module):
    """Gives flat latents to a generator that wants them as maps of one pixel, (N, latent_dim, 1, 1)."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (N, latent_dim) -> images (N, C, H, W)."""
        images: Tensor = self.generator(latents[:, :, None, None])
        return images
