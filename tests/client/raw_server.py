"""Servers that are not gRPC, or are broken: each speaks on a bare socket what a test tells it to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Talk = Callable[[socket.socket], None]

_PREFACE_BYTES = 24  # what an HTTP/2 client sends first
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING = 0, 1, 3, 4, 6
_ACK = END_STREAM = 1
_END_HEADERS = 4


@contextmanager
def raw_server(talk: Talk) -> Iterator[str]:
    """Listens until the block ends, and calls `talk` with each connection, in a thread; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_sockets: list[socket.socket] = []
        threads: list[threading.Thread] = []

        def converse(connection: socket.socket) -> None:
            with connection, suppress(OSError):  # the caller hung up, or the test ended
                talk(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                open_sockets.append(connection)
                threads.append(threading.Thread(target=converse, args=(connection,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(timeout=10)
            for connection in open_sockets:
                with suppress(OSError):  # closed by either side
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(timeout=10)


def says(text: bytes) -> Talk:
    """Reads a little, answers with `text` and hangs up."""

    def talk(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(text)

    return talk


def is_silent(connection: socket.socket) -> None:
    """Reads everything and says nothing."""
    while connection.recv(1 << 16):
        pass


def hangs_up(connection: socket.socket) -> None:
    """Closes the connection at once."""


def answers_http2(status: int) -> Talk:
    """Answers each request with an HTTP status and a web page, over HTTP/2, as a proxy does."""
    headers = _header(":status", str(status)) + _header("content-type", "text/html")

    def answer(connection: socket.socket, stream: int) -> None:
        connection.sendall(_frame(_HEADERS, _END_HEADERS, stream, headers))
        connection.sendall(_frame(_DATA, END_STREAM, stream, b"<html></html>"))

    return _http2(answer)


def resets_streams(code: int) -> Talk:
    """Ends each request with RST_STREAM."""

    def answer(connection: socket.socket, stream: int) -> None:
        connection.sendall(_frame(_RST_STREAM, 0, stream, struct.pack(">I", code)))

    return _http2(answer)


def _http2(answer: Callable[[socket.socket, int], None]) -> Talk:
    def talk(connection: socket.socket) -> None:
        _read(connection, _PREFACE_BYTES)
        connection.sendall(_frame(_SETTINGS, 0, 0, b""))
        while True:
            head = _read(connection, 9)
            kind, flags, stream = struct.unpack(">xxxBBI", head)
            payload = _read(connection, int.from_bytes(head[:3], "big"))
            if kind == _SETTINGS and not flags & _ACK:
                connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                connection.sendall(_frame(_PING, _ACK, 0, payload))
            elif kind == _HEADERS:
                answer(connection, stream)

    return talk


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """HPACK: a literal header without indexing, with a new name (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the caller hung up")
        data += part
    return data
