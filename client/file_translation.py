"""Translates files on disk into files on disk; a bad one does not stop the others. Knows no command line.

In memory are the files of one request and its answer, and the pairs of the picture if one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Final

from client.chunks import chunks_of
from client.errors import InvalidRequest, UnwritableOutput
from client.failures import Failures
from client.images import save_file
from client.input_images import MAX_REQUEST_IMAGE_BYTES
from client.pairs import PairPicture
from client.picture_files import PictureFile
from client.picture_reader import read_picture
from client.translation import Translator
from client.wire import FileFormat, files_from
from ganserve.pictures import UnreadablePictureError

_SINGLE_FILE: Final = "encoded.data[0] "  # how a server names the only file of a request
_NO_OTHER_FILE_EITHER: Final = frozenset({ENOSPC, EDQUOT, EROFS})


@dataclass(frozen=True, slots=True)
class _Picture:
    file: PictureFile
    data: bytes


class FileTranslation:
    """One run over many files.

    Args:
        translator: whose answers are files of `file_format`.
        file_format: "png" or "jpeg".
        failures: told of every file that fails.
        pairs: shown every file before and after; None: no picture is wanted.
        advance: called with the number of files that are done with.
    """

    def __init__(
        self,
        translator: Translator,
        file_format: FileFormat,
        failures: Failures,
        pairs: PairPicture | None,
        advance: Callable[[int], None],
    ) -> None:
        self._translator = translator
        self._format: FileFormat = file_format
        self._failures = failures
        self._pairs = pairs
        self._advance = advance
        self.written = 0

    def run(self, files: Iterable[PictureFile]) -> None:
        """Translates all files, in order.

        Raises:
            GanClientError: the server is gone, or the disk is full: no other file would do better.
        """
        pictures = self._read(files)
        for chunk in chunks_of(
            pictures, lambda picture: len(picture.data), lambda: self._translator.chunk_rows, MAX_REQUEST_IMAGE_BYTES
        ):
            self._translate(chunk)

    def _read(self, files: Iterable[PictureFile]) -> Iterator[_Picture]:
        for file in files:
            try:
                picture = _Picture(file, read_picture(file.source))
            except UnreadablePictureError as error:
                self._fail(file, str(error))
            else:
                yield picture

    def _translate(self, chunk: list[_Picture]) -> None:
        try:
            response = self._translator.send([picture.data for picture in chunk])
        except InvalidRequest as error:
            if len(chunk) == 1:
                self._fail(chunk[0].file, str(error).removeprefix(_SINGLE_FILE))
                return
            for picture in chunk:  # the server refuses a request for one bad row: find out which
                self._translate([picture])
            return
        for picture, made in zip(chunk, files_from(response, len(chunk), self._format), strict=True):
            self._write(picture, made)

    def _write(self, picture: _Picture, made: bytes) -> None:
        try:
            save_file(made, Path(picture.file.output))
        except UnwritableOutput as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_OTHER_FILE_EITHER:
                raise
            self._fail(picture.file, str(error))
            return
        self.written += 1
        self._failures.any_succeeded = True
        self._advance(1)
        if self._pairs is not None:
            self._pairs.add(picture.data, made)

    def _fail(self, file: PictureFile, reason: str) -> None:
        self._failures.add(file.source, reason)
        self._advance(1)
