"""How long a free instance waits for a fuller batch. Arithmetic only: no clock, no queue, no threads.

Without a wait, a tiny model computes batches of one row; a fixed delay slows down a lone client. Either costs a
factor of 3 to 5. So the wait adapts: a client that was just answered tends to send the next request, so if fewer
requests are in flight than recently, the others are probably on their way.
"""

from __future__ import annotations

import math
from typing import Final

MAX_WAIT_S: Final = 0.002  # about the time the event loop takes to receive a dozen requests
_MEMORY_S: Final = 0.05  # time constant with which the number of recent requests decays


class Pacing:
    """Computes how long to wait, for one model.

    Args:
        max_delay_s: how long the oldest row may wait for a fuller batch while an instance is free; None adapts the
            wait to the requests in flight.
    """

    def __init__(self, max_delay_s: float | None) -> None:
        self.max_delay_s = max_delay_s
        self._crowd = 0.0  # requests in flight at once, recently
        self._seen = 0.0  # when that was updated

    def arrived(self, now: float, requests_in_flight: int) -> None:
        """Records a new request; `requests_in_flight` includes it."""
        self._crowd = max(requests_in_flight, self._crowd * math.exp((self._seen - now) / _MEMORY_S))
        self._seen = now

    @property
    def crowded(self) -> bool:
        """Whether more than one request was in flight at once recently, as of the newest request."""
        return self._crowd >= 2

    def wait_until(self, oldest: float, earliest_deadline: float, requests_here: int) -> float | None:
        """The time until which to wait for a fuller batch, on the caller's clock; None to start one now.

        Args:
            oldest: arrival of the oldest waiting row.
            earliest_deadline: the earliest deadline of all waiting rows.
            requests_here: number of requests that wait or are being computed.
        """
        if self.max_delay_s is None:
            due = oldest + MAX_WAIT_S if requests_here < math.floor(self._crowd) else oldest
        else:
            due = oldest + self.max_delay_s
        # Waiting right up to a deadline would waste the rows, so an urgent request starts the batch for all.
        return None if due <= oldest or earliest_deadline <= due else due

    def nothing_arrived(self, requests_here: int) -> None:
        """Corrects the estimate after a wait in which no request arrived."""
        self._crowd = min(self._crowd, requests_here)
