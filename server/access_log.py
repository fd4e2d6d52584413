"""Writes one JSON line per request to a file or stdout. If that fails, lines are lost, but no request is affected.

A background thread writes the lines, several at a time, so that a slow disk or pipe delays no request.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final

import msgspec

from server.errors import StartupError
from server.request import InFlightRequest

STDOUT: Final = "-"
MAX_TEXT_LENGTH: Final = 128  # characters of a text from a client
MAX_REASON_LENGTH: Final = 512
MAX_WAITING_LINES: Final = 16_384
_PAUSE_S: Final = 0.1  # between writes
_CLOSE_TIMEOUT_S: Final = 1.0  # a pipe without a reader blocks the writer

_log = logging.getLogger(__name__)


class Line(msgspec.Struct):
    """One line of the log. A phase that the request did not reach is null."""

    time: datetime  # when the request ended, in UTC
    request_id: str
    trace_id: str  # of the caller's trace, or of our own if --otlp-endpoint begins one; otherwise empty
    peer: str  # address of the client
    method: str
    model: str  # as the client sent it
    version: int  # 0 if no version was found
    rows: int
    status: str  # name of the gRPC status
    reason: str  # the error message if it was refused; otherwise empty
    duration_ms: float
    admission_ms: float | None
    compute_ms: float | None
    encode_ms: float | None


class AccessLog:
    """Accepts lines until `close`. Call `write` on the event loop only.

    Args:
        descriptor: the descriptor of an open file; the log closes it.
        name: the name of the file, for messages.
        path: where `reopen` finds it; None if it cannot be opened again.
    """

    def __init__(self, descriptor: int, name: str, path: str | None = None) -> None:
        self._descriptor = descriptor
        self._name = name
        self._path = path
        self._lines: deque[Line] = deque()
        self._encoder = msgspec.json.Encoder()
        self._is_torn = False  # whether the last line in the file is incomplete
        self._warned = False
        self._reopening = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_until_closed, name="access-log", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str) -> AccessLog:
        """Opens a file to append to, or stdout for "-".

        Raises:
            StartupError: the file cannot be written.
        """
        try:
            if path == STDOUT:
                return cls(os.dup(sys.stdout.fileno()), "stdout")
            return cls(_open_file(path), path, path)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or a closed stdout
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise StartupError(
                f"--access-log: cannot write {path!r} ({reason}); name a file in a writable folder,"
                f" or {STDOUT} for stdout"
            ) from error

    def write(self, request: InFlightRequest, peer: str, status: str, reason: str = "") -> None:
        """Adds the line of a request that has ended.

        Args:
            request: the request.
            peer: address of the client.
            status: name of the gRPC status.
            reason: the error message if it was refused.
        """
        if len(self._lines) >= MAX_WAITING_LINES:
            self._warn("lines arrive faster than they can be written")
            return
        line = Line(
            time=datetime.now(UTC),
            request_id=_safe(request.request_id),
            trace_id="" if request.trace is None else request.trace.trace_id,
            peer=_safe(peer),
            method=request.method,
            model=_safe(request.model),
            version=request.version,
            rows=request.rows,
            status=status,
            reason=_safe(reason, MAX_REASON_LENGTH),
            duration_ms=_ms(time.perf_counter() - request.began_s),
            admission_ms=None if request.admission_s is None else _ms(request.admission_s),
            compute_ms=None if request.compute_s is None else _ms(request.compute_s),
            encode_ms=None if request.encode_s is None else _ms(request.encode_s),
        )
        self._lines.append(line)

    def reopen(self) -> None:
        """Opens the file by its name again before the next lines are written. Does not block."""
        self._reopening.set()

    def close(self) -> None:
        """Writes the waiting lines and closes the file; may take a second, so do not call it on the event loop."""
        self._closing.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning("--access-log: %s blocks, so the last lines are lost", self._name)

    def _write_until_closed(self) -> None:
        try:
            while not self._closing.wait(_PAUSE_S):
                self._write_waiting()
            self._write_waiting()
        finally:
            os.close(self._descriptor)

    def _open_again(self) -> None:
        if self._path is None:
            return
        try:
            descriptor = _open_file(self._path)
        except OSError as error:  # the old file is better than none
            _log.warning(
                "--access-log: %s cannot be opened again (%s); lines go to the file that was open",
                self._name,
                error.strerror or error,
            )
            return
        os.close(self._descriptor)
        self._descriptor, self._is_torn, self._warned = descriptor, False, False

    def _write_waiting(self) -> None:
        if self._reopening.is_set():
            self._reopening.clear()
            self._open_again()
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        text = self._encoder.encode_lines(lines)
        if self._is_torn:
            text = b"\n" + text
        waiting = memoryview(text)
        try:
            while waiting:
                waiting = waiting[os.write(self._descriptor, waiting) :]
            self._is_torn = False
        except OSError as error:
            written = len(text) - len(waiting)
            self._is_torn = text[:written][-1:] != b"\n" if written else self._is_torn
            self._warn(error.strerror or str(error))

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("--access-log: lines are lost, because %s cannot be written (%s)", self._name, reason)


def _open_file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _safe(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Truncates and escapes a text, so that it cannot fill the disk or send control codes to a terminal."""
    text = text[:max_length]
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
