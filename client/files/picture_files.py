"""Finds the pictures to translate, decides where each output goes before any work starts, and reads them.

Paths are plain strings, so that a folder of 100,000 files takes a few dozen megabytes.
"""
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH119, PTH122  (os.path, for these strings)

from __future__ import annotations

import io
import os
import platform
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from PIL import UnidentifiedImageError

from client.errors import InvalidRequest
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from ganserve.pictures import JPEG_SIGNATURE, PNG_SIGNATURE, UnreadablePictureError, decode_picture

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS: Final = 64 << 20  # of a file that is decoded here

_CONVERTED_FORMATS: Final = ("WEBP", "BMP", "GIF", "TIFF")


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file to translate."""

    source: str
    output: str


@dataclass(frozen=True)
class Plan:
    """The files to translate, and the folders that cannot be searched, each with the reason."""

    files: list[PictureFile]
    unreadable: list[tuple[str, str]]


def plan_translation(inputs: Sequence[str], out: str, extension: str) -> Plan:
    """Finds the pictures and assigns outputs: files go directly into `out`, files of a folder keep its sub-folders.

    Folders are searched to any depth, except for links to folders, hidden names, and `out` itself.

    Args:
        inputs: Files and folders.
        out: The folder to write to.
        extension: Of the files to write, for example ".png".

    Raises:
        InvalidRequest: An input does not exist or holds no picture, two inputs would become one file, or an output
            would replace an input.
    """
    unreadable: list[tuple[str, str]] = []
    by_output: dict[str, PictureFile] = {}
    place = _places()
    for path in inputs:
        found, unreadable_before = False, len(unreadable)
        for source, relative in _pictures(path, out, unreadable):
            found = True
            file = PictureFile(source, os.path.join(out, os.path.splitext(relative)[0] + extension))
            other = by_output.setdefault(place(file.output), file)
            if other is not file and place(_target(other.source)) != place(_target(source)):
                raise InvalidRequest(
                    f"{other.source} and {source} would both become {file.output}; rename one of them, or translate"
                    " them in two calls into different --out folders"
                )
        if not found and len(unreadable) == unreadable_before:
            raise InvalidRequest(f"{path}: holds no picture (looked for {', '.join(SUFFIXES)}); name another folder")
    files = list(by_output.values())
    sources = {place(path): file.source for file in files for path in (file.source, _target(file.source))}
    for file in files:
        if (output := place(file.output)) in sources:
            source = sources[output]
            what = "an input" if output == place(source) else f"the target of the link {source}"
            raise InvalidRequest(f"{file.output} is {what} and would be replaced; name another --out folder")
    return Plan(files, unreadable)


def is_among(path: str, files: Sequence[PictureFile]) -> bool:
    """Whether `path` is one of the files to read or to write."""
    place = _places()
    wanted = place(path)
    return any(wanted in map(place, (file.output, file.source, _target(file.source))) for file in files)


def read_picture(path: str) -> bytes:
    """Reads a file as PNG or JPEG, and converts other formats to PNG. PNG and JPEG files are not decoded here.

    Raises:
        UnreadablePictureError: The file cannot be read, has an unknown format, or is too large to send.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UnreadablePictureError(f"cannot be read ({reason})") from error
    if not data:
        raise UnreadablePictureError("is empty")
    if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        data = _as_png(data)
    if len(data) > MAX_REQUEST_IMAGE_BYTES:
        raise UnreadablePictureError(
            f"is too large to send: {len(data) / (1 << 20):.1f} MiB, and the limit is"
            f" {MAX_REQUEST_IMAGE_BYTES >> 20} MiB; make it smaller"
        )
    return data


def _places() -> Callable[[str], str]:
    """A function that maps all names of one file to the same text; it resolves each folder once."""
    real_folder = cache(os.path.realpath)

    def place(path: str) -> str:
        folder, name = os.path.split(path)
        place = os.path.join(real_folder(folder or os.curdir), name)  # the file may be a link, which writing replaces
        if platform.system() == "Darwin":  # names that differ in case only are one file
            return unicodedata.normalize("NFC", place).casefold()
        return os.path.normcase(place)

    return place


def _target(path: str) -> str:
    """The file that `path` names, with links resolved."""
    return os.path.realpath(path) if os.path.islink(path) else path


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


def _as_png(data: bytes) -> bytes:
    try:
        picture = decode_picture(data, formats=_CONVERTED_FORMATS, max_pixels=MAX_PIXELS)
    except UnreadablePictureError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            formats = ", ".join(("PNG", "JPEG", *_CONVERTED_FORMATS))
            raise UnreadablePictureError(f"unknown format (not {formats}); convert it to PNG") from error
        raise UnreadablePictureError(f"cannot be decoded ({error})") from error
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # sent once: fast compression matters more than size
    return file.getvalue()
