"""The port of the HTTP API, on the running event loop."""

from __future__ import annotations

import asyncio
import math
import ssl
from contextlib import suppress
from typing import Any, Final

from uvicorn.server import ServerState

from server.config import Address
from server.http.listener import Listener, listen_on
from server.http.protocol import uvicorn_config
from server.rest.protocol import KeepAliveProtocol

REQUEST_TIMEOUT_S: Final = 10.0  # from accepting a connection to the end of its first request's head
FIRST_REQUEST_S: Final = 1.0  # for the requests of new connections, once the host stops
IDLE_TIMEOUT_S: Final = 75.0  # from an answer to the end of the next request's head; longer than proxies keep one


class RestHost:
    """Serves an ASGI application over HTTP/1.1, from `start` to `stop`. Connections carry any number of requests.

    Args:
        app: the application; it finds the connection of a request in the state of its scope.
        max_connections: most connections at once; a new one replaces the one that has waited longest for a request.
        tls: encrypts the port, if given.
    """

    def __init__(self, app: Any, max_connections: int, tls: ssl.SSLContext | None = None) -> None:
        self._max_connections = max_connections
        self._tls = tls
        self._config = uvicorn_config(app, KeepAliveProtocol, timeout_keep_alive=math.ceil(IDLE_TIMEOUT_S))
        self._state = ServerState()
        self._listener: Listener | None = None

    def start(self, address: Address) -> None:
        """Listens, and serves the connections.

        Raises:
            OSError: the address is not available.
        """
        self._listener = Listener(
            listen_on(address),
            lambda: KeepAliveProtocol(config=self._config, server_state=self._state, app_state={}),
            self._tls,
            max_connections=self._max_connections,
            request_timeout_s=REQUEST_TIMEOUT_S,
            answer_timeout_s=None,  # bounded by the deadline of the request, and by the pace of its client
            idle_timeout_s=IDLE_TIMEOUT_S,
        )
        self._listener.start()

    async def stop(self, grace_s: float | None) -> None:
        """Accepts no request from now on, and returns once all have ended. May be called again, with less grace.

        Args:
            grace_s: cuts off requests that have not ended after this time; None cuts them off now, infinity never.
        """
        if self._listener is None:
            return
        self._listener.stop_accepting()
        for connection in list(self._state.connections):
            if isinstance(connection, KeepAliveProtocol) and connection.cycle is not None:
                connection.shutdown()  # now if it is idle, otherwise after its answer
        with suppress(TimeoutError):
            async with asyncio.timeout(None if grace_s == math.inf else grace_s or 0):
                with suppress(TimeoutError):
                    async with asyncio.timeout(FIRST_REQUEST_S):
                        await self._listener.wait_until_closed()
                self._listener.drop_waiting()
                await self._listener.wait_until_closed()
        await self._listener.close()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks)
