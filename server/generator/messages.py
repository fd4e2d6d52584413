"""Converts between the messages of ganserve.v1.Generator and plain values, without checks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import Card, LatentInput
from ganserve.v1 import generator_pb2 as pb
from server.errors import InvalidRequest
from server.generator.encoding import ENCODERS
from server.generator.images import SentFiles, SentPixels
from server.generator.latents import SeededLatents, SentLatents
from server.limits import ImageFormat
from server.models.catalog import ServedModel
from server.rpc.tensor_bytes import length_prefixed

Response = TypeVar("Response", pb.GenerateResponse, pb.TranslateResponse)

_SHAPE_LENGTH: Final = 5  # axes to read: a hostile shape has millions, and five are enough to refuse it
_VALUE_BYTES: Final = {pb.DATA_TYPE_FLOAT32: 4, pb.DATA_TYPE_UINT8: 1}
_MAX_HEADS: Final = 4096  # cached, one per model, shape and format
_DTYPES: Final = {number: name.removeprefix("DATA_TYPE_") for name, number in pb.DataType.items()}
_FORMATS: Final = {number: name.removeprefix("IMAGE_FORMAT_") for name, number in pb.ImageFormat.items()}


def sent_latents(message: pb.GenerateRequest) -> SentLatents | SeededLatents | None:
    """Returns the latents of a request; None if it holds none."""
    match message.WhichOneof("input"):
        case "latents":
            tensor = message.latents
            shape = tuple(tensor.shape[:_SHAPE_LENGTH])
            return SentLatents(_DTYPES.get(tensor.dtype, str(tensor.dtype)), shape, lambda: tensor.data)
        case "seeded":
            return SeededLatents(message.seeded.seed, message.seeded.count)
        case _:
            return None


def sent_images(message: pb.TranslateRequest) -> SentPixels | SentFiles | None:
    """Returns the images of a request; None if it holds none."""
    match message.WhichOneof("input"):
        case "pixels":
            tensor = message.pixels
            shape = tuple(tensor.shape[:_SHAPE_LENGTH])
            return SentPixels(_DTYPES.get(tensor.dtype, str(tensor.dtype)), shape, lambda: tensor.data)
        case "encoded":
            return SentFiles(message.encoded.data)
        case _:
            return None


def format_name(message: pb.GenerateRequest | pb.TranslateRequest) -> str:
    """Returns the name of the requested format; its number if the protocol does not define it."""
    if message.format == pb.IMAGE_FORMAT_UNSPECIFIED:
        return "PNG" if message.WhichOneof("input") == "encoded" else "PIXELS"
    return _FORMATS.get(message.format, str(message.format))


def serialize_response(kind: type[Response], card: Card, images: NDArray[Any], image_format: ImageFormat) -> bytes:
    """Returns the serialised answer. Encoding image files is slow: call it off the event loop then.

    A tensor is copied once; protobuf itself would copy it several times.

    Args:
        kind: message type of the answer.
        card: card of the model that computed the images.
        images: pixels (rows, height, width, channels), or for FLOAT32 images (rows, channels, height, width).
        image_format: to encode them in.
    """
    if image_format in ENCODERS:
        response = kind(model=card.name, version=card.version)
        response.encoded.data.extend(ENCODERS[image_format](images))
        return response.SerializeToString()
    little_endian = np.ascontiguousarray(images, images.dtype.newbyteorder("<"))
    dtype = pb.DATA_TYPE_FLOAT32 if images.dtype.kind == "f" else pb.DATA_TYPE_UINT8
    known_kind = cast("Hashable", kind)  # missing in its stub
    return b"".join((_before_data(known_kind, card.name, card.version, dtype, images.shape), little_endian.data))


@lru_cache(maxsize=_MAX_HEADS)
def _before_data(
    kind: Any,
    model: str,
    version: int,
    dtype: pb.DataType,
    shape: tuple[int, ...],
) -> bytes:
    """Returns the answer without the data of its tensor, which must come last."""
    data_bytes = math.prod(shape) * _VALUE_BYTES[dtype]
    head: bytes = kind(model=model, version=version).SerializeToString()
    tensor = pb.Tensor(dtype=dtype, shape=shape).SerializeToString()
    data = length_prefixed(pb.Tensor.DATA_FIELD_NUMBER, data_bytes)
    images = length_prefixed(kind.IMAGES_FIELD_NUMBER, len(tensor) + len(data) + data_bytes)
    return head + images + tensor + data


def wanted_version(message: pb.GenerateRequest | pb.TranslateRequest | pb.DescribeModelRequest) -> int | str:
    """Returns the version that a request names, a number or a label; 0 if it names none.

    Raises:
        InvalidRequest: it names both.
    """
    if not message.version_label:
        return message.version
    if message.version:
        raise InvalidRequest("version and version_label: set only one of them")
    return message.version_label


def model_message(model: ServedModel, labels: Sequence[str], *, is_default: bool) -> pb.Model:
    """Returns the entry of a served version in ListModels.

    Args:
        model: the version.
        labels: that stand for it.
        is_default: whether requests that name no version get it.
    """
    card, contract = model.card, model.contract
    message = pb.Model(
        name=card.name,
        version=card.version,
        kind=card.kind,
        architecture=card.architecture,
        dataset=card.dataset,
        channels=card.channels,
        height=card.height,
        width=card.width,
        device=model.device,
        backend=model.backend,
        max_request_rows=contract.max_rows[ImageFormat.PIXELS],
        max_request_bytes=contract.max_input_bytes,
        version_labels=labels,
        is_default=is_default,
    )
    if isinstance(card.input, LatentInput):
        message.task = pb.TASK_GENERATE
        message.latent_dim = card.input.latent_dim
        message.latent_distribution = card.input.distribution
    else:
        message.task = pb.TASK_TRANSLATE
        shape = pb.ImageShape(channels=card.input.channels, height=card.input.height, width=card.input.width)
        message.input_image.CopyFrom(shape)
    return message


def description_message(model: ServedModel, listed: pb.Model) -> pb.DescribeModelResponse:
    """Returns the answer of DescribeModel, with the version's entry in ListModels.

    The card was read strictly, so it holds no unknown field and no NaN.
    """
    return pb.DescribeModelResponse(
        model=listed,
        card=msgspec.json.encode(model.card).decode(),
        file_bytes=model.file_bytes,
        precision=model.precision,
        ready=model.ready,
    )
