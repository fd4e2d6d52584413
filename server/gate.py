"""Lets requests in or refuses them, and counts those inside."""

from __future__ import annotations

import asyncio

from server.errors import Unavailable


class Gate:
    """Closed while the server starts, open while it serves, closed for good once it drains. For the event loop only.

    Attributes:
        inside: number of requests that entered and have not left.
    """

    def __init__(self) -> None:
        self._refusal: str | None = "the server is starting: wait until its health is SERVING, or try another replica"
        self._retired = self._draining = False
        self.inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_open(self) -> bool:
        """Whether requests may enter."""
        return self._refusal is None

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
        if not self._draining:
            self._refusal = None

    def retire(self) -> None:
        """Tells callers to go elsewhere, for good. Requests may still enter."""
        self._retired = True

    def drain(self) -> None:
        """Refuses every request from now on."""
        self._retired = self._draining = True
        self._refusal = "the server is draining: try another replica"

    def enter(self) -> None:
        """Counts a request in; `leave` must follow.

        Raises:
            Unavailable: the gate is closed.
        """
        if self._refusal is not None:
            raise Unavailable(self._refusal)
        self.inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """Counts a request out."""
        self.inside -= 1
        if not self.inside:
            self._empty.set()

    async def wait_until_empty(self) -> None:
        """Returns when no request is inside."""
        await self._empty.wait()
