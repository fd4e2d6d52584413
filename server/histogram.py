"""Counts of values by size: all that a Prometheus histogram is, without the cost of its client. Knows no metric."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

LATENCY_BOUNDS_S: Final = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01),
    *(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class Histogram:
    """Counts values in buckets.

    Args:
        bounds: of the buckets, ascending; a value equal to one counts below it, and one above all has a bucket too.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add(self, other: Histogram) -> None:
        """Counts all that another one of the same bounds has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def cumulative(self) -> list[int]:
        """How many values are at most each bound, and at last how many there are."""
        return list(accumulate(self.counts))
