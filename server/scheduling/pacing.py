"""How long an engine that is free should wait for a fuller batch. Arithmetic alone: no clock, no queue, no threads.

Always taking what is there makes batches of one for tiny models, and a fixed delay punishes a lone caller; both cost a
factor of 3 to 5. So it waits only for callers that are likely to come: whoever was answered a moment ago tends to ask
again, and as long as fewer requests are here than were lately, the others are on their way.
"""

from __future__ import annotations

import math
from typing import Final

MAX_WAIT_S: Final = 0.002  # about as long as the event loop takes to receive a dozen requests
_MIN_RETRY_MS: Final = 10
_LEARNING_RATE: Final = 0.1
_MEMORY_S: Final = 0.05  # after so long a crowd that was seen counts only 1/e


class Pacing:
    """Says until when to wait, for one model.

    Args:
        max_delay_s: how long the oldest row may wait for a fuller batch although an engine is free; None adapts the
            wait to what is in flight.
    """

    def __init__(self, max_delay_s: float | None) -> None:
        self.max_delay_s = max_delay_s
        self._crowd = 0.0  # how many requests were in flight at once lately
        self._seen = 0.0

    def arrived(self, now: float, requests_in_flight: int) -> None:
        """Takes note of a new request; it is in flight itself."""
        self._crowd = max(requests_in_flight, self._crowd * math.exp((self._seen - now) / _MEMORY_S))
        self._seen = now

    @property
    def crowded(self) -> bool:
        """Whether more than one request was in flight at once lately; as of the newest one."""
        return self._crowd >= 2

    def wait_until(self, oldest: float, earliest_deadline: float, requests_here: int) -> float | None:
        """Until when a fuller batch is worth waiting for, on the caller's clock; None if one should go now.

        Args:
            oldest: when the oldest waiting row came.
            earliest_deadline: of all waiting rows.
            requests_here: how many requests wait or are being computed.
        """
        if self.max_delay_s is None:
            due = oldest + MAX_WAIT_S if requests_here < math.floor(self._crowd) else oldest
        else:
            due = oldest + self.max_delay_s
        # Waiting right up to a deadline would only waste the rows, so a request in a hurry takes the others along.
        return None if due <= oldest or earliest_deadline <= due else due

    def waited_in_vain(self, requests_here: int) -> None:
        """Corrects the guess: those who were waited for did not come."""
        self._crowd = min(self._crowd, requests_here)


class Throughput:
    """Estimates how many rows a model computes a second while it computes, to tell callers when to come back."""

    def __init__(self) -> None:
        self._rows_a_second = 0.0

    def computed(self, rows: int, seconds: float) -> None:
        """Takes note of so many rows, those of engines side by side together."""
        rate = rows / max(seconds, 1e-6)
        share = _LEARNING_RATE if self._rows_a_second else 1.0
        self._rows_a_second += share * (rate - self._rows_a_second)

    def milliseconds_for(self, rows: int) -> int:
        """How long so many rows take."""
        if not self._rows_a_second:
            return _MIN_RETRY_MS
        return max(_MIN_RETRY_MS, math.ceil(1e3 * rows / self._rows_a_second))
