"""Latents of a traversal sheet, which varies single latent dimensions: one line per dimension and value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

USUAL_DIMENSIONS: Final = (5, 25, 45, 65, 85)
USUAL_VALUES: Final = (-3.0, 0.0, 3.0)
USUAL_LATENTS: Final = 8


def usual_dimensions(latent_dim: int) -> tuple[int, ...]:
    """`USUAL_DIMENSIONS`, or as many evenly spaced ones for a smaller latent."""
    fit = latent_dim > max(USUAL_DIMENSIONS)
    return USUAL_DIMENSIONS if fit else tuple(spread_dimensions(latent_dim, len(USUAL_DIMENSIONS)))


def spread_dimensions(latent_dim: int, count: int) -> list[int]:
    """At most `count` evenly spaced dimensions, each in the middle of its part: 2 of 10 are 2 and 7."""
    count = min(latent_dim, count)
    return [(2 * part + 1) * latent_dim // (2 * count) for part in range(count)]


def sheet_latents(latents: ArrayLike, dimensions: Sequence[int], values: ArrayLike) -> NDArray[np.float32]:
    """Repeats `latents` for each of `dimensions` and `values`, with that coordinate set to that value.

    Args:
        latents: (rows, dim).
        dimensions: Each in 0 .. dim - 1.
        values: (values,), the values of each of these coordinates.

    Returns:
        float32 (len(dimensions) * len(values) * rows, dim): the lines of the sheet in order, one column per latent.
    """
    rows, settings = np.asarray(latents), np.asarray(values)
    sheet = np.empty((len(dimensions), len(settings), *rows.shape), np.float32)
    sheet[:] = rows
    for line, dimension in enumerate(dimensions):
        sheet[line, :, :, dimension] = settings[:, np.newaxis]
    return sheet.reshape(-1, rows.shape[1])


def line_labels(dimensions: Sequence[int], values: Sequence[float]) -> list[str]:
    """The label of each line of the sheet."""
    return [f"dim {dimension} = {value:g}" for dimension in dimensions for value in values]
