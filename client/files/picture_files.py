"""Finds the pictures to translate, decides where each output goes before any work starts, and reads them.

Paths are plain strings, so that a folder of 100,000 files takes a few dozen megabytes.
"""
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH119, PTH122  (os.path, for these strings)

from __future__ import annotations

import io
import os
import platform
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Final

from PIL import UnidentifiedImageError

from client.errors import InvalidRequest
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from ganserve.picture_formats import counts, is_hidden, picture_formats, why_left_out
from ganserve.pictures import JPEG_SIGNATURE, PNG_SIGNATURE, UnreadablePictureError, decode_picture

MAX_PIXELS: Final = 64 << 20  # of a file that is decoded here


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file to translate."""

    source: str
    output: str


@dataclass(frozen=True)
class Plan:
    """What was found in the inputs.

    Attributes:
        files: The files to translate.
        unreadable: The folders that cannot be searched, each with the reason.
        left_out: What is not translated: why -> how many files, links or hidden folders.
    """

    files: list[PictureFile]
    unreadable: list[tuple[str, str]]
    left_out: Mapping[str, int]


def plan_translation(inputs: Sequence[str], out: str, extension: str) -> Plan:
    """Finds the pictures and assigns outputs: files go directly into `out`, files of a folder keep its sub-folders.

    Folders are searched to any depth, except for links to folders, hidden names, and `out` itself. A file in them is a
    picture as in ganserve/picture_formats.py.

    Args:
        inputs: Files and folders.
        out: The folder to write to.
        extension: Of the files to write, for example ".png".

    Raises:
        InvalidRequest: An input does not exist or holds no picture, two inputs would become one file, or an output
            would replace an input.
    """
    unreadable: list[tuple[str, str]] = []
    left_out: Counter[str] = Counter()
    by_output: dict[str, PictureFile] = {}
    place = _places()
    for path in inputs:
        found, unreadable_before = False, len(unreadable)
        left_out_here: Counter[str] = Counter()
        for source, relative in _pictures(path, out, unreadable, left_out_here):
            found = True
            file = PictureFile(source, os.path.join(out, os.path.splitext(relative)[0] + extension))
            other = by_output.setdefault(place(file.output), file)
            if other is not file and place(_target(other.source)) != place(_target(source)):
                raise InvalidRequest(
                    f"{other.source} and {source} would both become {file.output}; rename one of them, or translate"
                    " them in two calls into different --out folders"
                )
        left_out += left_out_here
        if not found and len(unreadable) == unreadable_before:
            others = f" (left out: {counts(left_out_here)})" if left_out_here else ""
            raise InvalidRequest(f"{path}: holds no picture, by suffix or by content{others}; name another folder")
    files = list(by_output.values())
    sources = {place(path): file.source for file in files for path in (file.source, _target(file.source))}
    for file in files:
        if (output := place(file.output)) in sources:
            source = sources[output]
            what = "an input" if output == place(source) else f"the target of the link {source}"
            raise InvalidRequest(f"{file.output} is {what} and would be replaced; name another --out folder")
    return Plan(files, unreadable, left_out)


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


def _pictures(
    path: str, out: str, unreadable: list[tuple[str, str]], left_out: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Yields (source, path relative to the output folder) of an input, sorted; counts what it leaves out."""
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise InvalidRequest(f"{path}: neither a file nor a folder; check the name")
        yield path, os.path.basename(path)
        return

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), error.strerror or str(error)))

    real_out = os.path.realpath(out)
    for folder, folders, names in os.walk(path, onerror=note):
        searched = []
        for name in sorted(folders):
            if os.path.realpath(os.path.join(folder, name)) == real_out:
                continue
            if is_hidden(name):
                left_out["hidden"] += 1
            elif os.path.islink(os.path.join(folder, name)):
                left_out["link to a folder"] += 1
            else:
                searched.append(name)
        folders[:] = searched
        relative_folder = os.path.relpath(folder, path)
        for name in sorted(names):
            source = os.path.join(folder, name)
            if (reason := _why_left_out(source, name)) is None:
                yield source, name if relative_folder == os.curdir else os.path.join(relative_folder, name)
            else:
                left_out[reason] += 1


def _why_left_out(path: str, name: str) -> str | None:
    if os.path.isfile(path):
        return why_left_out(PurePath(name), lambda: Path(path).open("rb"))
    return "broken link" if os.path.islink(path) else "neither file nor folder"


def _as_png(data: bytes) -> bytes:
    try:
        picture = decode_picture(data, formats=picture_formats(), max_pixels=MAX_PIXELS)
    except UnreadablePictureError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise UnreadablePictureError("is no picture, or in an unknown format; convert it to PNG") from error
        raise UnreadablePictureError(f"cannot be decoded ({error})") from error
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # sent once: fast compression matters more than size
    return file.getvalue()
