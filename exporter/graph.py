"""The graph that is served: a generator with its pixels beside its images.

Both exported files compute exactly this module. Knows nothing of files and formats.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ServedGenerator(nn.Module):
    """Latents in, images and pixels out; pixels leave the device at a quarter of the bytes.

    Args:
        generator: called as generator(latents), latents (N, latent_dim) -> images (N, C, H, W), both float32.
        value_min: the value of `images` that becomes pixel 0; what lies below is clamped.
        value_max: the value of `images` that becomes pixel 255; what lies above is clamped.
    """

    def __init__(self, generator: nn.Module, value_min: float = -1.0, value_max: float = 1.0) -> None:
        super().__init__()
        self.generator = generator
        self.value_min = value_min
        self.value_max = value_max

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images, float32 (N, C, H, W), and pixels, uint8 (N, H, W, C)."""
        images: Tensor = self.generator(latents)
        levels = (images - self.value_min) / (self.value_max - self.value_min) * 255.0
        pixels = torch.round(levels).clamp(0.0, 255.0).to(torch.uint8)
        return images, pixels.permute(0, 2, 3, 1).contiguous()


class SpatialLatents(nn.Module):
    """Gives flat latents to a generator that wants them as maps of one pixel, (N, latent_dim, 1, 1)."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (N, latent_dim) -> images (N, C, H, W)."""
        images: Tensor = self.generator(latents[:, :, None, None])
        return images
