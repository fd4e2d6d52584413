"""One JSON line a request, in a file or on stdout. A log that cannot be written costs lines, never a request.

Lines are written by a thread, several at a time, so that a slow disk or pipe holds up nothing. Knows no gRPC.
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
from server.request import Call

STDOUT: Final = "-"
MAX_TEXT_LENGTH: Final = 128  # characters of a text that a caller sent
MAX_REASON_LENGTH: Final = 512
MAX_WAITING_LINES: Final = 16_384
_PAUSE_S: Final = 0.1  # between writes
_CLOSE_PATIENCE_S: Final = 1.0  # for a pipe that nobody reads

_log = logging.getLogger(__name__)


class Line(msgspec.Struct):
    """What a line says. A phase that a request did not come to is null."""

    time: datetime  # of the end, UTC
    request_id: str
    peer: str  # address of the caller
    method: str
    model: str  # as the caller spelt it
    version: int  # 0 if none was found
    rows: int
    status: str  # name of the gRPC status
    reason: str  # why it was refused
    duration_ms: float
    admission_ms: float | None
    compute_ms: float | None
    encode_ms: float | None


class AccessLog:
    """Takes lines from `open` to `close`; `write` belongs to the event loop.

    Args:
        descriptor: of an open file; it is owned from now on.
        name: of the file, for messages.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._lines: deque[Line] = deque()
        self._encoder = msgspec.json.Encoder()
        self._is_torn = False  # the last line in the file has no end
        self._warned = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_until_closed, name="access-log", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str) -> AccessLog:
        """Opens a file, to append to it, or for "-" stdout.

        Raises:
            StartupError: it cannot be written.
        """
        try:
            if path == STDOUT:
                return cls(os.dup(sys.stdout.fileno()), "stdout")
            return cls(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), path)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or a stdout that is closed
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise StartupError(
                f"--access-log: cannot write {path!r} ({reason}); name a file in a folder that you may write to,"
                f" or {STDOUT} for stdout"
            ) from error

    def write(self, call: Call, peer: str, status: str, reason: str = "") -> None:
        """Takes the line of a request that has come to its end.

        Args:
            call: as it was filled in on the way.
            peer: who called.
            status: name of the gRPC status.
            reason: what the caller was told, if it was refused.
        """
        if len(self._lines) >= MAX_WAITING_LINES:
            self._warn("lines come faster than they can be written")
            return
        line = Line(
            time=datetime.now(UTC),
            request_id=_safe(call.request_id),
            peer=_safe(peer),
            method=call.method,
            model=_safe(call.model),
            version=call.version,
            rows=call.rows,
            status=status,
            reason=_safe(reason, MAX_REASON_LENGTH),
            duration_ms=_ms(time.perf_counter() - call.began_s),
            admission_ms=None if call.admission_s is None else _ms(call.admission_s),
            compute_ms=None if call.compute_s is None else _ms(call.compute_s),
            encode_ms=None if call.encode_s is None else _ms(call.encode_s),
        )
        self._lines.append(line)

    def close(self) -> None:
        """Writes what waits and closes the file; may take a second, so it is not for the event loop."""
        self._closing.set()
        self._thread.join(_CLOSE_PATIENCE_S)
        if self._thread.is_alive():
            _log.warning("--access-log: %s takes no more lines: its last ones are lost", self._name)

    def _write_until_closed(self) -> None:
        try:
            while not self._closing.wait(_PAUSE_S):
                self._write_waiting()
            self._write_waiting()
        finally:
            os.close(self._descriptor)

    def _write_waiting(self) -> None:
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
            _log.warning("--access-log: lines are lost, as %s cannot be written (%s)", self._name, reason)


def _safe(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """A text that neither fills the disk nor drives a terminal that shows it."""
    text = text[:max_length]
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
