"""The base class of folders and archives of samples: finding earlier runs, locking and resuming."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client.errors import UnwritableOutput
from client.samples.record import SampleRecord

SampleRows: TypeAlias = Sequence[bytes] | NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """What an earlier run left, and whether it is complete."""

    record: SampleRecord
    complete: bool


class SampleOutput(ABC):
    """A folder or archive of samples. Call `find`, then `start` or `resume`, then `append` repeatedly, then `finish`.

    Every method raises UnwritableOutput if a file cannot be read or written, or belongs to something else.

    Args:
        path: The final path of the folder or archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None  # open and locked from `start` or `resume` to `close`
        self._found_nothing = False  # by `find`; anything that `start` then finds is another process's

    @abstractmethod
    def find(self, *, overwrite: bool) -> Found | None:
        """Returns what an earlier run left at the path, or None. With `overwrite`, ignores what will be replaced."""

    @abstractmethod
    def start(self, record: SampleRecord) -> None:
        """Starts over, and deletes what an earlier run left."""

    @abstractmethod
    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Prepares to continue an incomplete output.

        Args:
            record: The record that `find` returned.
            chunk_rows: Rows per request.

        Returns:
            How many rows are done: a multiple of `chunk_rows`, so that the remaining requests are the same as without
            the interruption; or all of them.
        """

    @abstractmethod
    def append(self, rows: SampleRows) -> None:
        """Adds the images of the next rows: encoded files, or uint8 (rows, height, width, channels) for "pixels"."""

    @abstractmethod
    def finish(self) -> None:
        """Completes the output once all rows are appended."""

    def close(self) -> None:
        """Releases the lock; an incomplete output stays as it is."""
        file, self._file = self._file, None
        if file is not None:
            with writing(self.path):  # closing flushes the buffer, and the disk may be full
                file.close()

    def _take(self, path: Path, *, create: bool) -> None:
        """Opens and locks a file."""
        self.close()
        with writing(self.path):
            self._file = take(path, self.path, create=create)

    @property
    def _taken(self) -> BinaryIO:
        assert self._file is not None
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError into a one-line error about `path`."""
    try:
        yield
    except OSError as error:
        raise UnwritableOutput(
            f"{path}: cannot be written ({error.strerror or error}); fix that, or name another place"
        ) from error


def take(path: Path, output: Path, *, create: bool) -> BinaryIO:
    """Opens and locks a file; on Windows and on file systems without locks, only opens it.

    Args:
        path: Of the file.
        output: The sample it belongs to, for the error message.
        create: Create an empty file if there is none.

    Raises:
        OSError: The file cannot be opened.
        UnwritableOutput: Another process holds the lock, or has just finished.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    except FileNotFoundError as error:
        raise another_writes(output) from error
    try:
        if not _lock(file) or not _is_at(path, file):
            raise another_writes(output)
    except BaseException:
        file.close()
        raise
    return file


def another_writes(output: Path) -> UnwritableOutput:
    """The error if another process writes to the same place, or has changed it since `find`."""
    return UnwritableOutput(f"{output}: another process is writing it; wait for it, or name another place")


def begin(file: BinaryIO, data: bytes) -> None:
    """Replaces the content of a file. If that fails, the file is left empty, which counts as no file.

    Raises:
        OSError: The file cannot be written.
    """
    file.seek(0)
    file.truncate()
    try:
        rest = memoryview(data)
        while rest:  # unbuffered, because a buffer would retry the failed write when it is closed
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), 0)
        raise
    file.seek(0, os.SEEK_END)


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the file is still at `path`: another process may have finished with it before it was locked here."""
    if sys.platform == "win32":  # Windows cannot rename or remove an open file
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Locks the file; False if another process holds the lock."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # network file systems without locks
        return True
    return True
