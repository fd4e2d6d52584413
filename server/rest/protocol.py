"""One HTTP connection of the API, which carries any number of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import h11

from server.http.protocol import OneRequestProtocol

STATE: Final = "connection"  # the key of the protocol in the state of an ASGI scope
UPLOAD_GRACE_S: Final = 5.0  # for the rest of a body that nobody reads, so that its sender reads the answer


class KeepAliveProtocol(OneRequestProtocol):
    """Uvicorn's HTTP/1.1 protocol, which ends the work for a client that has left.

    Attributes:
        answered: set once a request is answered, or the connection is gone.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.answered = asyncio.Event()
        self.app_state = {STATE: self}
        self._working: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begins with the connection."""
        super().connection_made(transport)
        # So that `flow` tells when the kernel has everything. With 0, a TLS transport never writes again.
        transport.set_write_buffer_limits(1, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request, if it is still being answered."""
        super().connection_lost(exc)
        self.answered.set()
        if self._working is not None:
            self._working.cancel()

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        self.request_arrived.clear()
        ended = self.cycle
        super().on_response_complete()  # may begin with a request that has arrived already
        if self.cycle is not ended:
            self.request_arrived.set()
        elif self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(UPLOAD_GRACE_S, self._end_upload, ended)
        self.answered.set()

    def _end_upload(self, ended: Any) -> None:
        if self.cycle is ended and self.conn.their_state is h11.SEND_BODY:
            self.abort()

    @contextmanager
    def cancels(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Cancels a task if the connection is lost before the context exits."""
        self._working = task
        try:
            yield
        finally:
            self._working = None

    async def sent(self) -> None:
        """Returns once the kernel has everything that was sent, or the connection is gone."""
        await self.flow.drain()
