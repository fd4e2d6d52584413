"""What a seed means: the latents that client and server draw from it, and so the images it stands for.

This is part of the wire contract (`SeededLatents` in proto/ganserve/v1/generator.proto): client, server, trainer and
exporter must all draw the same rows, so there is one function. It must never depend on anything but NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def latents_from_seed(seed: int, count: int, latent_dim: int) -> NDArray[np.float32]:
    """Draws standard normal latents, shape (count, latent_dim), float32, from NumPy's PCG64 generator.

    Row i depends on `seed`, `latent_dim` and i alone: a larger count appends rows and changes none.

    Raises:
        ValueError: `seed` lies outside 0 .. 2**64 - 1, or `count` or `latent_dim` is negative.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in 0 .. 2**64 - 1, not {seed}")
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.standard_normal((count, latent_dim), dtype=np.float32)
