"""One HTTP connection, which carries one request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class OneRequestProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol, which also tells how far the connection is.

    Attributes:
        request_arrived: set once the head of the request is complete, or the connection is gone.
        closed: set once the connection is gone.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.request_arrived = asyncio.Event()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Parses received bytes."""
        super().data_received(data)
        if self.cycle is not None:
            self.request_arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request, if it is still being answered."""
        super().connection_lost(exc)
        self.request_arrived.set()
        self.closed.set()

    def abort(self) -> None:
        """Closes the connection at once, without sending what is left."""
        if self.transport is not None and not self.closed.is_set():
            self.transport.abort()
