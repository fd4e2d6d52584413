"""What a model takes and gives in the Open Inference Protocol, worked out once a model. Plain values, no protobuf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from ganserve.bundle import Card, ImageInput
from server.config import ServerConfig
from server.limits import max_rows

FP32: Final = "FP32"
UINT8: Final = "UINT8"
_DATATYPES: Final = {"float32": FP32, "uint8": UINT8}


class Tensor(NamedTuple):
    """One input or output."""

    name: str
    datatype: str  # as the protocol spells it
    row_shape: tuple[int, ...]  # without the axis of rows, which comes first
    row_bytes: int
    dtype: np.dtype[Any]  # as the bytes of the protocol have it: little-endian


@dataclass(frozen=True, slots=True, eq=False)
class Contract:
    """The tensors of one version of a model, and how much one request for it may ask for."""

    card: Card
    input: Tensor
    outputs: dict[str, Tensor]  # by name, in the order they are answered in if a request names none
    takes_images: bool
    max_rows: int
    config: ServerConfig


def contract_of(card: Card, config: ServerConfig) -> Contract:
    """The contract of the model that a card describes."""
    return Contract(
        card=card,
        input=_tensor(card.input.name, card.input.dtype, card.input.row_shape),
        outputs={name: _tensor(name, *form) for name, form in card.outputs.items()},
        takes_images=isinstance(card.input, ImageInput),
        max_rows=max_rows(card, config),
        config=config,
    )


def _tensor(name: str, dtype: str, row_shape: tuple[int, ...]) -> Tensor:
    sent = np.dtype(dtype).newbyteorder("<")
    return Tensor(name, _DATATYPES[dtype], row_shape, math.prod(row_shape) * sent.itemsize, sent)
