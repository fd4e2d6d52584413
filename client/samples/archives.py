"""A .zip of image files, or an .npz of pixels.

Rows are collected in NAME.partial, which survives a kill; `finish` turns them into the archive and renames it to NAME.
NAME.partial is a sequence of frames: first the record as JSON, then one frame per row. A frame is the length and the
CRC-32 of its bytes, 4 bytes each, little-endian, and the bytes. Memory stays constant, except that `zipfile` keeps
the directory of a .zip, about half a kilobyte per image, while `finish` runs.
"""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from client.errors import ServerFault, UnwritableOutput
from client.files.images import check_output_file
from client.samples.output import Found, SampleOutput, SampleRows, another_writes, begin, writing
from client.samples.record import RECORD_NAME, SampleRecord
from ganserve.files import flush_to_disk
from ganserve.foreign import first_line

_FRAME: Final = struct.Struct("<II")
_NPZ_RECORD: Final = "sample.npy"


class _Archive(SampleOutput):
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
            for rows, _ in enumerate(islice(_frames(self._taken), record.count), 1):
                if rows % chunk_rows == 0 or rows == record.count:
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
                with zipfile.ZipFile(built, "w") as archive:
                    self._fill(archive, self._record, rows)
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
            with zipfile.ZipFile(self.path) as archive:
                return SampleRecord.from_json(self._record_in(archive))
        # NotImplementedError: zipfile does not know how a member is compressed.
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, zlib.error) as error:
            raise _foreign(self.path, error) from error

    @staticmethod
    @abstractmethod
    def _record_in(archive: zipfile.ZipFile) -> bytes:
        """The JSON of the record in a complete archive.

        Raises:
            ValueError, KeyError: The archive holds no record.
        """

    @staticmethod
    @abstractmethod
    def _fill(archive: zipfile.ZipFile, record: SampleRecord, rows: Iterator[bytes]) -> None:
        """Writes the members of a new archive, the record first."""


class ZipOutput(_Archive):
    """A zip with one image file per row; sample.json comes first."""

    @staticmethod
    def _record_in(archive: zipfile.ZipFile) -> bytes:
        return archive.read(RECORD_NAME)

    @staticmethod
    def _fill(archive: zipfile.ZipFile, record: SampleRecord, rows: Iterator[bytes]) -> None:
        archive.writestr(_member(RECORD_NAME), record.to_json())
        for row, file in enumerate(rows):
            archive.writestr(_member(record.file_name(row)), file)


class NpzOutput(_Archive):
    """An .npz of `images`, uint8 (rows, height, width, channels), `sample` (the record), `model`, `version`, `seed`."""

    def append(self, rows: SampleRows) -> None:
        """Adds the pixels of the next rows."""
        assert self._record is not None
        assert isinstance(rows, np.ndarray)
        shape = (self._record.height, self._record.width, self._record.channels)
        if rows.dtype != np.uint8 or rows.shape[1:] != shape:
            raise ServerFault(f"the server's images have shape {rows.shape[1:]}, but its list of models says {shape}")
        super().append(rows)

    @staticmethod
    def _record_in(archive: zipfile.ZipFile) -> bytes:
        with archive.open(_NPZ_RECORD) as member:
            return str(np.lib.format.read_array(member, allow_pickle=False)).encode()

    @staticmethod
    def _fill(archive: zipfile.ZipFile, record: SampleRecord, rows: Iterator[bytes]) -> None:
        arrays = {
            _NPZ_RECORD: np.array(record.to_json().decode()),
            "model.npy": np.array(record.model),
            "version.npy": np.array(record.version, np.int64),
            "seed.npy": np.array(record.seed, np.uint64),
        }
        for name, array in arrays.items():
            with archive.open(_member(name), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        shape = (record.count, record.height, record.width, record.channels)
        with archive.open(_member("images.npy"), "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                member.write(row)


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


def _member(name: str) -> zipfile.ZipInfo:
    """The directory entry of a member. Its date is always 1980-01-01, so the same images give the same archive."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    return member


def _foreign(path: Path, error: Exception) -> UnwritableOutput:
    return UnwritableOutput(
        f"{path}: already exists, and this version of 'ganclient sample' did not write it ({first_line(error)}); name"
        " another file, or give --overwrite"
    )
