"""A folder of image files, one a row, and sample.json, which says what they are.

Files appear whole, by one rename each and in the order of the rows, so what is missing tells where to go on.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import numpy as np

from client.errors import UnwritableOutput
from client.files.images import check_output_folder, save_file
from client.samples.output import Found, SampleOutput, SampleRows, another_writes, begin, writing
from client.samples.record import MAX_RECORD_BYTES, RECORD_NAME, SampleRecord

_UNFINISHED: Final = re.compile(r"\.ganclient-[0-9a-f]{16}")  # what a killed process leaves of a file


class FolderOutput(SampleOutput):
    """A folder; made if there is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._record: SampleRecord | None = None
        self._next_row = 0

    def find(self, *, overwrite: bool) -> Found | None:
        """What lies in the folder; files that are none of ours are never written over, whatever `overwrite` says."""
        check_output_folder(self.path)
        with writing(self.path):
            record = self._record_there()
            self._found_nothing = record is None
            return None if record is None else Found(record, self._first_missing(record) == record.count)

    def start(self, record: SampleRecord) -> None:
        """Removes the images that sample.json tells of, and begins anew."""
        self._take_for(record, create=True)
        with writing(self.path):
            there = self._record_there()
            if there is not None:
                if self._found_nothing:
                    raise another_writes(self.path)
                self._remove(there)
            begin(self._taken, record.to_json())

    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Goes on at the request whose first image is missing; what lies behind it is written again."""
        self._take_for(record, create=False)
        with writing(self.path):
            if self._record_there() != record:
                raise another_writes(self.path)
            first = self._first_missing(record, clean=True)
        self._next_row = first if first == record.count else first - first % chunk_rows
        return self._next_row

    def append(self, rows: SampleRows) -> None:
        """Writes one file a row."""
        assert self._record is not None
        assert not isinstance(rows, np.ndarray)
        for file in rows:
            save_file(file, self.path / self._record.file_name(self._next_row))
            self._next_row += 1

    def finish(self) -> None:
        """Nothing is left to do."""

    def _take_for(self, record: SampleRecord, *, create: bool) -> None:
        self._take(self.path / RECORD_NAME, create=create)
        self._record, self._next_row = record, 0

    def _record_there(self) -> SampleRecord | None:
        """What sample.json says; None if the folder is empty, or not there."""
        if not self.path.exists():
            return None
        try:
            with (self.path / RECORD_NAME).open("rb") as file:
                data = file.read(MAX_RECORD_BYTES + 1)
        except FileNotFoundError:
            data = b""
        if not data:
            self._check_empty()
            return None
        try:
            return SampleRecord.from_json(data)
        except ValueError as error:
            raise UnwritableOutput(
                f"{self.path / RECORD_NAME}: does not say what lies in the folder ({error}); name another folder"
            ) from error

    def _check_empty(self) -> None:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != RECORD_NAME:
                    raise UnwritableOutput(
                        f"{self.path}: holds {entry.name!r:.80} and no {RECORD_NAME}; name an empty or a new folder"
                    )

    def _first_missing(self, record: SampleRecord, *, clean: bool = False) -> int:
        """The first row without a file, or the number of rows; `clean` removes what killed processes left."""
        if clean:
            self._whole_files(self.path, clean=True)
        for folder, rows in record.folders():
            whole = self._whole_files(self.path / folder, clean=clean)
            for row in rows:
                if Path(record.file_name(row)).name not in whole:
                    return row
        return record.count

    def _whole_files(self, folder: Path, *, clean: bool) -> set[str]:
        """The names of the files in a folder that are not empty, as a file is that a crash of the machine spoilt."""
        whole = set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if clean and _UNFINISHED.fullmatch(entry.name):
                        Path(entry.path).unlink(missing_ok=True)
                    elif entry.is_file() and entry.stat().st_size:
                        whole.add(entry.name)
        except FileNotFoundError:  # a sub-folder of rows that are still to come
            return set()
        return whole

    def _remove(self, record: SampleRecord) -> None:
        for folder, rows in record.folders():
            if not (self.path / folder).is_dir():
                continue
            for row in rows:
                (self.path / record.file_name(row)).unlink(missing_ok=True)
            if folder and not any((self.path / folder).iterdir()):
                (self.path / folder).rmdir()
