"""The HTTP port of a server."""

from __future__ import annotations

import asyncio
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from uvicorn.server import ServerState

from server.config import Address
from server.http.app import HttpApp
from server.http.listener import Listener, listen_on
from server.http.protocol import OneRequestProtocol, uvicorn_config


class HttpEndpoint:
    """Serves an ASGI application over HTTP/1.1 in its own thread, from construction to `close`.

    Args:
        app: the application.
        address: where to listen; port 0 picks a free one.
        tls: encrypts the port, if given. Certificates loaded into it later hold for new connections.
        **limits: of the `Listener`.

    Attributes:
        address: with the real port.
        url: of the root, with the real port.

    Raises:
        OSError: the address is not available.
    """

    def __init__(self, app: HttpApp, address: Address, tls: ssl.SSLContext | None = None, **limits: Any) -> None:
        self._listening = listen_on(address)
        self.address = Address(address.host, self._listening.getsockname()[1])
        self.url = f"{'http' if tls is None else 'https'}://{self.address}"
        self._tls = tls
        self._limits = limits
        self._config = uvicorn_config(app, OneRequestProtocol)
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening, drops the open connections, and waits for the thread. Safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_default_executor(ThreadPoolExecutor(1, "scrape"))  # more would only wait for each other
        state = ServerState()
        listener = Listener(
            self._listening,
            lambda: OneRequestProtocol(config=self._config, server_state=state, app_state={}),
            self._tls,
            **self._limits,
        )
        listener.start()
        await self._closing.wait()
        await listener.close()
        if state.tasks:  # scrapes whose connection is gone; uvicorn would log the cancellation of one
            await asyncio.wait(state.tasks)
