"""Estimates how long a model takes for a number of rows, from the batches that it computed. Arithmetic only."""

from __future__ import annotations

import math
from typing import Final

_MIN_RETRY_MS: Final = 10
_LEARNING_RATE: Final = 0.2
_OUTLIER: Final = 4.0  # a batch counts as no slower than this many times the estimate: the machine may have slept
_SLACK: Final = 1.5  # how far sizes may deviate from what others let expect


class ServiceTimes:
    """Learns the time of a batch by its size, and the rows per second of all instances together.

    Sizes within a factor of two share an estimate. For a size that was never computed, the estimate is the most
    optimistic one that the others allow, so that no request is refused before the model was tried on it.
    """

    def __init__(self) -> None:
        # By the bit length of the rows of a batch.
        self._row_s: dict[int, float] = {}  # seconds per row of one batch
        self._batches_at_once: dict[int, int] = {}
        self.rows_per_s = 0.0  # at the most efficient size; 0 until a batch was computed

    def computed(self, rows: int, seconds: float, batches_at_once: int) -> None:
        """Records a batch, and how many such batches run in parallel."""
        size, row_s = rows.bit_length(), max(seconds, 1e-6) / rows
        change = 1.0
        if (known := self._row_s.get(size)) is not None:
            row_s = known + _LEARNING_RATE * (min(row_s, _OUTLIER * known) - known)
            change = row_s / known
        self._change_others(size, row_s, change)
        self._row_s[size] = row_s
        self._batches_at_once[size] = batches_at_once
        self.rows_per_s = max(self._batches_at_once[size] / row_s for size, row_s in self._row_s.items())

    def _change_others(self, newest: int, row_s: float, change: float) -> None:
        """Adapts the estimates of other sizes, which may not be computed for a long time.

        A model that becomes slower or faster does so for all sizes. And more rows take at least as long as fewer, but
        no longer in proportion.
        """
        for size, known in self._row_s.items():
            least, most = sorted((row_s, 2.0 ** (newest - size) * row_s))
            self._row_s[size] = min(max(change * known, least / _SLACK), most * _SLACK)

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
