"""A .zip of image files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from client.samples.archive import ArchiveOutput
from client.samples.record import RECORD_NAME, SampleRecord


class ZipOutput(ArchiveOutput):
    """A zip with one image file per row; sample.json comes first.

    `zipfile` keeps its directory in memory, about half a kilobyte per image.
    """

    def _record_in(self, path: Path) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return self._record_of(archive)
        # NotImplementedError: zipfile does not know how a member is compressed.
        except (KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, zlib.error) as error:
            raise ValueError(str(error)) from error

    def _build(self, path: Path, record: SampleRecord, rows: Iterator[bytes]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            self._fill(archive, record, rows)

    def _record_of(self, archive: zipfile.ZipFile) -> bytes:
        return archive.read(RECORD_NAME)

    def _fill(self, archive: zipfile.ZipFile, record: SampleRecord, rows: Iterator[bytes]) -> None:
        archive.writestr(member(RECORD_NAME), record.to_json())
        for row, file in zip(record.rows, rows, strict=True):
            archive.writestr(member(record.file_name(row)), file)


def member(name: str) -> zipfile.ZipInfo:
    """The directory entry of a member. Its date is always 1980-01-01, so the same images give the same archive."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry
