"""A .zip of image files or an .npz of pixels, built in a file beside it, which is renamed when it is complete.

The partial file begins with the record of what it holds, and so does the complete one.
"""

from __future__ import annotations

import io
import os
import sys
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Final

import numpy as np

from client.errors import ServerFault, UnwritableOutput
from client.files.images import check_output_file
from client.samples import stored_zip
from client.samples.output import Found, SampleOutput, SampleRows, another_writes, begin, writing
from client.samples.record import MAX_RECORD_BYTES, RECORD_NAME, SampleRecord

_PARTIAL: Final = ".partial"
_IMAGES: Final = "images.npy"
_NPZ_RECORD: Final = "sample.npy"


class _Archive(SampleOutput):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._partial = path.with_name(path.name + _PARTIAL)
        self._record: SampleRecord | None = None
        self._rows = 0

    def find(self, *, overwrite: bool) -> Found | None:
        """The complete archive, or else the partial one; with `overwrite` the complete one does not count."""
        check_output_file(self.path)
        with writing(self.path):
            self._found_nothing = not self.path.exists() and not self._has_partial()
            if self.path.exists() and not overwrite:
                return Found(self._read_record(self.path), complete=True)
            if not self._has_partial():
                return None
            try:
                return Found(self._read_record(self._partial), complete=False)
            except UnwritableOutput:
                if overwrite:
                    return None
                raise

    def start(self, record: SampleRecord) -> None:
        """Begins a new partial file."""
        self._take_for(record, create=True)
        with writing(self.path):
            if self._found_nothing and (self.path.exists() or self._has_partial()):
                raise another_writes(self.path)
            begin(self._taken, self._prefix(record))

    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Keeps the whole requests that are there, and cuts off what follows."""
        self._take_for(record, create=False)
        with writing(self.path):
            if self._read_record(self._partial) != record:
                raise another_writes(self.path)
            self._rows, position = self._kept(record, chunk_rows)
            self._taken.truncate(position)
            self._taken.seek(position)
        return self._rows

    def finish(self) -> None:
        """Writes the directory, and renames the file."""
        with writing(self.path):
            self._seal()
            stored_zip.write_directory(self._taken)
            self._taken.flush()
            os.fsync(self._taken.fileno())
            if sys.platform == "win32":  # which renames no open file; elsewhere it stays locked until it has its name
                self.close()
            self._partial.replace(self.path)
        self.close()

    def _has_partial(self) -> bool:
        return self._partial.exists() and self._partial.stat().st_size > 0

    def _take_for(self, record: SampleRecord, *, create: bool) -> None:
        self._take(self._partial, create=create)
        self._record, self._rows = record, 0

    def _write(self, data: bytes, rows: int) -> None:
        """Writes whole requests at once, so that a killed process leaves whole ones."""
        with writing(self.path):
            self._taken.write(data)
            self._taken.flush()
        self._rows += rows

    def _read_record(self, path: Path) -> SampleRecord:
        try:
            with path.open("rb") as file:
                member = stored_zip.member_at(file, 0)
                if member is None or member.size_bytes > 8 * MAX_RECORD_BYTES or not stored_zip.is_whole(file, member):
                    raise ValueError("it does not begin with a record")
                file.seek(member.data_start)
                return self._decode_record(member.name, file.read(member.size_bytes))
        except ValueError as error:
            raise UnwritableOutput(
                f"{path}: is there, and no samples of this command's ({error}); name another file, or give --overwrite"
            ) from error

    @staticmethod
    @abstractmethod
    def _decode_record(name: bytes, data: bytes) -> SampleRecord:
        """The record in the first member; a ValueError if it is none."""

    @staticmethod
    @abstractmethod
    def _prefix(record: SampleRecord) -> bytes:
        """What the archive begins with, before the first row."""

    @abstractmethod
    def _kept(self, record: SampleRecord, chunk_rows: int) -> tuple[int, int]:
        """How many rows are there in whole requests, and the offset behind them."""

    @abstractmethod
    def _seal(self) -> None:
        """What is to be done before the directory is written."""


class ZipOutput(_Archive):
    """A zip of one image file a row; sample.json comes first."""

    def append(self, rows: SampleRows) -> None:
        """Adds one member a row."""
        assert self._record is not None
        members = [
            stored_zip.member_bytes(self._record.file_name(self._rows + index), bytes(file))
            for index, file in enumerate(rows)
        ]
        self._write(b"".join(members), len(members))

    @staticmethod
    def _decode_record(name: bytes, data: bytes) -> SampleRecord:
        if name != RECORD_NAME.encode():
            raise ValueError(f"its first member is not {RECORD_NAME}")
        return SampleRecord.from_json(data)

    @staticmethod
    def _prefix(record: SampleRecord) -> bytes:
        return stored_zip.member_bytes(RECORD_NAME, record.to_json())

    def _kept(self, record: SampleRecord, chunk_rows: int) -> tuple[int, int]:
        position = kept_position = len(self._prefix(record))
        kept_rows = 0
        for row in range(record.count):
            member = stored_zip.member_at(self._taken, position)
            if member is None or member.name.decode("ascii", "replace") != record.file_name(row):
                break
            if not stored_zip.is_whole(self._taken, member):
                break
            position = member.end
            if (row + 1) % chunk_rows == 0 or row + 1 == record.count:
                kept_rows, kept_position = row + 1, position
        return kept_rows, kept_position

    def _seal(self) -> None:
        """Nothing: every member is complete."""


class NpzOutput(_Archive):
    """An .npz of `images`, uint8 (rows, height, width, channels); and of `model`, `version`, `seed` and the record."""

    _crc = 0  # of the images so far

    def append(self, rows: SampleRows) -> None:
        """Adds the pixels of the next rows."""
        assert self._record is not None
        assert isinstance(rows, np.ndarray)
        shape = (self._record.height, self._record.width, self._record.channels)
        if rows.dtype != np.uint8 or rows.shape[1:] != shape:
            raise ServerFault(f"the server's images have shape {rows.shape[1:]}, and its list of models says {shape}")
        data = rows.tobytes()
        self._write(data, len(rows))
        self._crc = zlib.crc32(data, self._crc)

    def start(self, record: SampleRecord) -> None:
        """Begins a new partial file."""
        super().start(record)
        self._crc = zlib.crc32(_array_header(record))

    @staticmethod
    def _decode_record(name: bytes, data: bytes) -> SampleRecord:
        if name != _NPZ_RECORD.encode():
            raise ValueError(f"its first member is not {_NPZ_RECORD}")
        file = io.BytesIO(data)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"its {_NPZ_RECORD} is of another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        text = file.read()
        if shape != () or dtype.str[:2] != "<U" or dtype.itemsize != len(text):
            raise ValueError(f"its {_NPZ_RECORD} is no text")
        return SampleRecord.from_json(text.decode("utf-32-le").encode())

    @staticmethod
    def _prefix(record: SampleRecord) -> bytes:
        return _small_members(record) + _images_header(record) + _array_header(record)

    def _kept(self, record: SampleRecord, chunk_rows: int) -> tuple[int, int]:
        prefix_bytes, array_header_bytes = len(self._prefix(record)), len(_array_header(record))
        there = max(0, self._taken.seek(0, os.SEEK_END) - prefix_bytes)
        image_bytes = record.height * record.width * record.channels
        rows = min(there // image_bytes, record.count)
        kept = rows if rows == record.count else rows - rows % chunk_rows
        begin = prefix_bytes - array_header_bytes
        crc = stored_zip.crc_of(self._taken, begin, array_header_bytes + kept * image_bytes)
        if crc is None:
            raise UnwritableOutput(f"{self._partial}: is too short; give --overwrite to begin anew")
        self._crc = crc
        return kept, prefix_bytes + kept * image_bytes

    def _seal(self) -> None:
        """Writes the checksum of the images into their header, which has 0 until then."""
        assert self._record is not None
        self._taken.seek(len(_small_members(self._record)) + stored_zip.CRC_OFFSET)
        self._taken.write(self._crc.to_bytes(4, "little"))


def _small_members(record: SampleRecord) -> bytes:
    arrays = {
        _NPZ_RECORD: np.array(record.to_json().decode(), "<U"),
        "model.npy": np.array(record.model, "<U"),
        "version.npy": np.array(record.version, "<i8"),
        "seed.npy": np.array(record.seed, "<u8"),
    }
    members = []
    for name, array in arrays.items():
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        members.append(stored_zip.member_bytes(name, file.getvalue()))
    return b"".join(members)


def _array_header(record: SampleRecord) -> bytes:
    file = io.BytesIO()
    shape = (record.count, record.height, record.width, record.channels)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _images_header(record: SampleRecord) -> bytes:
    pixel_bytes = record.count * record.height * record.width * record.channels
    return stored_zip.header(_IMAGES, len(_array_header(record)) + pixel_bytes, 0)
