"""Draws latents from a seed.

This is part of the wire contract (`SeededLatents` in proto/ganserve/v1/generator.proto): client, server, trainer and
exporter draw the same rows from the same seed. Depends on NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The distributions of latents, by the names that cards and the wire use:
#   normal            every number from N(0, 1)
#   uniform           every number from -1 .. 1, as in the DCGAN paper (Radford et al., 2015, arXiv:1511.06434)
#   sphere            every latent from the unit sphere: a normal latent, divided by its length
#   truncated-normal  every number from N(0, 1), drawn again while beyond -2 .. 2, as for BigGAN (Brock et al., 2018,
#                     arXiv:1809.11096)
DISTRIBUTIONS: Final = ("normal", "uniform", "sphere", "truncated-normal")
NORMAL: Final = DISTRIBUTIONS[0]

_TRUNCATED_AT: Final = 2.0
_SKIPPED_VALUES: Final = 1 << 18  # drawn at a time to reach a later row: 1 MiB


def latents_from_seed(seed: int, count: int, latent_dim: int, distribution: str = NORMAL) -> NDArray[np.float32]:
    """Draws latents, shape (count, latent_dim), float32, from NumPy's PCG64 generator.

    Row i depends only on `seed`, `latent_dim`, `distribution` and i, so a larger count appends rows and changes none.

    Raises:
        ValueError: `seed` is outside 0 .. 2**64 - 1, `count` or `latent_dim` is negative, or `distribution` is not one
            of `DISTRIBUTIONS`.
    """
    return _Stream(seed, latent_dim, distribution).take(count)


def latents_in_pieces(
    seed: int, first_row: int, count: int, latent_dim: int, max_piece_rows: int, distribution: str = NORMAL
) -> Iterator[NDArray[np.float32]]:
    """Draws rows first_row .. first_row + count - 1 of `latents_from_seed`, one piece at a time.

    Only one piece is in memory. Earlier rows are drawn and dropped, because a normal number takes a variable amount of
    the random stream.

    Yields:
        float32 (rows, latent_dim), with `max_piece_rows` rows; the last piece may have fewer.

    Raises:
        ValueError: `seed` is outside 0 .. 2**64 - 1, `distribution` is not one of `DISTRIBUTIONS`, or another number is
            out of range.
    """
    if min(first_row, count) < 0 or min(latent_dim, max_piece_rows) < 1:
        raise ValueError(
            "first_row and count must be at least 0, latent_dim and max_piece_rows at least 1, not"
            f" {first_row}, {count}, {latent_dim} and {max_piece_rows}"
        )
    stream = _Stream(seed, latent_dim, distribution)
    for piece_rows in _sizes(first_row, max(1, _SKIPPED_VALUES // latent_dim)):
        stream.take(piece_rows)
    for piece_rows in _sizes(count, max_piece_rows):
        yield stream.take(piece_rows)


class _Stream:
    """The endless rows of a seed; arguments as of `latents_from_seed`."""

    def __init__(self, seed: int, latent_dim: int, distribution: str) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be in 0 .. 2**64 - 1, not {seed}")
        if distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, not {distribution!r}")
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._latent_dim = latent_dim
        self._distribution = distribution
        self._left = np.empty(0, np.float32)  # truncated numbers that the rows so far did not need

    def take(self, rows: int) -> NDArray[np.float32]:
        """The next rows, float32 (rows, latent_dim)."""
        shape = (rows, self._latent_dim)
        if self._distribution == "uniform":
            drawn = self._generator.random(shape, dtype=np.float32)
            return np.subtract(2 * drawn, 1, dtype=np.float32)
        if self._distribution == "truncated-normal":
            return self._truncated(rows * self._latent_dim).reshape(shape)
        drawn = self._generator.standard_normal(shape, dtype=np.float32)
        if self._distribution == "sphere":
            # In float64, so that the squares of no row underflow to zero.
            exact = drawn.astype(np.float64)
            drawn = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
        return drawn

    def _truncated(self, count: int) -> NDArray[np.float32]:
        """The next numbers of the normal stream within the bounds: the same, in whichever pieces they are drawn."""
        parts, found = [self._left], len(self._left)
        while found < count:
            # About 4.6% lie beyond the bounds; a little more than that is drawn.
            drawn = self._generator.standard_normal((count - found) * 11 // 10 + 16, dtype=np.float32)
            parts.append(drawn[np.abs(drawn) <= _TRUNCATED_AT])
            found += len(parts[-1])
        numbers = np.concatenate(parts)
        self._left = numbers[count:].copy()
        return numbers[:count]


def _sizes(rows: int, max_rows: int) -> Iterator[int]:
    while rows > 0:
        yield min(rows, max_rows)
        rows -= max_rows
