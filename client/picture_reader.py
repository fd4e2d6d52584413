"""Reads a picture file from disk as the server takes it: PNG and JPEG as they are, others as PNG. Knows no server."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Final

from PIL import UnidentifiedImageError

from client.input_images import JPEG_SIGNATURE, MAX_REQUEST_IMAGE_BYTES, PNG_SIGNATURE
from ganserve.pictures import UnreadablePictureError, decode_picture

MAX_FILE_BYTES: Final = 64 << 20
MAX_PIXELS: Final = 64 << 20  # of a file that is decoded here

_CONVERTED_FORMATS: Final = ("WEBP", "BMP", "GIF", "TIFF")


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
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # it travels once; time counts for more than size
    return file.getvalue()
