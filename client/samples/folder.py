"""A folder with one image file per row, and sample.json, which records what they are.

Files are written atomically and in row order, so a run resumes at the first missing file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import numpy as np

from client.errors import UnwritableOutput
from client.files.images import check_output_folder
from client.samples.output import Found, SampleOutput, SampleRows, another_writes, begin, writing
from client.samples.record import MAX_RECORD_BYTES, RECORD_NAME, SampleRecord
from ganserve.files import replacing

_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{16}\.tmp|\.ganclient-[0-9a-f]{16}")  # left by a killed process


class FolderOutput(SampleOutput):
    """A folder of image files; created if missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._record: SampleRecord | None = None
        self._next_row = 0

    def find(self, *, overwrite: bool) -> Found | None:
        """Returns what the folder holds. Foreign files are never overwritten, with or without `overwrite`."""
        check_output_folder(self.path)
        with writing(self.path):
            record = self._record_there()
            self._found_nothing = record is None
            return None if record is None else Found(record, self._first_missing(record) == record.end_row)

    def start(self, record: SampleRecord) -> None:
        """Removes the images that sample.json describes, and starts over."""
        self._take_for(record, create=True)
        with writing(self.path):
            there = self._record_there()
            if there is not None:
                if self._found_nothing:
                    raise another_writes(self.path)
                self._remove(there)
            begin(self._taken, record.to_json())

    def resume(self, record: SampleRecord, chunk_rows: int) -> int:
        """Resumes at the request that holds the first missing image; later images are written again."""
        self._take_for(record, create=False)
        with writing(self.path):
            if self._record_there() != record:
                raise another_writes(self.path)
            done = self._first_missing(record, clean=True) - record.first_row
        done = done if done == len(record.rows) else done - done % chunk_rows
        self._next_row = record.first_row + done
        return done

    def append(self, rows: SampleRows) -> None:
        """Writes one file per row."""
        assert self._record is not None
        assert not isinstance(rows, np.ndarray)
        with writing(self.path):
            for file in rows:
                path = self.path / self._record.file_name(self._next_row)
                path.parent.mkdir(exist_ok=True)
                with replacing(path, flush=False) as temporary:  # `_complete_files` skips files left empty
                    temporary.write_bytes(file)
                self._next_row += 1

    def finish(self) -> None:
        """Does nothing: every file is already in place."""

    def _take_for(self, record: SampleRecord, *, create: bool) -> None:
        self._take(self.path / RECORD_NAME, create=create)
        self._record, self._next_row = record, record.first_row

    def _record_there(self) -> SampleRecord | None:
        """Reads sample.json; None if the folder is empty or missing."""
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
                f"{self.path / RECORD_NAME}: is not the record of a sample ({error}); name another folder"
            ) from error

    def _check_empty(self) -> None:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != RECORD_NAME:
                    raise UnwritableOutput(
                        f"{self.path}: holds {entry.name!r:.80} and no {RECORD_NAME}; name an empty or a new folder"
                    )

    def _first_missing(self, record: SampleRecord, *, clean: bool = False) -> int:
        """The first row without a file, or the end of the rows; `clean` removes temporary files of killed processes."""
        if clean:
            self._complete_files(self.path, clean=True)
        for folder, rows in record.folders():
            complete = self._complete_files(self.path / folder, clean=clean)
            for row in rows:
                if Path(record.file_name(row)).name not in complete:
                    return row
        return record.end_row

    def _complete_files(self, folder: Path, *, clean: bool) -> set[str]:
        """The names of the files in a folder, except empty ones, which a system crash can leave."""
        complete = set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if clean and _UNFINISHED.fullmatch(entry.name):
                        Path(entry.path).unlink(missing_ok=True)
                    elif entry.is_file() and entry.stat().st_size:
                        complete.add(entry.name)
        except FileNotFoundError:  # a sub-folder whose rows are still missing
            return set()
        return complete

    def _remove(self, record: SampleRecord) -> None:
        for folder, rows in record.folders():
            if not (self.path / folder).is_dir():
                continue
            for row in rows:
                (self.path / record.file_name(row)).unlink(missing_ok=True)
            if folder and not any((self.path / folder).iterdir()):
                (self.path / folder).rmdir()
