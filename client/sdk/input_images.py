"""Validates images to translate, one row at a time: an array of pixels, files, or PIL images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.sdk.latents import MAX_ROWS
from ganserve.picture_headers import JPEG_SIGNATURE, PNG_SIGNATURE

if TYPE_CHECKING:
    from PIL.Image import Image

# Keeps a request below 32 MiB, framing included. Servers have a limit, too, and gRPC retries only requests that fit the
# buffer set in `channel.py`.
MAX_REQUEST_IMAGE_BYTES: Final = 31 << 20

InputImages: TypeAlias = "NDArray[np.uint8] | Iterable[bytes | Image]"
InputRow: TypeAlias = bytes | NDArray[np.uint8]  # a PNG or JPEG file, or (height, width, channels)

# Pillow modes that PNG cannot hold and that convert to RGB unambiguously; floating point does not.
_MODES_FOR_RGB: Final = frozenset({"CMYK", "YCbCr", "LAB", "HSV", "RGBX"})


def checked_images(images: InputImages) -> Iterable[InputRow]:
    """The rows of `images`; an iterable is consumed and checked row by row.

    Args:
        images: uint8 (rows, height, width, channels), or PNG or JPEG files, or PIL images.

    Raises:
        InvalidRequest: `images` or a row of it is something else; rows are checked when they are reached.
    """
    if isinstance(images, np.ndarray):
        return _checked_array(images)
    if isinstance(images, str | bytes | bytearray | memoryview) or not isinstance(images, Iterable):
        raise InvalidRequest(
            "images: must be a uint8 array, or a list of PNG or JPEG files (bytes) or of PIL images, not"
            f" {type(images).__name__}; put a single one into a list"
        )
    return _checked_rows(images)


def row_bytes(row: InputRow) -> int:
    """The size of a row in a request, in bytes."""
    return len(row) if isinstance(row, bytes) else row.nbytes


def _checked_array(images: NDArray[Any]) -> NDArray[np.uint8]:
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape or images.shape[3] > 4:
        raise InvalidRequest(
            "images: an array must be uint8 of shape (rows, height, width, channels) with 1 .. 4 channels, not"
            f" {images.dtype} {images.shape!s:.80}"
        )
    if len(images) > MAX_ROWS:
        raise InvalidRequest(f"images: must have at most {MAX_ROWS} rows, not {len(images)}")
    _check_size("images", images[0].nbytes)
    return images


def _checked_rows(images: Iterable[object]) -> Iterator[bytes]:
    for index, image in enumerate(images):
        name = f"images[{index}]"
        if isinstance(image, bytes | bytearray | memoryview):
            file = bytes(image)
            if not file.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
                raise InvalidRequest(f"{name}: is neither a PNG nor a JPEG file; convert it or give a PIL image")
        else:
            file = _png_of(name, image)
        _check_size(name, len(file))
        yield file


def _check_size(name: str, size_bytes: int) -> None:
    if size_bytes > MAX_REQUEST_IMAGE_BYTES:
        raise InvalidRequest(
            f"{name}: an image of {size_bytes} bytes is too large to send, the limit is {MAX_REQUEST_IMAGE_BYTES};"
            " make it smaller"
        )


def _png_of(name: str, image: object) -> bytes:
    from PIL import Image, ImageOps  # needed for PIL images only

    if not isinstance(image, Image.Image):
        raise InvalidRequest(
            f"{name}: must be a PNG or JPEG file (bytes) or a PIL image, not {type(image).__name__};"
            " read files first, and stack arrays into one (rows, height, width, channels)"
        )
    file = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        plain = upright.convert("RGB") if upright.mode in _MODES_FOR_RGB else upright
        plain.save(file, "PNG", compress_level=1)  # sent once: fast compression matters more than size
    except Exception as error:  # Pillow reads the file only now, and decoders raise all kinds of errors
        raise InvalidRequest(f"{name}: cannot be sent as PNG ({error}); convert it to RGB first") from error
    return file.getvalue()
