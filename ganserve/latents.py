"""Draws latents from a seed.

This is part of the wire contract (`SeededLatents` in proto/ganserve/v1/generator.proto): client, server, trainer and
exporter draw the same rows from the same seed. Depends on NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SKIPPED_VALUES: Final = 1 << 18  # drawn at a time to reach a later row: 1 MiB


def latents_from_seed(seed: int, count: int, latent_dim: int) -> NDArray[np.float32]:
    """Draws standard normal latents, shape (count, latent_dim), float32, from NumPy's PCG64 generator.

    Row i depends only on `seed`, `latent_dim` and i, so a larger count appends rows and changes none.

    Raises:
        ValueError: `seed` is outside 0 .. 2**64 - 1, or `count` or `latent_dim` is negative.
    """
    return _generator(seed).standard_normal((count, latent_dim), dtype=np.float32)


def latents_in_pieces(
    seed: int, first_row: int, count: int, latent_dim: int, max_piece_rows: int
) -> Iterator[NDArray[np.float32]]:
    """Draws rows first_row .. first_row + count - 1 of `latents_from_seed`, one piece at a time.

    Only one piece is in memory. Earlier rows are drawn and dropped, because a normal number takes a variable amount of
    the random stream.

    Yields:
        float32 (rows, latent_dim), with `max_piece_rows` rows; the last piece may have fewer.

    Raises:
        ValueError: `seed` is outside 0 .. 2**64 - 1, or another number is out of range.
    """
    if min(first_row, count) < 0 or min(latent_dim, max_piece_rows) < 1:
        raise ValueError(
            "first_row and count must be at least 0, latent_dim and max_piece_rows at least 1, not"
            f" {first_row}, {count}, {latent_dim} and {max_piece_rows}"
        )
    generator = _generator(seed)
    for piece_rows in _sizes(first_row, max(1, _SKIPPED_VALUES // latent_dim)):
        generator.standard_normal((piece_rows, latent_dim), dtype=np.float32)
    for piece_rows in _sizes(count, max_piece_rows):
        yield generator.standard_normal((piece_rows, latent_dim), dtype=np.float32)


def _generator(seed: int) -> np.random.Generator:
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0 .. 2**64 - 1, not {seed}")
    return np.random.Generator(np.random.PCG64(seed))


def _sizes(rows: int, max_rows: int) -> Iterator[int]:
    while rows > 0:
        yield min(rows, max_rows)
        rows -= max_rows
