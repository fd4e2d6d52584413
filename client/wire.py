"""Turns plain values into protobuf messages, and answers into checked plain values. No channel, no retries.

Every answer is untrusted: one that does not hold what it says is a ServerFault, never a crash later on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, ServerFault, one_line
from client.latents import Rows, SeededRows, whole_number
from ganserve.v1 import generator_pb2

PixelFormat = Literal["pixels", "float32"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_SIDE: Final = 1 << 20  # pixels; also of a latent

_IMAGE_FORMATS: Final = {
    "pixels": generator_pb2.IMAGE_FORMAT_PIXELS,
    "float32": generator_pb2.IMAGE_FORMAT_FLOAT32,
    "png": generator_pb2.IMAGE_FORMAT_PNG,
}
_DTYPES: Final[dict[PixelFormat, tuple[generator_pb2.DataType, np.dtype[Any]]]] = {
    "pixels": (generator_pb2.DATA_TYPE_UINT8, np.dtype("u1")),
    "float32": (generator_pb2.DATA_TYPE_FLOAT32, np.dtype("<f4")),
}


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server is ready to serve; the fields are those of the wire contract's `Model`."""

    name: str
    version: int
    kind: str
    architecture: str
    dataset: str
    latent_dim: int
    latent_distribution: str
    channels: int
    height: int
    width: int
    device: str
    backend: str
    max_request_rows: int  # 0: the server does not say


def generate_request(model: str, version: int | None, rows: Rows, image_format: str) -> generator_pb2.GenerateRequest:
    """The request for one image a row; `image_format` is "pixels", "float32" or "png".

    Raises:
        InvalidRequest: an argument cannot be sent.
    """
    if not isinstance(model, str) or not model or not model.isprintable():
        raise InvalidRequest(f"model: must be a name, not {model!r:.60}")
    if image_format not in _IMAGE_FORMATS:
        raise InvalidRequest(f"format: must be one of {', '.join(_IMAGE_FORMATS)}, not {image_format!r:.60}")
    request = generator_pb2.GenerateRequest(
        model=model,
        version=0 if version is None else whole_number("version", version, 1, 2**63 - 1),
        format=_IMAGE_FORMATS[image_format],
    )
    if isinstance(rows, SeededRows):
        request.seeded.seed = rows.seed
        request.seeded.count = rows.count
    else:
        request.latents.dtype = generator_pb2.DATA_TYPE_FLOAT32
        request.latents.shape.extend(rows.shape)
        request.latents.data = rows.astype("<f4", copy=False).tobytes()
    return request


def check_response(request: generator_pb2.GenerateRequest, response: generator_pb2.GenerateResponse) -> None:
    """Checks that the answer comes from the model and version that were asked for.

    Raises:
        ServerFault: it does not.
    """
    if response.model != request.model:
        raise _wrong(f"it is from the model {response.model!r:.80}, not {request.model!r:.80}")
    if response.version < 1 or (request.version and response.version != request.version):
        raise _wrong(f"it is from version {response.version}, not {request.version or 'a positive one'}")


def images_from(response: generator_pb2.GenerateResponse, rows: int, image_format: PixelFormat) -> NDArray[Any]:
    """The images of an answer for `rows` rows, as an array that is its caller's own.

    Returns:
        "pixels": uint8 (rows, height, width, channels); "float32": float32 (rows, channels, height, width).

    Raises:
        ServerFault: the answer holds anything else.
    """
    if response.WhichOneof("output") != "images":
        raise _wrong("it holds no tensor of images")
    tensor = response.images
    data_type, dtype = _DTYPES[image_format]
    if tensor.dtype != data_type:
        raise _wrong(f"its images are of data type {tensor.dtype}, not {data_type} ({dtype.name})")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] != rows or not all(1 <= size <= _MAX_SIDE for size in shape[1:]):
        raise _wrong(f"its images have shape {shape!s:.80} for {rows} rows")
    channels = shape[3] if image_format == "pixels" else shape[1]
    if channels > 4:
        raise _wrong(f"its images have {channels} channels, and 4 is the most")
    expected_bytes = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected_bytes:
        raise _wrong(f"its images of shape {shape} have {len(tensor.data)} bytes instead of {expected_bytes}")
    # A copy: arrays on top of `bytes` are read-only. The native dtype is what callers expect to see.
    return np.frombuffer(tensor.data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def png_from(response: generator_pb2.GenerateResponse, rows: int) -> list[bytes]:
    """The PNG files of an answer, one a row.

    Raises:
        ServerFault: the answer holds anything else.
    """
    if response.WhichOneof("output") != "png":
        raise _wrong("it holds no PNG files")
    files = list(response.png.data)
    if len(files) != rows:
        raise _wrong(f"it holds {len(files)} PNG files for {rows} rows")
    if not all(file.startswith(_PNG_SIGNATURE) for file in files):
        raise _wrong("it holds a file that is not a PNG file")
    return files


def models_from(response: generator_pb2.ListModelsResponse) -> list[ModelInfo]:
    """The models of an answer, in the server's order.

    Raises:
        ServerFault: one of them cannot be.
    """
    return [_model_info(model) for model in response.models]


def _model_info(model: generator_pb2.Model) -> ModelInfo:
    texts = (model.name, model.kind, model.architecture, model.dataset, model.device, model.backend)
    if not model.name or not all(text.isprintable() for text in (*texts, model.latent_distribution)):
        raise _wrong(f"it lists a model {model.name!r:.80} with an empty name or unprintable text")
    sizes = (model.latent_dim, model.height, model.width)
    if (
        model.version < 1
        or model.max_request_rows < 0
        or not 1 <= model.channels <= 4
        or not all(1 <= size <= _MAX_SIDE for size in sizes)
    ):
        raise _wrong(f"it lists the model {model.name!r:.80} with a size or version out of range")
    return ModelInfo(
        name=model.name,
        version=model.version,
        kind=model.kind,
        architecture=model.architecture,
        dataset=model.dataset,
        latent_dim=model.latent_dim,
        latent_distribution=model.latent_distribution,
        channels=model.channels,
        height=model.height,
        width=model.width,
        device=model.device,
        backend=model.backend,
        max_request_rows=model.max_request_rows,
    )


def _wrong(reason: str) -> ServerFault:
    return ServerFault(f"the server's answer is wrong: {one_line(reason)}; is its version the client's?")
