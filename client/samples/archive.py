"""An archive of samples: rows are collected in a partial file, from which `finish` builds the archive.

The partial file, NAME.partial, survives a kill. It is a sequence of frames: first the record as JSON, then one frame
per row. A frame is the length and the CRC-32 of its bytes, 4 bytes each, little-endian, and the bytes.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from client.errors import UnwritableOutput
from client.files.images import check_output_file
from client.samples.output import Found, SampleOutput, SampleRows, another_writes, begin, writing
from client.samples.record import SampleRecord
from ganserve.files import flush_to_disk
from ganserve.foreign import first_line

_FRAME: Final = struct.Struct("<II")


class ArchiveOutput(SampleOutput):
    """The base class of archives. Memory use does not grow with the number of rows, unless a format needs it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._partial = path.with_name(f"{path.name}.partial")
        self._record: SampleRecord | None = None

    def find(self, *, overwrite: bool) -> Found | None:
        """Returns what the archive holds, or else the partial file; with `overwrite`, the archive is ignored."""
        check_output_file(self.path)
        with writing(self.path):
            self._found_nothing = not self.path.exists() and not self._has_partial()
            if self.path.exists() and not overwrite:
                return Found(self._archive_record(), complete=True)
            if not self._has_partial():
                return None
            try:
                with self._partial.open("rb") as file:
                    return Found(self._partial_record(file), complete=False)
            except UnwritableOutput:
                if overwrite:
                    return None
                raise

    def start(self, record: SampleRecord) -> None:
        """Begins a new partial file."""
        self._take(self._partial, create=True)
        self._record = record
        with writing(self.path):
            if self._found_nothing and (self.path.exists() or self._has_partial()):
                raise another_writes(self.path)
            begin(self._taken, _frame(record.to_json()))

    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Keeps the complete requests in the partial file, and truncates the rest."""
        self._take(self._partial, create=False)
        self._record = record
        with writing(self.path):
            if self._partial_record(self._taken) != record:
                raise another_writes(self.path)
            kept_rows, end = 0, self._taken.tell()
            for rows, _ in enumerate(islice(_frames(self._taken), len(record.rows)), 1):
                if rows % chunk_rows == 0 or rows == len(record.rows):
                    kept_rows, end = rows, self._taken.tell()
            self._taken.truncate(end)
            self._taken.seek(end)
        return kept_rows

    def append(self, rows: SampleRows) -> None:
        """Adds one frame per row."""
        with writing(self.path):
            self._taken.write(b"".join(_frame(bytes(row)) for row in rows))
            self._taken.flush()

    def finish(self) -> None:
        """Writes the archive next to its final path, renames it, and removes the partial file."""
        assert self._record is not None
        built = self.path.with_name(f"{self.path.name}.partial-archive")
        with writing(self.path):
            self._taken.seek(0)
            rows = islice(_frames(self._taken), 1, None)  # the first frame is the record
            try:
                self._build(built, self._record, rows)
                flush_to_disk(built)
                built.replace(self.path)
            finally:
                built.unlink(missing_ok=True)
            if sys.platform == "win32":  # Windows cannot remove an open file; elsewhere it stays locked until removed
                self.close()
            self._partial.unlink()
        self.close()

    def _has_partial(self) -> bool:
        return self._partial.exists() and self._partial.stat().st_size > 0

    def _partial_record(self, file: BinaryIO) -> SampleRecord:
        try:
            return SampleRecord.from_json(next(_frames(file), b""))
        except ValueError as error:
            raise _foreign(self._partial, error) from error

    def _archive_record(self) -> SampleRecord:
        try:
            return SampleRecord.from_json(self._record_in(self.path))
        except ValueError as error:
            raise _foreign(self.path, error) from error

    @abstractmethod
    def _record_in(self, path: Path) -> bytes:
        """The JSON of the record in a complete archive.

        Raises:
            ValueError: The file is not such an archive.
            OSError: It cannot be read.
        """

    @abstractmethod
    def _build(self, path: Path, record: SampleRecord, rows: Iterator[bytes]) -> None:
        """Writes a new archive: the record, and what `append` got.

        Raises:
            OSError: The file cannot be written.
        """


def _frame(data: bytes) -> bytes:
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Yields the bytes of each frame from the current position, up to the first truncated or damaged one."""
    file_bytes = os.fstat(file.fileno()).st_size
    while len(header := file.read(_FRAME.size)) == _FRAME.size:
        size_bytes, crc = _FRAME.unpack(header)
        if not 0 < size_bytes <= file_bytes:  # 0: a system crash can leave zeros
            return
        data = file.read(size_bytes)
        if len(data) < size_bytes or zlib.crc32(data) != crc:
            return
        yield data


def _foreign(path: Path, error: Exception) -> UnwritableOutput:
    return UnwritableOutput(
        f"{path}: already exists, and this version of 'ganclient sample' did not write it ({first_line(error)}); name"
        " another file, or give --overwrite"
    )
