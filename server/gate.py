"""Lets requests in or refuses them, and counts those inside."""

from __future__ import annotations

import asyncio

from server.errors import Unavailable


class Gate:
    """Closed while the server starts, open while it serves, not ready before it stops, then draining.

    For the event loop only.

    Attributes:
        inside: number of requests that entered and have not left.
        entered: number of requests that have entered since the start.
    """

    def __init__(self) -> None:
        self._opened = self._retired = self._draining = False
        self.inside = self.entered = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_open(self) -> bool:
        """Whether requests may enter."""
        return self._opened and not self._draining

    @property
    def is_ready(self) -> bool:
        """Whether callers should send requests: false before a stop, although the gate stays open for a while."""
        return self.is_open and not self._retired

    @property
    def is_draining(self) -> bool:
        """Whether the server finishes its last requests."""
        return self._draining

    def open(self) -> None:
        """Lets requests in, unless the server is already draining."""
        self._opened = True

    def retire(self) -> None:
        """Tells callers to go elsewhere, for good. Requests may still enter."""
        self._retired = True

    def drain(self) -> None:
        """From now on, refuses new messages of streams, and lets in only the calls that gRPC has accepted already."""
        self._retired = self._draining = True

    def enter(self, *, in_stream: bool = False) -> None:
        """Counts a request in; `leave` must follow.

        Args:
            in_stream: whether it is a message of a stream, which could go on forever, and not a call of its own.

        Raises:
            Unavailable: the gate is closed.
        """
        if not self._opened:
            raise Unavailable("the server is starting: wait until its health is SERVING, or try another replica")
        # gRPC accepts no call while the server drains, so another one that comes in was accepted before: some of its
        # bytes were still on the way. Its caller may not be able to repeat it.
        if self._draining and in_stream:
            raise Unavailable("the server is draining: try another replica")
        self.inside += 1
        self.entered += 1
        self._empty.clear()

    def leave(self) -> None:
        """Counts a request out."""
        self.inside -= 1
        if not self.inside:
            self._empty.set()

    async def wait_until_empty(self) -> None:
        """Returns when no request is inside."""
        await self._empty.wait()
