"""A call that does not come from gRPC: over HTTP, from the same process, or from another framework."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.fronts.base import Metadata


class HostedCall:
    """What the core asks about a call. For the event loop only, except `time_remaining`.

    Args:
        timeout_s: the time that the caller waits from now on, in seconds; None without a limit.
        metadata: what the caller sent beside the message, as gRPC would: lower-case keys and their values.
        peer: who it is, for the access log.
    """

    def __init__(self, timeout_s: float | None = None, metadata: Metadata = (), peer: str = "local") -> None:
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._metadata = metadata
        self._peer = peer
        self._callbacks: list[Callable[[], object]] = []
        self._has_ended = False

    def invocation_metadata(self) -> Metadata:
        """Returns the metadata that the caller sent."""
        return self._metadata

    def peer(self) -> str:
        """Returns who the caller is."""
        return self._peer

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline, at least 0; None without a deadline."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic())

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Calls back at `end`."""
        if self._has_ended:
            callback()
        else:
            self._callbacks.append(callback)

    def end(self) -> None:
        """Tells that the answer is sent, or that nobody waits for it. The host must call this. Safe to call twice."""
        self._has_ended = True
        while self._callbacks:
            self._callbacks.pop(0)()
