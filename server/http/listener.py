"""Accepts HTTP connections, and bounds their number and their time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from server.http.protocol import OneRequestProtocol

MAX_CONNECTIONS: Final = 64
REQUEST_TIMEOUT_S: Final = 5.0  # from accepting a connection to the end of the request's head, TLS handshake included
ANSWER_TIMEOUT_S: Final = 30.0  # from then until the client has read the answer
_ACCEPT_PAUSE_S: Final = 0.1  # after a failed accept


class Listener:
    """Serves the connections of a listening socket with a protocol, on the running event loop.

    If too many connections are open, a new one replaces the one that has waited longest for its request. So clients
    that send their request at once are served, no matter how many others do not.

    Args:
        listening: a non-blocking socket that listens.
        make_protocol: makes the protocol of one connection.
        tls: encrypts the connections.
        max_connections: most connections at once.
        request_timeout_s: longest time until a request has arrived.
        answer_timeout_s: longest time from then until its answer is sent.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], OneRequestProtocol],
        tls: ssl.SSLContext | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._tls = tls
        self._max_connections = max_connections
        self._request_timeout_s = request_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._waiting: dict[asyncio.Task[None], None] = {}  # for their request; the oldest connection first
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accepts and serves connections until `close`."""
        self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        self._loop.remove_reader(self._listening)
        if self._resuming is not None:
            self._resuming.cancel()
        self._listening.close()
        tasks = [*self._waiting, *self._answering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # the client has left
            return
        except OSError:  # most likely no file descriptor is left
            self._loop.remove_reader(self._listening)
            self._resuming = self._loop.call_later(_ACCEPT_PAUSE_S, self.start)
            return
        if len(self._waiting) + len(self._answering) >= self._max_connections and not self._drop_oldest():
            connection.close()
            return
        task = self._loop.create_task(self._serve(connection))
        self._waiting[task] = None
        task.add_done_callback(partial(self._ended, connection))

    def _drop_oldest(self) -> bool:
        task = next(iter(self._waiting), None)
        if task is None:
            return False
        del self._waiting[task]
        return task.cancel()

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._waiting.pop(task, None)
        self._answering.discard(task)
        connection.close()  # a task that is cancelled before it begins closes nothing

    async def _serve(self, connection: socket.socket) -> None:
        protocol, task = self._make_protocol(), asyncio.current_task()
        assert task is not None
        try:
            with suppress(OSError):  # a client that is too slow, has left, or fails the TLS handshake
                async with asyncio.timeout(self._request_timeout_s):
                    await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
                    await protocol.request_arrived.wait()
                self._waiting.pop(task, None)
                self._answering.add(task)
                async with asyncio.timeout(self._answer_timeout_s):
                    await protocol.closed.wait()
        finally:
            protocol.abort()
