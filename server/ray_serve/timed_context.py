"""A gRPC context in Ray's proxy whose metadata tells the time that the client still waits."""

from __future__ import annotations

from typing import Any, Final

from server.fronts.base import Metadata

TIMEOUT_KEY: Final = "x-ganserve-timeout-ms"
"""Metadata from the proxy to a replica: milliseconds until the deadline of the call."""


class TimedContext:
    """Passes everything on to the context of gRPC, except that its metadata has the deadline.

    Ray copies the metadata of a call to the replica, but not its deadline. Without a deadline, a replica computes rows
    for callers that have given up.

    Args:
        context: the context of grpc.aio.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def invocation_metadata(self) -> Metadata:
        """Returns what the client sent, with `TIMEOUT_KEY` if the call has a deadline; a client cannot set that key."""
        sent = [(key, value) for key, value in self._context.invocation_metadata() or () if key != TIMEOUT_KEY]
        remaining_s = self._context.time_remaining()
        return sent if remaining_s is None else [*sent, (TIMEOUT_KEY, str(max(0, int(1000 * remaining_s))))]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
