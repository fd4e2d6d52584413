"""How much one request may ask for, whatever its rows are: rows, formats, time. Plain values, and arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import Card, LatentInput, RowInput
from server.config import ServerConfig
from server.errors import DeadlinePassed, InvalidRequest

FLOAT32_BYTES: Final = 4
_MAX_QUOTED: Final = 80  # characters of the caller's own text that a message repeats
_MAX_SHAPE_SHOWN: Final = 4
_JPEG_CHANNELS: Final = (1, 3)
_JPEG_MAX_SIDE: Final = 65_500  # of libjpeg


@dataclass(frozen=True, slots=True)
class SentTensor:
    """A tensor as it came: nothing about it is known to be true."""

    dtype: str
    shape: tuple[int, ...]
    read_data: Callable[[], bytes]  # copies them out of the message, so only once the rest is right


class ImageFormat(StrEnum):
    """What a caller wants its images as."""

    PIXELS = "PIXELS"
    FLOAT32 = "FLOAT32"
    PNG = "PNG"
    JPEG = "JPEG"


def read_format(name: str, card: Card) -> ImageFormat:
    """Returns the format of that name.

    Args:
        name: as the protocol spells it, or a number it does not define.
        card: of the model whose images are to be in the format.

    Raises:
        InvalidRequest: there is no such format, or it cannot hold the model's images.
    """
    if name not in ImageFormat.__members__:
        raise InvalidRequest(f"format {name} is unknown: use one of {', '.join(ImageFormat)}")
    image_format = ImageFormat(name)
    fits_jpeg = card.channels in _JPEG_CHANNELS and max(card.height, card.width) <= _JPEG_MAX_SIDE
    if image_format is ImageFormat.JPEG and not fits_jpeg:
        raise InvalidRequest(
            f"format JPEG cannot hold the {card.channels}x{card.height}x{card.width} images of {card.name!r}:"
            " ask for format PNG"
        )
    return image_format


def max_rows(card: Card, config: ServerConfig, image_format: ImageFormat = ImageFormat.PIXELS) -> int:
    """The most rows that one request for a model may hold, whichever limit comes first."""
    return min(
        config.max_request_rows,
        config.max_queue_rows,
        config.max_response_bytes // _image_bytes(card, image_format),
        max_input_bytes(card, config) // row_bytes(card.input),
    )


def max_input_bytes(card: Card, config: ServerConfig) -> int:
    """The most bytes of latents, pixels or files that one request for a model may hold."""
    return config.max_latents_bytes if isinstance(card.input, LatentInput) else config.max_request_bytes


def row_bytes(row_input: RowInput) -> int:
    """Size of one row."""
    return math.prod(row_input.row_shape) * np.dtype(row_input.dtype).itemsize


def check_rows(field: str, rows: int, card: Card, config: ServerConfig, image_format: ImageFormat) -> None:
    """Raises unless a request may hold so many rows; `field` is where the number comes from.

    Raises:
        InvalidRequest: it may not.
    """
    if rows < 1:
        raise InvalidRequest(f"{field} is {rows}: ask for at least 1 row")
    if rows > (fitting := max_rows(card, config, image_format)):
        raise InvalidRequest(_too_many(rows, fitting, card, config, image_format))


def check_time(remaining_s: float | None) -> None:
    """Raises unless time remains until the caller's deadline; None if it set none.

    Raises:
        DeadlinePassed: no time remains.
    """
    if remaining_s is not None and remaining_s <= 0:
        raise DeadlinePassed("the deadline has passed already: allow more time")


def quote(text: str) -> str:
    """A text of the caller's, safe to repeat: escaped, and cut if it is long."""
    return repr(text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "...")


def show_shape(shape: tuple[int, ...]) -> str:
    """A shape of the caller's, safe to repeat: cut if it is long."""
    return f"({', '.join(map(str, shape[:_MAX_SHAPE_SHOWN]))}{', ...' if len(shape) > _MAX_SHAPE_SHOWN else ''})"


def _too_many(rows: int, fitting: int, card: Card, config: ServerConfig, image_format: ImageFormat) -> str:
    response = rows * _image_bytes(card, image_format)
    if response > config.max_response_bytes and fitting < config.max_request_rows:
        if not fitting:
            return f"one {image_format} image is larger than a response may be: ask for format PIXELS or PNG"
        return (
            f"{rows} {image_format} images of {card.channels}x{card.height}x{card.width} are {response} bytes, and a"
            f" response holds {config.max_response_bytes}: ask for at most {fitting} rows at a time"
        )
    return f"{rows} rows are too many for one request: ask for at most {fitting} at a time"


def _image_bytes(card: Card, image_format: ImageFormat) -> int:
    """Size of one image; files are counted as the pixels they hold, and are nearly always smaller."""
    values = card.channels * card.height * card.width
    return values * FLOAT32_BYTES if image_format is ImageFormat.FLOAT32 else values


def check_finite(latents: NDArray[np.float32]) -> None:
    """Raises unless all latents, (rows, latent_dim), are numbers.

    Raises:
        InvalidRequest: some value is not finite.
    """
    finite = np.isfinite(latents)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"latents[{row}, {column}] is {latents[row, column]}: send finite values only")
