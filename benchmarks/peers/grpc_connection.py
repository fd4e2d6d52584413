"""A gRPC connection that sends one prepared message many times, without waiting for the answers.

A load generator shares the cores with the server that it measures, and a gRPC library in Python needs more time per
request than the server. This needs about a tenth: the frames of a request are prepared bytes, and of an answer it
reads only the heads of the frames. It is no general client: HTTP/2 without TLS, requests in one frame, no headers read.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 3, 4, 5
_DEFAULT_WINDOW: Final = 65_535
_WINDOW: Final = (1 << 31) - 1  # ours: answers never wait for us
_FRAME_BYTES: Final = (1 << 24) - 1  # the most that a server may put into one frame
_MAX_BODY_BYTES: Final = 16_384  # one frame of the default size
_READ_BYTES: Final = 1 << 20
_HEAD: Final = struct.Struct(">HBBBI")  # length (high, low), type, flags, stream
_POST, _HTTP, _FIRST_OWN = 0x83, 0x86, 0x80 | 62  # entries of HPACK's tables


class ConnectionEnded(Exception):  # noqa: N818 - says what happened
    """The server closed the connection, or is about to."""


class GrpcConnection:
    """A connection to 127.0.0.1.

    Args:
        port: of the server.
        path: of the method.
        message: the serialised request.

    Raises:
        ValueError: the message is too large for one frame.
        OSError: nothing listens on the port.
    """

    def __init__(self, port: int, path: str, message: bytes) -> None:
        body = struct.pack(">BI", 0, len(message)) + message
        if len(body) > _MAX_BODY_BYTES:
            raise ValueError(f"{len(message)} bytes do not fit into one frame of {_MAX_BODY_BYTES}")
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        named = {
            b":path": path.encode(),
            b":authority": b"127.0.0.1",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
        }
        self._first_headers = bytes((_POST, _HTTP)) + b"".join(_indexed_literal(*item) for item in named.items())
        self._headers = bytes((_POST, _HTTP, *(_FIRST_OWN + place for place in reversed(range(len(named))))))
        self._body = body
        self._next_stream = 1
        self._window = _DEFAULT_WINDOW  # bytes that the server still takes
        self._max_open = _WINDOW
        self._waiting: list[int] = []  # requests that the server's limits hold back
        self._open: dict[int, tuple[int, int]] = {}  # stream -> request, bytes of its answer so far
        self._received_bytes = 0  # since the last update of our window
        self._read = bytearray()
        settings = struct.pack(">HIHI", _INITIAL_WINDOW_SIZE, _WINDOW, _MAX_FRAME_SIZE, _FRAME_BYTES)
        self._to_send = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _window_update(_WINDOW - 65_535))

    @property
    def has_more_to_send(self) -> bool:
        """Whether `flush` should be called once the socket is writable."""
        return bool(self._to_send)

    @property
    def unanswered(self) -> int:
        """The number of requests without an answer."""
        return len(self._open) + len(self._waiting)

    def request(self, number: int) -> None:
        """Prepares a request, which `flush` sends."""
        if self._waiting or self._window < len(self._body) or len(self._open) >= self._max_open:
            self._waiting.append(number)
            return
        headers = self._first_headers if self._next_stream == 1 else self._headers
        stream = self._next_stream
        self._to_send += _frame(_HEADERS, _END_HEADERS, stream, headers)
        self._to_send += _frame(_DATA, _END_STREAM, stream, self._body)
        self._open[stream] = (number, 0)
        self._next_stream += 2
        self._window -= len(self._body)

    def flush(self) -> None:
        """Sends what the socket takes."""
        while self._to_send:
            try:
                sent = self.socket.send(self._to_send)
            except BlockingIOError:
                return
            del self._to_send[:sent]

    def receive(self) -> list[tuple[int, int]]:
        """Reads what has come; returns the number and the bytes of the body of each ended answer; errors have none.

        Raises:
            ConnectionEnded: there are no more answers.
        """
        try:
            got = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        if not got:
            raise ConnectionEnded("the server closed the connection")
        read = self._read
        read += got
        ended: list[tuple[int, int]] = []
        place, end = 0, len(read)
        while end - place >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(read, place)
            after = place + 9 + (high << 8 | low)
            if after > end:
                break
            if kind == _DATA:
                self._received_bytes += after - place - 9
            elif kind not in (_HEADERS, _RST_STREAM):
                self._control(kind, flags, bytes(read[place + 9 : after]), stream)
            if stream in self._open:  # a server may still reset a stream that has ended
                number, size = self._open[stream]
                if kind == _DATA:
                    size += after - place - 9
                self._open[stream] = (number, size)
                if kind == _RST_STREAM or (flags & _END_STREAM and kind in (_DATA, _HEADERS)):
                    del self._open[stream]
                    ended.append((number, 0 if kind == _RST_STREAM else size))
            place = after
        del read[:place]
        if self._received_bytes > _WINDOW // 2:
            self._to_send += _window_update(self._received_bytes)
            self._received_bytes = 0
        if ended and self._waiting:
            self._resume()
        return ended

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()

    def _control(self, kind: int, flags: int, payload: bytes, stream: int) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _MAX_CONCURRENT_STREAMS:
                    self._max_open = value
            self._to_send += _frame(_SETTINGS, _ACK, 0, b"")
            self._resume()
        elif kind == _PING and not flags & _ACK:
            self._to_send += _frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload, "big")
            self._resume()
        elif kind == _GOAWAY:
            raise ConnectionEnded(f"the server ends the connection: {payload[8:].decode(errors='replace')}")

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number in waiting:
            self.request(number)


def _indexed_literal(name: bytes, value: bytes) -> bytes:
    """HPACK: a header that enters the dynamic table; name and value have fewer than 127 bytes."""
    return bytes((0x40, len(name))) + name + bytes((len(value),)) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def _window_update(size: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))
