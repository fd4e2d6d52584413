"""What every place that samples are written to has in common: what is found there, and going on with it."""

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
    """What an earlier command left, and whether it is complete."""

    record: SampleRecord
    complete: bool


class SampleOutput(ABC):
    """A folder or an archive of samples. First `find`, then `start` or `resume`, then `append` until `finish`.

    Every method raises UnwritableOutput where a file cannot be read or written, or is none of ours.

    Args:
        path: where the images are to be in the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None  # what is open and taken, from `start` or `resume` to `close`
        self._found_nothing = False  # when `find` looked, so that whatever `start` finds came since

    @abstractmethod
    def find(self, *, overwrite: bool) -> Found | None:
        """What lies there, as far as `overwrite` does not put it aside; None if there is nothing."""

    @abstractmethod
    def start(self, record: SampleRecord) -> None:
        """Begins anew: drops what an earlier command has left."""

    @abstractmethod
    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Makes ready to go on with an incomplete output.

        Args:
            record: that of the output found.
            chunk_rows: the rows of one request.

        Returns:
            The first row to append: a multiple of `chunk_rows`, so that the rest is asked for in the same requests as
            without the interruption; or the number of all rows.
        """

    @abstractmethod
    def append(self, rows: SampleRows) -> None:
        """Adds the images of the next rows: files, or uint8 (rows, height, width, channels) for "pixels"."""

    @abstractmethod
    def finish(self) -> None:
        """Completes the output, which has all its rows."""

    def close(self) -> None:
        """Closes what is open and lets other processes write; an incomplete output stays as it is."""
        file, self._file = self._file, None
        if file is not None:
            with writing(self.path):  # it may have kept back what a full disk did not take
                file.close()

    def _take(self, path: Path, *, create: bool) -> None:
        """Opens the file that is this process's alone as long as it writes."""
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
    """Turns errors of the operating system into one line about `path`."""
    try:
        yield
    except OSError as error:
        raise UnwritableOutput(
            f"{path}: cannot be written ({error.strerror or error}); mend that, or name another place"
        ) from error


def take(path: Path, output: Path, *, create: bool) -> BinaryIO:
    """Opens a file for this process alone until it is closed; on Windows, or without locks, for others too.

    Args:
        path: of the file.
        output: what it belongs to, for the user.
        create: makes an empty file if there is none.

    Raises:
        OSError: it cannot be opened.
        UnwritableOutput: another process is writing, or has finished just now.
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
    """What is told if another process has the place, or has changed it since this one looked at it."""
    return UnwritableOutput(f"{output}: another process is writing it; wait for that, or name another place")


def begin(file: BinaryIO, data: bytes) -> None:
    """Replaces what a file holds; one that is empty counts as none, so that is what a failure leaves.

    Raises:
        OSError: it cannot be written.
    """
    file.seek(0)
    file.truncate()
    try:
        rest = memoryview(data)
        while rest:  # past the file's own buffer, which would try again what failed
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), 0)
        raise
    file.seek(0, os.SEEK_END)


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the file still has its name: who had it may have finished, and renamed it, before it was locked here."""
    if sys.platform == "win32":  # which renames no open file
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Whether no other process has locked the file."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return True
    return True
