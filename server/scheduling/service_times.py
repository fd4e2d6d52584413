"""Estimates how long a model takes for a number of rows, from the batches that it computed. Arithmetic only."""

from __future__ import annotations

import math
from typing import Final

_MIN_RETRY_MS: Final = 10
_LEARNING_RATE: Final = 0.2


class ServiceTimes:
    """Learns the time of a batch by its size, and the rows per second of all instances together.

    Sizes within a factor of two share an estimate. For a size that was never computed, the estimate is the most
    optimistic one that the others allow, so that no request is refused before the model was tried on it.
    """

    def __init__(self) -> None:
        self._row_s: dict[int, float] = {}  # seconds per row of one batch, by the bit length of its rows
        self.rows_per_s = 0.0  # at the most efficient size; 0 until a batch was computed

    def computed(self, rows: int, seconds: float, batches_at_once: int) -> None:
        """Records a batch, and how many such batches run in parallel."""
        size, row_s = rows.bit_length(), max(seconds, 1e-6) / rows
        known = self._row_s.get(size)
        self._row_s[size] = row_s if known is None else known + _LEARNING_RATE * (row_s - known)
        self.rows_per_s = batches_at_once / min(self._row_s.values())

    def batch_s(self, rows: int) -> float:
        """Estimates the seconds that one instance takes for a batch; 0 if nothing is known."""
        size = rows.bit_length()
        if (row_s := self._row_s.get(size)) is not None:
            return rows * row_s
        larger = min((known for known in self._row_s if known > size), default=None)
        if larger is not None:
            return rows * self._row_s[larger]
        if self._row_s:  # larger than any batch so far, so it takes at least as long as the largest of those
            largest = max(self._row_s)
            return self._row_s[largest] * (1 << (largest - 1))
        return 0.0

    def rows_s(self, rows: int) -> float:
        """Estimates the seconds that all instances take for rows that wait in the queue; 0 if nothing is known."""
        return rows / self.rows_per_s if self.rows_per_s else 0.0

    def request_s(self, rows: int, max_batch_rows: int) -> float:
        """Estimates the seconds from the start of the first batch of a request to the end of the last one."""
        return max(self.batch_s(min(rows, max_batch_rows)), self.rows_s(rows))

    def retry_after_ms(self, rows: int) -> int:
        """Estimates the milliseconds until `rows` waiting rows are computed, for clients that try again."""
        return max(_MIN_RETRY_MS, math.ceil(1e3 * self.rows_s(rows)))
