"""A value that is read from files, and read again once they change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from ganserve.files import read_regular_file
from server.errors import StartupError

MAX_FILE_BYTES: Final = 4 << 20  # a bundle of all public authorities takes about 0.2 MiB

_log = logging.getLogger(__name__)
_Value = TypeVar("_Value")
_Signature = tuple[tuple[int, ...] | None, ...]


class Reloaded(Generic[_Value]):
    """Reads a value, and reads it again when asked for it after a file has changed. Safe to use in several threads.

    If the changed files cannot be used, for example because only one of two is written yet, the last value stays and
    one line in the log says why.

    Args:
        files: the files.
        read: reads the value from them; raises `StartupError`, whose text must not contain secrets.

    Raises:
        StartupError: they cannot be used.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], _Value]) -> None:
        self._files = files
        self._read = read
        self._lock = threading.Lock()
        self._signature = self._current_signature()  # before reading: a change in between is seen next time
        self._value = read()

    def get(self) -> _Value:
        """Returns the newest value that could be read."""
        with self._lock:
            signature = self._current_signature()
            if signature != self._signature:
                try:
                    value = self._read()
                except StartupError as error:
                    self._signature = signature  # one line per change, not per call
                    _log.warning("%s; what was read before stays in use", error)
                else:
                    if self._current_signature() == signature:  # otherwise parts of two states may have been read
                        self._signature, self._value = signature, value
                        _log.info("read again after a change: %s", ", ".join(map(str, self._files)))
            return self._value

    def _current_signature(self) -> _Signature:
        return tuple(map(_signature, self._files))


def read_file(flag: str, path: Path, kind: str) -> bytes:
    """Returns the content of a small file.

    Args:
        flag: the flag that names it.
        path: the file.
        kind: what it should be, for the message.

    Raises:
        StartupError: it cannot be read, or is not a regular file of at most `MAX_FILE_BYTES`.
    """
    try:
        return read_regular_file(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StartupError(f"{flag}: {path} cannot be read ({reason}); name {kind}") from error


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
