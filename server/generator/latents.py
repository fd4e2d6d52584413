"""Validates everything about a request before it is queued, and says in one line what is wrong.

Here are the choice of a model, and latents; images that go in are in image_admission.py. Plain values in, plain values
out: no protobuf, no runtime. Requests are untrusted; the only work done for one before it is found acceptable is
arithmetic on its sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import Card, LatentInput
from ganserve.latents import latents_from_seed
from server.config import ServerConfig
from server.errors import InvalidRequest
from server.limits import (
    FLOAT32_BYTES,
    ImageFormat,
    SentTensor,
    check_finite,
    check_rows,
    check_time,
    quote,
    read_format,
    show_shape,
)

FLOAT32: Final = "FLOAT32"


class SentLatents(SentTensor):
    """Latents as they came."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SeededLatents:
    """Latents to be drawn from a seed."""

    seed: int
    count: int


@dataclass(frozen=True, slots=True)
class AdmittedLatents:
    """What passed: latents that may be read, and the format to answer in."""

    source: bytes | SeededLatents
    rows: int
    latent_dim: int
    image_format: ImageFormat

    @property
    def latents_bytes(self) -> int:
        """Size of the latents."""
        return self.rows * self.latent_dim * FLOAT32_BYTES


def admit_latents(
    source: SentLatents | SeededLatents | None,
    format_name: str,
    remaining_s: float | None,
    card: Card,
    config: ServerConfig,
) -> AdmittedLatents:
    """Checks all that can be told without reading the latents.

    Args:
        source: None if the request holds neither sent nor seeded latents.
        format_name: of the wanted format as the protocol spells it, or a number it does not define.
        remaining_s: time until the caller's deadline; None if it set none.
        card: of the model that is asked.
        config: the limits.

    Raises:
        InvalidRequest: the request can never succeed.
        DeadlinePassed: no time remains.
    """
    if not isinstance(card.input, LatentInput):
        raise InvalidRequest(f"{card.name!r} takes images, not latents: call Translate")
    image_format = read_format(format_name, card)
    if source is None:
        raise InvalidRequest("neither latents nor seeded is set: send latents, or a seed and a count")
    latent_dim = card.input.latent_dim
    admitted: bytes | SeededLatents
    if isinstance(source, SeededLatents):
        rows = source.count
        check_rows("seeded.count", rows, card, config, image_format)
        admitted = source
    else:
        rows = _sent_rows(source, latent_dim, card.name)
        check_rows("latents.shape: the number of rows", rows, card, config, image_format)
        admitted = source.read_data()
        if len(admitted) != (size := rows * latent_dim * FLOAT32_BYTES):
            raise InvalidRequest(
                f"latents.data has {len(admitted)} bytes, but shape ({rows}, {latent_dim}) of float32 needs {size}"
            )
    check_time(remaining_s)
    return AdmittedLatents(admitted, rows, latent_dim, image_format)


def read_latents(admitted: AdmittedLatents) -> NDArray[np.float32]:
    """Reads or draws the latents, shape (rows, latent_dim); slow for many, so not for the event loop then.

    Raises:
        InvalidRequest: some value is not finite.
    """
    source = admitted.source
    if isinstance(source, SeededLatents):
        return latents_from_seed(source.seed, source.count, admitted.latent_dim)
    latents = np.frombuffer(source, dtype="<f4").reshape(admitted.rows, admitted.latent_dim)
    check_finite(latents)
    return latents.astype(np.float32, copy=False)


def _sent_rows(source: SentLatents, latent_dim: int, model: str) -> int:
    if source.dtype != FLOAT32:
        raise InvalidRequest(f"latents.dtype is {quote(source.dtype)}: send {FLOAT32}")
    if len(source.shape) != 2 or source.shape[1] != latent_dim:
        raise InvalidRequest(f"latents.shape is {show_shape(source.shape)}: {model!r} takes (rows, {latent_dim})")
    return source.shape[0]
