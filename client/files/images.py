"""Writes image files atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from client.errors import UnwritableOutput
from ganserve.files import replacing

# File extension -> Pillow's format and its options for a visually lossless file.
_FILE_FORMATS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}

_unfinished: Final[set[Path]] = set()  # temporary files of writes in progress


def check_output(path: Path) -> None:
    """Checks, before any work is done, that `save_image` can write to `path`; writes nothing.

    Raises:
        UnwritableOutput: It cannot.
    """
    _file_format(path)
    check_output_file(path)


def is_picture_name(path: Path) -> bool:
    """Whether `save_image` can write a file with this extension."""
    return path.suffix.lower() in _FILE_FORMATS


def check_output_file(path: Path) -> None:
    """Like `check_output`, for any extension.

    Raises:
        UnwritableOutput: The file cannot be written.
    """
    try:
        if path.is_dir():
            raise UnwritableOutput(f"{path}: is a folder; name a file in it")
        _check_folder(path, path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_output_folder(path: Path) -> None:
    """Checks, before any work is done, that files can be written into a folder, which need not exist yet.

    Raises:
        UnwritableOutput: They cannot.
    """
    try:
        _check_folder(path, path.absolute())
    except OSError as error:
        raise _unwritable(path, error) from error


def save_image(image: Image.Image, path: Path) -> None:
    """Writes an image in the format of its extension; creates the folder if needed.

    The file is replaced atomically: it is the old one until the new one is complete.

    Raises:
        UnwritableOutput: The file cannot be written; nothing is left behind.
    """
    file_format, options = _file_format(path)
    write_atomically(path, lambda temporary: image.save(temporary, format=file_format, **options))


def save_file(data: bytes, path: Path) -> None:
    """Like `save_image`, for the bytes of a complete file.

    Raises:
        UnwritableOutput: The file cannot be written; nothing is left behind.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def remove_unfinished() -> None:
    """Removes the temporary files of writes in progress; for a process that is about to exit."""
    for temporary in list(_unfinished):
        with suppress(OSError):  # the process exits in any case
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path, then renames that file to `path`; creates the folder if needed.

    Args:
        path: The output.
        write: Writes the file at the given path; raises OSError or ValueError on failure.

    Raises:
        UnwritableOutput: The file cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, flush=False) as temporary:
            _unfinished.add(temporary)
            try:
                write(temporary)
            finally:
                _unfinished.discard(temporary)
    except (OSError, ValueError) as error:  # Pillow raises both if the format cannot hold the image
        raise _unwritable(path, error) from error


def _check_folder(path: Path, folder: Path) -> None:
    """Checks that `folder`, or its nearest existing parent, is writable; errors name `path`."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UnwritableOutput(f"{path}: cannot be written, because {folder} is not a folder; name another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{path}: cannot be written, because you may not write to {folder}; name another place")


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
