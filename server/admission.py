"""Validates everything about a request before it is queued, and says in one line what is wrong.

Plain values in, plain values out: no protobuf, no runtime. Requests are untrusted; the only work done for one before
it is found acceptable is arithmetic on its sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.bundle import Card
from ganserve.latents import latents_from_seed
from server.config import ServerConfig
from server.errors import DeadlinePassed, InvalidRequest, NotServed

FLOAT32: Final = "FLOAT32"
_FLOAT32_BYTES = 4
_MAX_QUOTED = 80  # characters of the caller's own text that a message repeats
_MAX_LISTED = 20  # names that a message lists


class ImageFormat(StrEnum):
    """What a caller wants its images as."""

    PIXELS = "PIXELS"
    FLOAT32 = "FLOAT32"
    PNG = "PNG"


@dataclass(frozen=True, slots=True)
class SentLatents:
    """Latents as they came: nothing about them is known to be true."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class SeededLatents:
    """Latents to be drawn from a seed."""

    seed: int
    count: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """What passed: latents that may be read, and the format to answer in."""

    source: SentLatents | SeededLatents
    rows: int
    latent_dim: int
    image_format: ImageFormat

    @property
    def latents_bytes(self) -> int:
        """Size of the latents."""
        return self.rows * self.latent_dim * _FLOAT32_BYTES


def find_model(name: str, version: int, served: Mapping[str, int]) -> str:
    """Returns the name of the served model that is meant; `served` gives the version of each name, 0 means it.

    Raises:
        NotServed: there is none.
    """
    if name not in served:
        names = sorted(served)
        listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
        wanted = f"no model {_quote(name)} is served" if name else "model is empty"
        raise NotServed(f"{wanted}: use one of {listed}")
    if version not in (0, served[name]):
        raise NotServed(
            f"version {version} of {name!r} is not served: use version {served[name]}, or 0 for the newest one"
        )
    return name


def max_rows(card: Card, config: ServerConfig, image_format: ImageFormat = ImageFormat.PIXELS) -> int:
    """The most rows that one request for a model may hold, whichever limit comes first."""
    latent_bytes = card.latent_dim * _FLOAT32_BYTES
    return min(
        config.max_request_rows,
        config.max_queue_rows,
        config.max_response_bytes // _image_bytes(card, image_format),
        config.max_latents_bytes // latent_bytes,
    )


def admit(
    source: SentLatents | SeededLatents | None,
    image_format: str,
    remaining_s: float | None,
    card: Card,
    config: ServerConfig,
) -> Admitted:
    """Checks all that can be told without reading the latents.

    Args:
        source: None if the request holds neither sent nor seeded latents.
        image_format: name of the format as the protocol spells it, or a number it does not define.
        remaining_s: time until the caller's deadline; None if it set none.
        card: of the model that is asked.
        config: the limits.

    Raises:
        InvalidRequest: the request can never succeed.
        DeadlinePassed: no time remains.
    """
    if image_format not in ImageFormat.__members__:
        raise InvalidRequest(f"format {image_format} is unknown: use one of {', '.join(ImageFormat)}")
    wanted = ImageFormat(image_format)
    if source is None:
        raise InvalidRequest("neither latents nor seeded is set: send latents, or a seed and a count")
    rows = source.count if isinstance(source, SeededLatents) else _sent_rows(source, card)
    if rows < 1:
        field = "seeded.count" if isinstance(source, SeededLatents) else "latents.shape: the number of rows"
        raise InvalidRequest(f"{field} is {rows}: ask for at least 1 row")
    if rows > (fitting := max_rows(card, config, wanted)):
        raise InvalidRequest(_too_many(rows, fitting, card, config, wanted))
    if isinstance(source, SentLatents) and len(source.data) != (size := rows * card.latent_dim * _FLOAT32_BYTES):
        raise InvalidRequest(
            f"latents.data has {len(source.data)} bytes, but shape ({rows}, {card.latent_dim}) of float32 needs {size}"
        )
    if remaining_s is not None and remaining_s <= 0:
        raise DeadlinePassed("the deadline has passed already: allow more time")
    return Admitted(source, rows, card.latent_dim, wanted)


def read_latents(admitted: Admitted) -> NDArray[np.float32]:
    """Reads or draws the latents, shape (rows, latent_dim); slow for many, so not for the event loop then.

    Raises:
        InvalidRequest: some value is not finite.
    """
    source = admitted.source
    if isinstance(source, SeededLatents):
        return latents_from_seed(source.seed, source.count, admitted.latent_dim)
    latents = np.frombuffer(source.data, dtype="<f4").reshape(admitted.rows, admitted.latent_dim)
    finite = np.isfinite(latents)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(f"latents[{row}, {column}] is {latents[row, column]}: send finite values only")
    return latents.astype(np.float32, copy=False)


def _sent_rows(source: SentLatents, card: Card) -> int:
    if source.dtype != FLOAT32:
        raise InvalidRequest(f"latents.dtype is {_quote(source.dtype)}: send {FLOAT32}")
    if len(source.shape) != 2 or source.shape[1] != card.latent_dim:
        shape = ", ".join(map(str, source.shape[:4])) + (", ..." if len(source.shape) > 4 else "")
        raise InvalidRequest(f"latents.shape is ({shape}): {card.name!r} takes (rows, {card.latent_dim})")
    return source.shape[0]


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
    """Size of one image; PNG files are counted as the pixels they hold, and are nearly always smaller."""
    values = card.channels * card.height * card.width
    return values * _FLOAT32_BYTES if image_format is ImageFormat.FLOAT32 else values


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "...")
