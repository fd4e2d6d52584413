"""A network that computes in reduced precision behind an interface in float32. Knows no files and no formats."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Reduced(nn.Module):
    """Casts what goes in, computes in `dtype`, and casts the images back: all around it stays in float32.

    Args:
        network: rows or images -> images (N, C, H, W). Its weights are cast in place, so give a copy.
        dtype: torch.bfloat16 or torch.float16.
        channels_last: keep weights and activations in that order, which convolutions in reduced precision are written
            for on a CPU.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, *, channels_last: bool) -> None:
        super().__init__()
        self.network = network.to(dtype)
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.dtype = dtype
        self.channels_last = channels_last

    def forward(self, rows: Tensor) -> Tensor:
        """Float32 in, latents (N, latent_dim) or images (N, C, H, W); float32 images (N, C, H, W) out."""
        rows = rows.to(self.dtype)
        if self.channels_last and rows.ndim == 4:
            rows = rows.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.network(rows)
        return images.to(torch.float32)
