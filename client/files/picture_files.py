"""Picture files on disk: which are translated and where each goes, decided before any work; and what is sent of one.

Knows no server. Names are kept as plain strings, so that a folder of 100,000 files costs a few dozen megabytes.
"""
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH119, PTH120, PTH122  (os.path, for these strings)

from __future__ import annotations

import io
import os
import platform
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import UnidentifiedImageError

from client.errors import InvalidRequest
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from ganserve.pictures import JPEG_SIGNATURE, PNG_SIGNATURE, UnreadablePictureError, decode_picture

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_FILE_BYTES: Final = 64 << 20
MAX_PIXELS: Final = 64 << 20  # of a file that is decoded here

_CONVERTED_FORMATS: Final = ("WEBP", "BMP", "GIF", "TIFF")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file to translate."""

    source: str
    output: str


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    files: list[PictureFile]
    unreadable: list[tuple[str, str]]  # folders that cannot be searched, and why


def plan_translation(inputs: Sequence[str], out: str, extension: str) -> Plan:
    """Finds the files and decides where each goes: a file directly into `out`, a folder's with its relative folders.

    Folders are searched to any depth, without links to folders, hidden names, and `out` itself, which may lie there.

    Args:
        inputs: files and folders.
        out: the folder to write to; nothing is ever written outside of it.
        extension: of the files to be written, ".png" for example.

    Raises:
        InvalidRequest: an input is not there or holds no picture, two would be written to one file, an input would be
            replaced by its own translation, or `out` leads elsewhere.
    """
    unreadable: list[tuple[str, str]] = []
    by_output: dict[str, PictureFile] = {}
    real_paths = _RealPaths()
    for path in inputs:
        found, unreadable_before = False, len(unreadable)
        for source, relative in _pictures(path, out, unreadable):
            found = True
            file = PictureFile(source, os.path.join(out, os.path.splitext(relative)[0] + extension))
            other = by_output.setdefault(_key(real_paths.entry(file.output)), file)
            if other is not file and real_paths.file(other.source) != real_paths.file(source):
                raise InvalidRequest(
                    f"{other.source} and {source} would both become {file.output}; rename one of them, or translate"
                    " them in two calls into different --out folders"
                )
        if not found and len(unreadable) == unreadable_before:
            raise InvalidRequest(f"{path}: no picture in it (looked for {', '.join(SUFFIXES)}); name another folder")
    files = list(by_output.values())
    _check_outputs(files, out, real_paths)
    return Plan(files, unreadable)


def is_among(path: str, files: Sequence[PictureFile]) -> bool:
    """Whether `path` is one of the files to read or to write."""
    real_paths = _RealPaths()
    wanted = _key(real_paths.entry(path))
    return any(wanted in (_key(real_paths.entry(file.output)), *_keys_of_source(file, real_paths)) for file in files)


def read_picture(path: str) -> bytes:
    """The file as PNG or JPEG; whether these two can be decoded is for the server to say.

    Raises:
        UnreadablePictureError: it cannot be read, is of no known format, or is too large to send.
    """
    data = _read(path)
    if not data:
        raise UnreadablePictureError("is empty")
    if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        data = _as_png(data)
    if len(data) > MAX_REQUEST_IMAGE_BYTES:
        raise UnreadablePictureError(
            f"is too large to send: {len(data) / (1 << 20):.1f} MiB, and {MAX_REQUEST_IMAGE_BYTES >> 20} MiB is the"
            " most; make it smaller"
        )
    return data


class _RealPaths:
    """Resolves links in the names of many files, those of each folder once."""

    def __init__(self) -> None:
        self._resolved: dict[str, str] = {}

    def folder_of(self, path: str) -> str:
        """The folder of `path`, free of links."""
        folder = os.path.dirname(path)
        if folder not in self._resolved:
            self._resolved[folder] = os.path.realpath(folder or os.curdir)
        return self._resolved[folder]

    def entry(self, path: str) -> str:
        """`path` with its folder free of links; the file itself may be one, which writing replaces."""
        return os.path.join(self.folder_of(path), os.path.basename(path))

    def file(self, path: str) -> str:
        """`path` free of links, which is what reading reads."""
        entry = self.entry(path)
        return os.path.realpath(entry) if os.path.islink(entry) else entry


def _pictures(path: str, out: str, unreadable: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields (source, path relative to the output folder) of an input, sorted."""
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise InvalidRequest(f"{path}: neither a file nor a folder; check the name")
        yield path, os.path.basename(path)
        return

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), error.strerror or str(error)))

    real_out = os.path.realpath(out)
    for folder, folders, names in os.walk(path, onerror=note):
        folders[:] = sorted(
            name
            for name in folders
            if not _is_hidden(name) and os.path.realpath(os.path.join(folder, name)) != real_out
        )
        relative_folder = os.path.relpath(folder, path)
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not _is_hidden(name):
                relative = name if relative_folder == os.curdir else os.path.join(relative_folder, name)
                yield os.path.join(folder, name), relative


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _check_outputs(files: list[PictureFile], out: str, real_paths: _RealPaths) -> None:
    real_out = os.path.realpath(out)
    sources = {key: file.source for file in files for key in _keys_of_source(file, real_paths)}
    for file in files:
        folder = real_paths.folder_of(file.output)
        if not f"{folder}{os.sep}".startswith(f"{real_out.rstrip(os.sep)}{os.sep}"):
            raise InvalidRequest(
                f"{file.output} would lie in {folder}, outside of the --out folder, for a link leads there; remove the"
                " link, or name another --out folder"
            )
        if (place := _key(real_paths.entry(file.output))) in sources:
            source = sources[place]
            what = "an input" if place == _key(real_paths.entry(source)) else f"what the link {source} leads to"
            raise InvalidRequest(f"{file.output} is {what} and would be replaced; name another --out folder")


def _keys_of_source(file: PictureFile, real_paths: _RealPaths) -> tuple[str, str]:
    """What must not be replaced: the input as it is named, and what it leads to if it is a link."""
    return _key(real_paths.entry(file.source)), _key(real_paths.file(file.source))


def _key(path: str) -> str:
    """The same for names that the file system takes for one."""
    if platform.system() == "Darwin":
        return unicodedata.normalize("NFC", path).casefold()
    return os.path.normcase(path)


def _read(path: str) -> bytes:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for
            raise UnreadablePictureError("is not a regular file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UnreadablePictureError(f"cannot be read ({reason})") from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadablePictureError(f"is larger than {MAX_FILE_BYTES >> 20} MiB; make it smaller")
    return data


def _as_png(data: bytes) -> bytes:
    try:
        picture = decode_picture(data, formats=_CONVERTED_FORMATS, max_pixels=MAX_PIXELS)
    except UnreadablePictureError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            formats = ", ".join(("PNG", "JPEG", *_CONVERTED_FORMATS))
            raise UnreadablePictureError(f"is none of {formats}; convert it to PNG") from error
        raise UnreadablePictureError(f"cannot be decoded ({error})") from error
    except MemoryError as error:
        raise UnreadablePictureError("cannot be decoded (there is too little memory); make it smaller") from error
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # it travels once; time counts for more than size
    return file.getvalue()
