"""Accepts HTTP connections, and bounds their number and their time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from server.config import Address
from server.http.protocol import OneRequestProtocol

MAX_CONNECTIONS: Final = 64
REQUEST_TIMEOUT_S: Final = 5.0  # from accepting a connection to the end of the request's head, TLS handshake included
ANSWER_TIMEOUT_S: Final = 30.0  # from then until the client has read the answer
_ACCEPT_PAUSE_S: Final = 0.1  # after a failed accept
_BACKLOG: Final = 1024


class Listener:
    """Serves the connections of a listening socket with a protocol, on the running event loop.

    If too many connections are open, a new one replaces the one that has waited longest for its request. So clients
    that send their request at once are served, no matter how many others do not. A connection waits again once its
    request is answered, unless the protocol closes it.

    Args:
        listening: a non-blocking socket that listens.
        make_protocol: makes the protocol of one connection.
        tls: encrypts the connections.
        max_connections: most connections at once.
        request_timeout_s: longest time until a request has arrived.
        answer_timeout_s: longest time from then until its answer is sent; None leaves that to the application.
        idle_timeout_s: longest time from then until the next request has arrived.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], OneRequestProtocol],
        tls: ssl.SSLContext | None = None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        answer_timeout_s: float | None = ANSWER_TIMEOUT_S,
        idle_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._listening = listening
        self._make_protocol = make_protocol
        self._tls = tls
        self._max_connections = max_connections
        self._request_timeout_s = request_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        # For their request; the one that has waited longest first.
        self._waiting: dict[asyncio.Task[None], OneRequestProtocol] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accepts and serves connections until `close`."""
        self._loop.add_reader(self._listening, self._accept)

    def stop_accepting(self) -> None:
        """Accepts the connections that are waiting for it, and then stops listening. Safe to call twice."""
        if self._listening.fileno() < 0:
            return
        self._loop.remove_reader(self._listening)
        while self._accept():
            pass  # the kernel would reset them
        if self._resuming is not None:
            self._resuming.cancel()
        self._listening.close()

    def drop_waiting(self) -> None:
        """Closes the connections on which no request has arrived."""
        for task, protocol in self._waiting.items():
            if not protocol.request_arrived.is_set():
                task.cancel()

    async def wait_until_closed(self) -> None:
        """Returns when no connection is open."""
        while tasks := [*self._waiting, *self._answering]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        if self._resuming is not None:
            self._resuming.cancel()
        self._listening.close()
        tasks = [*self._waiting, *self._answering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> bool:
        """Accepts a connection; returns whether there was one."""
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # the client has left
            return False
        except OSError:  # most likely no file descriptor is left
            self._loop.remove_reader(self._listening)
            self._resuming = self._loop.call_later(_ACCEPT_PAUSE_S, self.start)
            return False
        if len(self._waiting) + len(self._answering) >= self._max_connections and not self._drop_oldest():
            connection.close()
            return True
        # asyncio sets this only for sockets that name their protocol. Without it, the end of an answer waits 40 ms.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = self._make_protocol()
        task = self._loop.create_task(self._serve(connection, protocol))
        self._waiting[task] = protocol
        task.add_done_callback(partial(self._ended, connection))
        return True

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

    async def _serve(self, connection: socket.socket, protocol: OneRequestProtocol) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            with suppress(OSError):  # a client that is too slow, has left, or fails the TLS handshake
                async with asyncio.timeout(self._request_timeout_s):
                    await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
                    await protocol.request_arrived.wait()
                while not protocol.closed.is_set():
                    self._waiting.pop(task, None)
                    self._answering.add(task)
                    async with asyncio.timeout(self._answer_timeout_s):
                        await protocol.answered.wait()
                    if protocol.closed.is_set():
                        break
                    protocol.answered.clear()
                    self._answering.discard(task)
                    self._waiting[task] = protocol
                    async with asyncio.timeout(self._idle_timeout_s):
                        await protocol.request_arrived.wait()
        finally:
            protocol.abort()


def listen_on(address: Address) -> socket.socket:
    """Returns a non-blocking socket that listens; port 0 picks a free one.

    Raises:
        OSError: the address is not available.
    """
    family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server(
        (address.host, address.port), family=family, backlog=_BACKLOG, dualstack_ipv6=family == socket.AF_INET6
    )
    listening.setblocking(False)
    return listening
