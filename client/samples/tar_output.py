"""A .tar of image files, as WebDataset reads it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from client.samples.archive import ArchiveOutput
from client.samples.record import SUFFIXES, SampleRecord

_RECORD_HEADER: Final = "GANCLIENT.sample"  # of the whole archive: a member would be one more sample for readers


class TarOutput(ArchiveOutput):
    """A tar with two members per row: the image and its origin, such as 00007.png and 00007.json."""

    def _record_in(self, path: Path) -> bytes:
        try:
            with tarfile.open(path, "r:") as archive:
                return archive.pax_headers[_RECORD_HEADER].encode()
        except (KeyError, tarfile.TarError, EOFError) as error:
            raise ValueError(str(error)) from error

    def _build(self, path: Path, record: SampleRecord, rows: Iterator[bytes]) -> None:
        headers = {_RECORD_HEADER: record.to_json().decode()}
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
            for row, file in zip(record.rows, rows, strict=True):
                origin = {"model": record.model, "version": record.version, "seed": record.seed, "row": row}
                _add(archive, record.key(row) + SUFFIXES[record.format], file)
                _add(archive, f"{record.key(row)}.json", json.dumps(origin).encode())
                archive.members.clear()  # type: ignore[attr-defined]  # the stubs lack the list, which grows with every member


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a file without a date or an owner, so the same images give the same archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
