"""Lays images out in a grid, and writes image files whole or not at all. Knows no server.

The layout is that of torchvision's `make_grid`: the same columns and padding, and a single image stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from client.errors import UnwritableOutput
from ganserve.files import replacing

# File extension -> Pillow's format, and how to save in it without a loss that anyone would see.
_FILE_FORMATS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}


_unfinished: Final[set[Path]] = set()  # temporary files that may be there


def check_output(path: Path) -> None:
    """Finds out before any work is done whether `save_image` can write there; writes nothing.

    Raises:
        UnwritableOutput: it cannot.
    """
    _file_format(path)
    check_output_file(path)


def is_picture_name(path: Path) -> bool:
    """Whether the extension is that of a picture which `save_image` can write."""
    return path.suffix.lower() in _FILE_FORMATS


def check_output_file(path: Path) -> None:
    """Like `check_output`, for a file with any extension.

    Raises:
        UnwritableOutput: it cannot be written.
    """
    try:
        if path.is_dir():
            raise UnwritableOutput(f"{path}: is a folder; name a file in it")
        _check_folder(path, path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_output_folder(path: Path) -> None:
    """Finds out before any work is done whether files can be written into a folder, which need not be there yet.

    Raises:
        UnwritableOutput: they cannot.
    """
    try:
        _check_folder(path, path.absolute())
    except OSError as error:
        raise _unwritable(path, error) from error


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image file in the format that its extension names; makes its folder if there is none.

    The file appears by one rename: whatever happens, it is the old one or the new one.

    Raises:
        UnwritableOutput: it cannot be written; nothing is left behind.
    """
    file_format, options = _file_format(path)
    write_whole(path, lambda temporary: image.save(temporary, format=file_format, **options))


def save_file(data: bytes, path: Path) -> None:
    """Writes a file as it is, and else like `save_image`.

    Raises:
        UnwritableOutput: it cannot be written; nothing is left behind.
    """
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def remove_unfinished() -> None:
    """Removes the temporary files of writes in progress, for a process that ends in their midst."""
    for temporary in list(_unfinished):
        with suppress(OSError):  # the process ends in any case, and nobody would listen
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` make a file, which then appears at `path` by one rename; makes its folder if there is none.

    Args:
        path: where the file shall be.
        write: makes the file at the path that it is given; may raise OSError or ValueError for what cannot be written.

    Raises:
        UnwritableOutput: it cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            _unfinished.add(temporary)
            try:
                write(temporary)
            finally:
                _unfinished.discard(temporary)
    except (OSError, ValueError) as error:  # Pillow raises both for what a format cannot hold
        raise _unwritable(path, error) from error


def _check_folder(path: Path, folder: Path) -> None:
    """Checks that `folder`, or the nearest one above that is there, can be written to; `path` is what it is for."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UnwritableOutput(f"{path}: cannot be written, for {folder} is not a folder; name another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: cannot be written, for {folder} is not yours to write to; name another place")


def _file_format(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        return _FILE_FORMATS[path.suffix.lower()]
    except KeyError as error:
        raise UnwritableOutput(
            f"{path}: has no known image extension; use one of {', '.join(_FILE_FORMATS)}"
        ) from error


def _unwritable(path: Path, error: OSError | ValueError) -> UnwritableOutput:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return UnwritableOutput(f"{path}: cannot be written ({reason}); name another file or format")
