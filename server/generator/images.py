"""Validates images that are to be translated, before any is decoded or queued; see admission.py for the rules.

What only a decoder can tell about a file is left to image_reader.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import Card, ImageInput
from ganserve.pictures import JPEG_SIGNATURE, PNG_SIGNATURE
from server.config import ServerConfig
from server.errors import InvalidRequest
from server.limits import ImageFormat, SentTensor, check_rows, check_time, quote, read_format, row_bytes, show_shape

UINT8: Final = "UINT8"
FILE_CHANNELS: Final = (1, 3)  # a picture file is gray or RGB once it is read


class SentPixels(SentTensor):
    """Raw pixels as they came."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SentFiles:
    """Image files as they came: nothing about them is known to be true."""

    data: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class AdmittedImages:
    """What passed: images that may be read, and the format to answer in.

    Pixels, (rows, height, width, channels), are right in every way, up to being resized; files begin like PNG or JPEG.
    """

    source: NDArray[np.uint8] | tuple[bytes, ...]
    rows: int
    model: str
    input: ImageInput
    resize: bool
    max_image_pixels: int
    image_format: ImageFormat

    @property
    def rows_bytes(self) -> int:
        """Size of all rows once they are read."""
        return self.rows * row_bytes(self.input)


def admit_images(
    source: SentPixels | SentFiles | None,
    format_name: str,
    remaining_s: float | None,
    card: Card,
    config: ServerConfig,
    *,
    resize: bool,
) -> AdmittedImages:
    """Checks all that can be told without decoding anything.

    Args:
        source: None if the request holds neither pixels nor files.
        format_name: of the wanted format as the protocol spells it, or a number it does not define.
        remaining_s: time until the caller's deadline; None if it set none.
        card: of the model that is asked.
        config: the limits.
        resize: whether images of another size are to be fitted to the model's.

    Raises:
        InvalidRequest: the request can never succeed.
        DeadlinePassed: no time remains.
    """
    if not isinstance(card.input, ImageInput):
        raise InvalidRequest(f"{card.name!r} takes latents, not images: call Generate")
    image_format = read_format(format_name, card)
    admitted: NDArray[np.uint8] | tuple[bytes, ...]
    match source:
        case None:
            raise InvalidRequest("neither pixels nor encoded is set: send pixels, or PNG or JPEG files")
        case SentPixels():
            _check_pixels_shape(source, card.name, card.input, resize)
            rows = source.shape[0]
            check_rows("pixels.shape: the number of rows", rows, card, config, image_format)
            admitted = _checked_pixels(source, config)
        case SentFiles():
            rows = len(source.data)
            check_rows("encoded.data: the number of files", rows, card, config, image_format)
            admitted = _checked_files(source, card.name, card.input, config)
    check_time(remaining_s)
    return AdmittedImages(admitted, rows, card.name, card.input, resize, config.max_image_pixels, image_format)


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
        raise InvalidRequest(f"{refusal}; images of {channels} channels are not resized, so send that size")


def _checked_pixels(source: SentPixels, config: ServerConfig) -> NDArray[np.uint8]:
    rows, height, width, channels = source.shape
    if height * width > config.max_image_pixels:
        raise InvalidRequest(
            f"pixels.shape is {show_shape(source.shape)}: send images of at most {config.max_image_pixels} pixels"
        )
    if (size := rows * height * width * channels) > config.max_request_bytes:
        raise InvalidRequest(
            f"pixels of shape {show_shape(source.shape)} are {size} bytes, and a request holds"
            f" {config.max_request_bytes}: send fewer rows at a time"
        )
    data = source.read_data()
    if len(data) != size:
        raise InvalidRequest(
            f"pixels.data has {len(data)} bytes, but shape {show_shape(source.shape)} of uint8 needs {size}"
        )
    return np.frombuffer(data, np.uint8).reshape(source.shape)


def _checked_files(source: SentFiles, model: str, wanted: ImageInput, config: ServerConfig) -> tuple[bytes, ...]:
    if wanted.channels not in FILE_CHANNELS:
        raise InvalidRequest(
            f"encoded: files hold gray or RGB, and {model!r} takes {wanted.channels} channels: send pixels"
        )
    files = tuple(source.data)
    if (size := sum(map(len, files))) > config.max_request_bytes:
        raise InvalidRequest(
            f"encoded.data has {size} bytes, and a request holds {config.max_request_bytes}: send fewer files at a time"
        )
    for row, data in enumerate(files):
        if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
            raise InvalidRequest(f"encoded.data[{row}] is neither a PNG nor a JPEG file: send one of these")
    return files
