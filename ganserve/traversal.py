"""What single dimensions of the latents do: the sheet that trainer and client draw, a line a dimension and value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

USUAL_DIMENSIONS: Final = (5, 25, 45, 65, 85)
USUAL_VALUES: Final = (-3.0, 0.0, 3.0)
USUAL_LATENTS: Final = 8


def usual_dimensions(latent_dim: int) -> tuple[int, ...]:
    """`USUAL_DIMENSIONS`, or as many of a latent that does not have them."""
    fit = latent_dim > max(USUAL_DIMENSIONS)
    return USUAL_DIMENSIONS if fit else tuple(spread_dimensions(latent_dim, len(USUAL_DIMENSIONS)))


def spread_dimensions(latent_dim: int, count: int) -> list[int]:
    """At most `count` dimensions of a latent, evenly spread, each in the middle of its part: 10 and 2 give 2 and 7."""
    count = min(latent_dim, count)
    return [(2 * part + 1) * latent_dim // (2 * count) for part in range(count)]


def sheet_latents(latents: ArrayLike, dimensions: Sequence[int], values: ArrayLike) -> NDArray[np.float32]:
    """All `latents` again for each of `dimensions` and `values`, with that one coordinate set to that value.

    Args:
        latents: (rows, dim).
        dimensions: each in 0 .. dim - 1.
        values: (values,), what each of these coordinates is set to.

    Returns:
        float32 (len(dimensions) * len(values) * rows, dim): line after line of the sheet, a column for each latent.
    """
    rows, settings = np.asarray(latents), np.asarray(values)
    sheet = np.empty((len(dimensions), len(settings), *rows.shape), np.float32)
    sheet[:] = rows
    for line, dimension in enumerate(dimensions):
        sheet[line, :, :, dimension] = settings[:, np.newaxis]
    return sheet.reshape(-1, rows.shape[1])


def line_labels(dimensions: Sequence[int], values: Sequence[float]) -> list[str]:
    """What stands beside each line of the sheet."""
    return [f"dim {dimension} = {value:g}" for dimension in dimensions for value in values]
