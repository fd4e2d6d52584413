"""The inputs and outputs of one version of a model, and the limits of one request.

The contract of a version is computed once, at load, and both protocols check requests against it. The helpers below it
check and quote untrusted input for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, Card, LatentInput
from ganserve.wording import counted
from server.config import ServerConfig
from server.errors import InvalidRequest

_MAX_QUOTED: Final = 80  # characters of untrusted text that a message repeats
_MAX_SHAPE_SHOWN: Final = 4
_JPEG_CHANNELS: Final = (1, 3)
_JPEG_MAX_SIDE: Final = 65_500  # libjpeg's limit
_DATATYPES: Final = {"float32": "FP32", "uint8": "UINT8"}


class ImageFormat(StrEnum):
    """The formats that a client can request."""

    PIXELS = "PIXELS"
    FLOAT32 = "FLOAT32"
    PNG = "PNG"
    JPEG = "JPEG"


OUTPUT_OF: Final[Mapping[ImageFormat, str]] = {  # the model output from which each format is made
    ImageFormat.PIXELS: OUTPUT_PIXELS,
    ImageFormat.FLOAT32: OUTPUT_IMAGES,
    ImageFormat.PNG: OUTPUT_PIXELS,
    ImageFormat.JPEG: OUTPUT_PIXELS,
}


class Tensor(NamedTuple):
    """One input or output of a model."""

    name: str
    datatype: str  # as the Open Inference Protocol spells it: "FP32" or "UINT8"
    row_shape: tuple[int, ...]  # without the first axis, the rows
    row_bytes: int
    dtype: np.dtype[Any]  # little-endian, as both protocols send it


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """The tensors of one version of a model, and the limits of one request for it."""

    card: Card
    input: Tensor
    outputs: Mapping[str, Tensor]  # by name, in the order of an answer to a request that names none
    takes_images: bool  # otherwise it takes latents
    max_rows: Mapping[ImageFormat, int]  # per request; holds only the formats that can represent the model's images
    max_input_bytes: int  # latents, pixels or image files of one request
    config: ServerConfig

    def read_format(self, name: str) -> ImageFormat:
        """Returns the format of that name.

        Args:
            name: as the protocol spells it; the number of a format that the protocol does not define.

        Raises:
            InvalidRequest: the format is unknown, or it cannot hold the model's images.
        """
        if name not in ImageFormat.__members__:
            raise InvalidRequest(f"format {name} is unknown: use one of {', '.join(ImageFormat)}")
        image_format = ImageFormat[name]
        if image_format not in self.max_rows:
            card = self.card
            raise InvalidRequest(
                f"format {image_format} cannot hold the {card.channels}x{card.height}x{card.width} images of"
                f" {card.name!r}: ask for format PNG"
            )
        return image_format

    def check_rows(self, field: str, rows: int, image_format: ImageFormat = ImageFormat.PIXELS) -> None:
        """Checks the number of rows of a request; `field` names it in the error.

        Raises:
            InvalidRequest: there are too few or too many rows.
        """
        if rows < 1:
            raise InvalidRequest(f"{field} is {rows}: ask for at least 1 row")
        if rows > self.max_rows[image_format]:
            raise InvalidRequest(self._too_many(rows, image_format))

    def _too_many(self, rows: int, image_format: ImageFormat) -> str:
        card, config, fitting = self.card, self.config, self.max_rows[image_format]
        response_bytes = rows * self.outputs[OUTPUT_OF[image_format]].row_bytes
        if response_bytes > config.max_response_bytes and fitting < config.max_request_rows:
            if not fitting:
                return f"one {image_format} image is larger than a response may be: ask for format PIXELS or PNG"
            return (
                f"{rows} {image_format} images of {card.channels}x{card.height}x{card.width} are {response_bytes}"
                f" bytes, and a response holds {config.max_response_bytes}: ask for at most"
                f" {counted(fitting, 'row')} at a time"
            )
        return f"{rows} rows are too many for one request: ask for at most {fitting} at a time"


def contract_of(card: Card, config: ServerConfig) -> Contract:
    """Returns the contract of the model that a card describes, with the limits of a config."""
    row_input = card.input
    tensor = _tensor(row_input.name, row_input.dtype, row_input.row_shape)
    outputs = {name: _tensor(name, *form) for name, form in card.outputs.items()}
    takes_latents = isinstance(row_input, LatentInput)
    max_input_bytes = config.max_latents_bytes if takes_latents else config.max_request_bytes
    max_rows = min(config.max_request_rows, config.max_queue_rows, max_input_bytes // tensor.row_bytes)
    fits_jpeg = card.channels in _JPEG_CHANNELS and max(card.height, card.width) <= _JPEG_MAX_SIDE
    return Contract(
        card=card,
        input=tensor,
        outputs=outputs,
        takes_images=not takes_latents,
        max_rows={
            # A file counts as its pixels, although it is nearly always smaller.
            kind: min(max_rows, config.max_response_bytes // outputs[OUTPUT_OF[kind]].row_bytes)
            for kind in ImageFormat
            if fits_jpeg or kind is not ImageFormat.JPEG
        },
        max_input_bytes=max_input_bytes,
        config=config,
    )


def _tensor(name: str, dtype: str, row_shape: tuple[int, ...]) -> Tensor:
    sent = np.dtype(dtype).newbyteorder("<")
    return Tensor(name, _DATATYPES[dtype], row_shape, math.prod(row_shape) * sent.itemsize, sent)


@dataclass(frozen=True, slots=True)
class SentTensor:
    """A tensor as it was sent, unchecked."""

    dtype: str
    shape: tuple[int, ...]
    read_data: Callable[[], bytes]  # copies the data out of the message, so call it after every other check


def check_finite(latents: NDArray[np.float32]) -> None:
    """Checks that all latents, (rows, latent_dim), are finite.

    Raises:
        InvalidRequest: a value is NaN or infinite.
    """
    finite = np.isfinite(latents)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"latents[{row}, {column}] is {latents[row, column]}: send finite values only")


def quote(text: str) -> str:
    """Quotes untrusted text for a message: escaped, and truncated if it is long."""
    return repr(text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "...")


def show_shape(shape: tuple[int, ...]) -> str:
    """Formats an untrusted shape for a message, truncated if it is long."""
    return f"({', '.join(map(str, shape[:_MAX_SHAPE_SHOWN]))}{', ...' if len(shape) > _MAX_SHAPE_SHOWN else ''})"
