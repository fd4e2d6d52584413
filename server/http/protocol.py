"""One HTTP connection, which carries one request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol


class OneRequestProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol, which also tells how far the connection is.

    Attributes:
        request_arrived: set once the head of the request is complete, or the connection is gone.
        answered: set once the request is answered: here, once the connection is gone.
        closed: set once the connection is gone.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.request_arrived = asyncio.Event()
        self.closed = self.answered = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Parses received bytes."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
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


def uvicorn_config(app: Any, protocol: type[H11Protocol], **settings: Any) -> Config:
    """Returns the settings of uvicorn for an ASGI application and a protocol: without its logs and lifecycle."""
    config = Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
        log_level="error",  # without a warning for every request that is not HTTP
        access_log=False,
        **settings,
    )
    config.load()
    return config
