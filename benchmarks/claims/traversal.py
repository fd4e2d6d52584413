"""How single coordinates of the latent change an image (Fashion-MNIST write-up: -3, 0 and 3 along some of them)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.claims.statistics import Floats

REACH = 3.0  # each coordinate is set to minus and plus this value


@dataclass(frozen=True)
class LatentEffects:
    """How images change between -3 and +3 of each coordinate, as a share of the range from black to white."""

    change: Floats  # (latent_dim,): mean over latents and pixels
    map: Floats  # (H, W): mean over coordinates and latents


def latent_effects(generate: Callable[[Tensor], Tensor], latents: Tensor) -> LatentEffects:
    """Moves one coordinate of the given latents at a time.

    Args:
        generate: latents (N, latent_dim) -> images (N, C, H, W) in [-1, 1].
        latents: (N, latent_dim), the starting points.
    """
    changes, maps = [], []
    for coordinate in range(latents.shape[1]):
        ends = []
        for value in (-REACH, REACH):
            moved = latents.clone()
            moved[:, coordinate] = value
            ends.append(generate(moved))
        difference = ((ends[1] - ends[0]) / 2).abs().mean((0, 1)).double().cpu()  # (H, W)
        changes.append(difference.mean().item())
        maps.append(difference)
    return LatentEffects(np.array(changes), torch.stack(maps).mean(0).numpy())


def change_by_region(change_map: Floats) -> dict[str, float]:
    """Mean change in the top third, the middle ninth and the outer sixth, over the mean change; 1: no different."""
    height, width = change_map.shape
    mean = change_map.mean()
    if not mean > 0:
        return {"top": 1.0, "centre": 1.0, "border": 1.0}
    border = np.ones_like(change_map, dtype=bool)
    border[round(height / 6) : height - round(height / 6), round(width / 6) : width - round(width / 6)] = False
    regions = {
        "top": change_map[: round(height / 3)],
        "centre": change_map[round(height / 3) : round(height * 2 / 3), round(width / 3) : round(width * 2 / 3)],
        "border": change_map[border],
    }
    return {name: float(region.mean() / mean) for name, region in regions.items()}
