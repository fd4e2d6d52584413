"""Checks the images of a request before any is decoded or queued, like latents.py.

image_reader.py checks what only a decoder can see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import ImageInput
from ganserve.pictures import JPEG_SIGNATURE, PNG_SIGNATURE
from server.errors import InvalidRequest
from server.limits import Contract, ImageFormat, SentTensor, quote, show_shape

UINT8: Final = "UINT8"
FILE_CHANNELS: Final = (1, 3)  # a decoded file is grayscale or RGB


class SentPixels(SentTensor):
    """Raw pixels as they were sent, unchecked."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SentFiles:
    """Image files as they were sent, unchecked."""

    data: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class AdmittedImages:
    """Images that passed every check, and the format of the answer.

    Pixels, (rows, height, width, channels), may need to be resized; files have the signature of PNG or JPEG.
    """

    source: NDArray[np.uint8] | tuple[bytes, ...]
    rows: int
    rows_bytes: int  # after reading
    model: str
    input: ImageInput
    resize: bool
    max_image_pixels: int
    image_format: ImageFormat


def admit_images(
    source: SentPixels | SentFiles | None, format_name: str, contract: Contract, resize: bool
) -> AdmittedImages:
    """Checks everything that can be checked without decoding anything.

    Args:
        source: None if the request holds neither pixels nor files.
        format_name: requested format as the protocol spells it; a number if the protocol does not define it.
        contract: contract of the requested model.
        resize: whether to resize images of another size to the model's.

    Raises:
        InvalidRequest: the request can never succeed.
    """
    model, wanted = contract.card.name, contract.card.input
    if not isinstance(wanted, ImageInput):
        raise InvalidRequest(f"{model!r} takes latents, not images: call Generate")
    image_format = contract.read_format(format_name)
    admitted: NDArray[np.uint8] | tuple[bytes, ...]
    match source:
        case None:
            raise InvalidRequest("neither pixels nor encoded is set: send pixels, or PNG or JPEG files")
        case SentPixels():
            _check_pixels_shape(source, model, wanted, resize)
            rows = source.shape[0]
            contract.check_rows("pixels.shape: the number of rows", rows, image_format)
            admitted = _checked_pixels(source, contract)
        case SentFiles():
            rows = len(source.data)
            contract.check_rows("encoded.data: the number of files", rows, image_format)
            admitted = _checked_files(source, contract, wanted.channels)
    rows_bytes = rows * contract.input.row_bytes
    max_image_pixels = contract.config.max_image_pixels
    return AdmittedImages(admitted, rows, rows_bytes, model, wanted, resize, max_image_pixels, image_format)


def _check_pixels_shape(source: SentPixels, model: str, wanted: ImageInput, resize: bool) -> None:
    if source.dtype != UINT8:
        raise InvalidRequest(f"pixels.dtype is {quote(source.dtype)}: send {UINT8}")
    takes = f"{model!r} takes (rows, {', '.join(map(str, wanted.row_shape))})"
    refusal = f"pixels.shape is {show_shape(source.shape)}: {takes}"
    if len(source.shape) != 4 or source.shape[3] != wanted.channels:
        raise InvalidRequest(refusal)
    _, height, width, channels = source.shape
    if (height, width) == (wanted.height, wanted.width):
        return
    if not resize:
        raise InvalidRequest(f"{refusal}; send images of that size, or set resize")
    if min(height, width) < 1:
        raise InvalidRequest(f"{refusal}; send images of at least 1x1")
    if channels not in FILE_CHANNELS:
        raise InvalidRequest(f"{refusal}; images of {channels} channels cannot be resized, so send that size")


def _checked_pixels(source: SentPixels, contract: Contract) -> NDArray[np.uint8]:
    rows, height, width, channels = source.shape
    if height * width > contract.config.max_image_pixels:
        raise InvalidRequest(
            f"pixels.shape is {show_shape(source.shape)}: send images of at most"
            f" {contract.config.max_image_pixels} pixels"
        )
    if (size := rows * height * width * channels) > contract.max_input_bytes:
        raise InvalidRequest(
            f"pixels of shape {show_shape(source.shape)} are {size} bytes, and a request holds"
            f" {contract.max_input_bytes}: send fewer rows at a time"
        )
    data = source.read_data()
    if len(data) != size:
        raise InvalidRequest(
            f"pixels.data has {len(data)} bytes, but shape {show_shape(source.shape)} of uint8 needs {size}"
        )
    return np.frombuffer(data, np.uint8).reshape(source.shape)


def _checked_files(source: SentFiles, contract: Contract, channels: int) -> tuple[bytes, ...]:
    if channels not in FILE_CHANNELS:
        raise InvalidRequest(
            f"encoded: files hold gray or RGB, and {contract.card.name!r} takes {channels} channels: send pixels"
        )
    files = tuple(source.data)
    limit_bytes = contract.max_input_bytes
    if (size := sum(map(len, files))) > limit_bytes:
        raise InvalidRequest(
            f"encoded.data has {size} bytes, and a request holds {limit_bytes}: send fewer files at a time"
        )
    for row, data in enumerate(files):
        if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
            raise InvalidRequest(f"encoded.data[{row}] is neither a PNG nor a JPEG file: send one of these")
    return files
