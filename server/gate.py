"""Lets requests in or refuses them, and counts those inside."""

from __future__ import annotations

import asyncio
from typing import Literal

from server.errors import Unavailable


class Gate:
    """Refuses requests while the server starts, and new messages of streams while it drains.

    For the event loop only.

    Attributes:
        state: where the server is: starting, ready, stopping (it still lets requests in) or draining.
        inside: number of requests that entered and have not left.
        entered: number of requests that have entered since the start.
    """

    def __init__(self) -> None:
        self.state: Literal["starting", "ready", "stopping", "draining"] = "starting"
        self.inside = self.entered = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_open(self) -> bool:
        """Whether requests may enter."""
        return self.state in ("ready", "stopping")

    @property
    def is_ready(self) -> bool:
        """Whether callers should send requests: false before a stop, although the gate stays open for a while."""
        return self.state == "ready"

    def open(self) -> None:
        """Lets requests in, unless the server is already draining."""
        if self.state == "starting":
            self.state = "ready"

    def retire(self) -> None:
        """Makes the server not ready, for good, so that callers go elsewhere. Requests may still enter."""
        if self.state == "ready":
            self.state = "stopping"

    def drain(self) -> None:
        """From now on, refuses new messages of streams, and lets in only the calls that gRPC has accepted already."""
        self.state = "draining"

    def enter(self, *, in_stream: bool = False) -> None:
        """Counts a request in; `leave` must follow.

        Args:
            in_stream: whether it is a message of a stream, which could go on forever, and not a call of its own.

        Raises:
            Unavailable: the gate is closed.
        """
        if self.state == "starting":
            raise Unavailable("the server is starting: wait until its health is SERVING, or try another replica")
        # gRPC accepts no call while the server drains, so another one that comes in was accepted before: some of its
        # bytes were still on the way. Its caller may not be able to repeat it.
        if self.state == "draining" and in_stream:
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
