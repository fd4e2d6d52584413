"""Checks the latents of a request before it is queued; independent of protobuf and runtimes.

Requests are untrusted, so data is read only after its sizes have been checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import LatentInput
from ganserve.latents import latents_from_seed
from server.errors import InvalidRequest
from server.limits import Contract, ImageFormat, SentTensor, check_finite, quote, show_shape

FLOAT32: Final = "FLOAT32"


class SentLatents(SentTensor):
    """Latents as they were sent, unchecked."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SeededLatents:
    """Latents that the server draws from a seed."""

    seed: int
    count: int


@dataclass(frozen=True, slots=True)
class AdmittedLatents:
    """Latents that passed every check except that of their values, and the format of the answer."""

    source: bytes | SeededLatents
    rows: int
    latent_dim: int
    distribution: str  # of the model; latents that are sent may have another
    latents_bytes: int
    image_format: ImageFormat


def admit_latents(source: SentLatents | SeededLatents | None, format_name: str, contract: Contract) -> AdmittedLatents:
    """Checks everything that can be checked without reading the latents.

    Args:
        source: None if the request holds neither sent nor seeded latents.
        format_name: requested format as the protocol spells it; a number if the protocol does not define it.
        contract: contract of the requested model.

    Raises:
        InvalidRequest: the request can never succeed.
    """
    model = contract.card.name
    if contract.takes_images:
        raise InvalidRequest(f"{model!r} takes images, not latents: call Translate")
    image_format = contract.read_format(format_name)
    if source is None:
        raise InvalidRequest("neither latents nor seeded is set: send latents, or a seed and a count")
    row_input = contract.card.input
    assert isinstance(row_input, LatentInput)  # contract.takes_images is false
    latent_dim, prior = row_input.latent_dim, row_input.distribution
    if isinstance(source, SeededLatents):
        contract.check_rows("seeded.count", source.count, image_format)
        latents_bytes = source.count * contract.input.row_bytes
        return AdmittedLatents(source, source.count, latent_dim, prior, latents_bytes, image_format)
    if source.dtype != FLOAT32:
        raise InvalidRequest(f"latents.dtype is {quote(source.dtype)}: send {FLOAT32}")
    if len(source.shape) != 2 or source.shape[1] != latent_dim:
        raise InvalidRequest(f"latents.shape is {show_shape(source.shape)}: {model!r} takes (rows, {latent_dim})")
    rows = source.shape[0]
    contract.check_rows("latents.shape: the number of rows", rows, image_format)
    latents_bytes = rows * contract.input.row_bytes
    data = source.read_data()
    if len(data) != latents_bytes:
        raise InvalidRequest(
            f"latents.data has {len(data)} bytes, but shape ({rows}, {latent_dim}) of float32 needs {latents_bytes}"
        )
    return AdmittedLatents(data, rows, latent_dim, prior, latents_bytes, image_format)


def read_latents(admitted: AdmittedLatents) -> NDArray[np.float32]:
    """Reads or draws the latents, shape (rows, latent_dim); slow for many rows.

    Raises:
        InvalidRequest: a value is not finite.
    """
    source = admitted.source
    if isinstance(source, SeededLatents):
        return latents_from_seed(source.seed, source.count, admitted.latent_dim, admitted.distribution)
    latents = np.frombuffer(source, dtype="<f4").reshape(admitted.rows, admitted.latent_dim)
    check_finite(latents)
    return latents.astype(np.float32, copy=False)
