"""Between the messages of ganserve.v1.Generator and plain values. Checks nothing: that is for admission."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import LatentInput
from ganserve.v1 import generator_pb2 as pb
from server.generator.encoding import ENCODERS
from server.generator.images import SentFiles, SentPixels
from server.generator.latents import SeededLatents, SentLatents
from server.limits import ImageFormat
from server.models.catalog import ServedModel
from server.rpc.tensor_bytes import length_prefixed

Response = TypeVar("Response", pb.GenerateResponse, pb.TranslateResponse)

# A shape may have millions of axes; this many are enough to see that it is wrong.
_SHAPE_LENGTH: Final = 5
_VALUE_BYTES: Final = {pb.DATA_TYPE_FLOAT32: 4, pb.DATA_TYPE_UINT8: 1}
_MAX_HEADS: Final = 4096  # for each number of rows and format of each model


def sent_latents(request: pb.GenerateRequest) -> SentLatents | SeededLatents | None:
    """What a request wants images of; None if it does not say."""
    match request.WhichOneof("input"):
        case "latents":
            return SentLatents(*_tensor_fields(request.latents))
        case "seeded":
            return SeededLatents(request.seeded.seed, request.seeded.count)
        case _:
            return None


def sent_images(request: pb.TranslateRequest) -> SentPixels | SentFiles | None:
    """What a request wants translated; None if it does not say."""
    match request.WhichOneof("input"):
        case "pixels":
            return SentPixels(*_tensor_fields(request.pixels))
        case "encoded":
            return SentFiles(request.encoded.data)
        case _:
            return None


def format_name(request: pb.GenerateRequest | pb.TranslateRequest) -> str:
    """Name of the format to answer in, or a number that the protocol does not define."""
    default = pb.IMAGE_FORMAT_PNG if request.WhichOneof("input") == "encoded" else pb.IMAGE_FORMAT_PIXELS
    return _enum_name(pb.ImageFormat, request.format or default, "IMAGE_FORMAT_")


def serialize_response(
    kind: type[Response], model: ServedModel, images: NDArray[Any], image_format: ImageFormat
) -> bytes:
    """The answer, serialised; slow if image files are to be made, so not for the event loop then.

    Images as numbers are copied once, as protobuf itself would copy them several times.

    Args:
        kind: of the answer.
        model: that computed the images.
        images: pixels (rows, height, width, channels), or for FLOAT32 images (rows, channels, height, width).
        image_format: to encode them in.
    """
    card = model.card
    if image_format in ENCODERS:
        response = kind(model=card.name, version=card.version)
        response.encoded.data.extend(ENCODERS[image_format](images))
        return response.SerializeToString()
    little_endian = np.ascontiguousarray(images, images.dtype.newbyteorder("<"))
    dtype = pb.DATA_TYPE_FLOAT32 if images.dtype.kind == "f" else pb.DATA_TYPE_UINT8
    known_kind = cast("Hashable", kind)  # which its stub does not say
    return b"".join((_before_data(known_kind, card.name, card.version, dtype, images.shape), little_endian.data))


@lru_cache(maxsize=_MAX_HEADS)
def _before_data(
    kind: Any,
    model: str,
    version: int,
    dtype: pb.DataType,
    shape: tuple[int, ...],
) -> bytes:
    """All of an answer but the data of its tensor, which must come last."""
    data_bytes = math.prod(shape) * _VALUE_BYTES[dtype]
    head: bytes = kind(model=model, version=version).SerializeToString()
    tensor = pb.Tensor(dtype=dtype, shape=shape).SerializeToString()
    data = length_prefixed(pb.Tensor.DATA_FIELD_NUMBER, data_bytes)
    images = length_prefixed(kind.IMAGES_FIELD_NUMBER, len(tensor) + len(data) + data_bytes)
    return head + images + tensor + data


def model_message(model: ServedModel, max_request_rows: int, max_request_bytes: int) -> pb.Model:
    """What ListModels tells about a model."""
    card = model.card
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
        max_request_rows=max_request_rows,
        max_request_bytes=max_request_bytes,
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
    """What DescribeModel tells about a model; `listed` is its `model_message`.

    The card is as it was read, strictly: it holds no field that the exporter does not know, and no NaN.
    """
    return pb.DescribeModelResponse(
        model=listed,
        card=msgspec.json.encode(model.card).decode(),
        file_bytes=model.file_bytes,
        precision=model.precision,
        ready=model.ready,
    )


def _tensor_fields(tensor: pb.Tensor) -> tuple[str, tuple[int, ...], Callable[[], bytes]]:
    """Dtype, shape, and what reads the data."""
    dtype = _enum_name(pb.DataType, tensor.dtype, "DATA_TYPE_")
    return dtype, tuple(tensor.shape[:_SHAPE_LENGTH]), lambda: tensor.data


def _enum_name(enum: Any, number: int, prefix: str) -> str:
    """The name without its prefix; the number itself if the protocol does not define it."""
    return str(enum.Name(number)).removeprefix(prefix) if number in enum.values() else str(number)
