"""To how many rows a batch is padded, for engines that are only fast at a few sizes. Pure functions; no runtime."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def batch_sizes(max_rows: int) -> tuple[int, ...]:
    """The powers of two below `max_rows`, and `max_rows`: less than half of what is computed is padding.

    Raises:
        ValueError: max_rows < 1.
    """
    if max_rows < 1:
        raise ValueError(f"max_rows = {max_rows}: a batch has at least 1 row")
    return (*(1 << exponent for exponent in range((max_rows - 1).bit_length())), max_rows)


def padded_rows(rows: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes`, which ascend, that holds so many rows.

    Raises:
        ValueError: none does, or rows < 1.
    """
    index = bisect_left(sizes, rows)
    if rows < 1 or index == len(sizes):
        raise ValueError(f"a batch of {rows} rows: this engine computes 1 to {sizes[-1]}")
    return sizes[index]
