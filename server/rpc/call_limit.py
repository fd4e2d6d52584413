"""Bounds the calls that are in the server at once. For the event loop only."""

from __future__ import annotations

from typing import Final

from server.errors import QueueFull

RETRY_AFTER_MS: Final = 1000  # one process answers at most some ten thousand calls in that time


class CallLimit:
    """Counts the calls that entered and have not left, from before their message is received until they are answered.

    Args:
        max_calls: the most that may be inside.
    """

    def __init__(self, max_calls: float) -> None:
        self._max_calls = max_calls
        self._inside = 0

    @property
    def inside(self) -> int:
        """Number of calls inside."""
        return self._inside

    def enter(self) -> None:
        """Counts a call in; `leave` must follow.

        Raises:
            QueueFull: the server has as many calls as it may have.
        """
        if self._inside >= self._max_calls:
            raise QueueFull(
                f"the server is already answering {self._inside} requests, the most it takes at once (setting"
                " max_concurrent_requests): try again after a pause",
                RETRY_AFTER_MS,
            )
        self._inside += 1

    def leave(self) -> None:
        """Counts a call out."""
        self._inside -= 1
