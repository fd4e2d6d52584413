"""Translates picture files into picture files; a file that fails does not stop the others.

Memory holds the files of one request and of its response, and the pairs of the picture if there is one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Final

from client.errors import InvalidRequest, UnwritableOutput
from client.files.images import save_file
from client.files.pairs import PairPicture
from client.files.picture_files import PictureFile, read_picture
from client.sdk.calls import Translator
from client.sdk.messages import FileFormat, files_from
from ganserve.pictures import UnreadablePictureError

_SINGLE_FILE: Final = "images[0] "  # how an error names the only file of a request
_RESIZE_FIELD: Final = "set resize"  # the end of a server's error about an image of another size
_RESIZE_FLAG: Final = "give --resize"
_FATAL_ERRNOS: Final = frozenset({ENOSPC, EDQUOT, EROFS})

_FIRST_LINES: Final = 5  # per kind of reason while nothing has succeeded: probably all files fail alike
_MAX_LINES: Final = 1000


class Failures:
    """Counts failed files, and reports each in one line, up to a limit.

    Args:
        say: Prints one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._reported: Counter[str] = Counter()  # lines printed, by kind
        self._unreported: Counter[str] = Counter()  # failures without a line of their own, by kind
        self._examples: dict[str, str] = {}  # kind -> the first reason of that kind
        self.any_succeeded = False

    def __len__(self) -> int:
        """The number of failures."""
        return self._reported.total() + self._unreported.total()

    def add(self, name: str, reason: str) -> None:
        """Notes that the file `name` failed. Reasons that differ only in numbers are of one kind."""
        kind = re.sub(r"\d+", "0", reason)
        self._examples.setdefault(kind, reason)
        if self._reported.total() < _MAX_LINES and (self.any_succeeded or self._reported[kind] < _FIRST_LINES):
            self._reported[kind] += 1
            self._say(f"{name}: {reason}")
        else:
            self._unreported[kind] += 1

    def report_rest(self) -> None:
        """Reports, in one line per kind, how many failures had no line of their own."""
        for kind, count in self._unreported.items():
            self._say(f"... and {count} more like this: {self._examples[kind]}")


@dataclass(frozen=True, slots=True)
class _Picture:
    file: PictureFile
    data: bytes


class FileTranslation:
    """One run over many files.

    Args:
        translator: Its responses hold files of `file_format`.
        file_format: "png" or "jpeg".
        failures: Collects the files that fail.
        pairs: Collects files before and after translation; None if no picture is wanted.
        advance: Called with the number of files that have just succeeded or failed.
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
            GanClientError: The server is gone or the disk is full, so that every other file would fail too.
        """
        for chunk in self._translator.chunks_of(self._read(files), lambda picture: len(picture.data)):
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
        done = 0
        try:
            for count, response in self._translator.send([picture.data for picture in chunk]):
                made_files = files_from(response, count, self._format)
                for picture, made in zip(chunk[done : done + count], made_files, strict=True):
                    self._write(picture, made)
                done += count
        except InvalidRequest as error:
            if len(chunk) == 1:
                self._fail(chunk[0].file, _reason(str(error)))
                return
            for picture in chunk[done:]:  # one bad row fails the entire request: send each row alone
                self._translate([picture])

    def _write(self, picture: _Picture, made: bytes) -> None:
        try:
            save_file(made, Path(picture.file.output))
        except UnwritableOutput as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FATAL_ERRNOS:
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


def _reason(refusal: str) -> str:
    """A server's reason for refusing a single file, with flags instead of field names."""
    reason = refusal.removeprefix(_SINGLE_FILE)
    return reason.removesuffix(_RESIZE_FIELD) + _RESIZE_FLAG if reason.endswith(_RESIZE_FIELD) else reason
