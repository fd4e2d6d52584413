"""A TCP relay in front of a server that forgets connections, as the table of a NAT gateway or load balancer does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress


class Relay:
    """Forwards connections; after `forget`, those that are open carry nothing any more.

    Args:
        port: Of the server, on this machine.
        delay_s: How long data travels in each direction, in seconds; at most 64 KiB travel at once.
        buffer_bytes: How much of what the server sends waits here; the kernel's default may be megabytes.
    """

    def __init__(self, port: int, *, delay_s: float = 0.0, buffer_bytes: int | None = None) -> None:
        self.address = ""
        self._delay_s = delay_s
        self._buffer_bytes = buffer_bytes
        self.connections = 0
        self._port = port
        self._forgotten: set[int] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._conversations: list[asyncio.Task[None]] = []

    def forget(self) -> None:
        """Drops what the connections of now send from here on, without closing them; later ones work."""
        self._forgotten = set(range(1, self.connections + 1))

    @contextmanager
    def serve(self) -> Iterator[Relay]:
        """Listens on a free port until the block ends."""
        started: futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = futures.Future()
        with futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(asyncio.run, self._serve(started))
            loop, stop = started.result(timeout=10)
            try:
                yield self
            finally:
                loop.call_soon_threadsafe(stop.set)
                running.result(timeout=10)

    async def _serve(self, started: futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(self._connect, "127.0.0.1", 0) as listener:
            self.address = "{}:{}".format(*listener.sockets[0].getsockname())
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _connect(self, caller: asyncio.StreamReader, to_caller: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        connection = socket.socket()
        connection.setblocking(False)
        if self._buffer_bytes is not None:  # before it connects, because TCP then announces it
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        except OSError:
            connection.close()
            to_caller.close()
            return
        server, to_server = await asyncio.open_connection(sock=connection)
        self._writers += [to_caller, to_server]
        self._conversations += [
            asyncio.create_task(self._forward(number, caller, to_server)),
            asyncio.create_task(self._forward(number, server, to_caller)),
        ]

    async def _forward(self, number: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # either side hung up
            while data := await source.read(1 << 16):
                await asyncio.sleep(self._delay_s)
                if number not in self._forgotten:
                    sink.write(data)
                    await sink.drain()
        if number not in self._forgotten:
            sink.close()
