"""Builds protobuf requests, and parses and validates responses.

Responses are untrusted: an inconsistent one is a ServerFault, never a crash later on. `model_info.py` parses what a
server reports about its models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, invalid_response
from client.sdk.chunking import Chunk, EncodedChunk
from client.sdk.input_images import InputRow
from client.sdk.latents import Rows, SeededRows, whole_number
from client.sdk.model_info import MAX_SIDE
from ganserve.picture_headers import JPEG_SIGNATURE, PNG_SIGNATURE
from ganserve.v1 import generator_pb2

PixelFormat = Literal["pixels", "float32"]
FileFormat = Literal["png", "jpeg"]
AnyFormat: TypeAlias = PixelFormat | FileFormat
Request: TypeAlias = generator_pb2.GenerateRequest | generator_pb2.TranslateRequest
Response: TypeAlias = generator_pb2.GenerateResponse | generator_pb2.TranslateResponse

_FORMATS: Final[dict[AnyFormat, generator_pb2.ImageFormat]] = {
    "pixels": generator_pb2.IMAGE_FORMAT_PIXELS,
    "float32": generator_pb2.IMAGE_FORMAT_FLOAT32,
    "png": generator_pb2.IMAGE_FORMAT_PNG,
    "jpeg": generator_pb2.IMAGE_FORMAT_JPEG,
}
_DTYPES: Final[dict[PixelFormat, tuple[generator_pb2.DataType, np.dtype[Any]]]] = {
    "pixels": (generator_pb2.DATA_TYPE_UINT8, np.dtype("u1")),
    "float32": (generator_pb2.DATA_TYPE_FLOAT32, np.dtype("<f4")),
}
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_SIGNATURES: Final[dict[FileFormat, bytes]] = {"png": PNG_SIGNATURE, "jpeg": JPEG_SIGNATURE}


def check_model(model: object, version: object) -> None:
    """Checks the name and the version that the caller gave for a model.

    Raises:
        InvalidRequest: One is invalid.
    """
    if not isinstance(model, str) or not model or not model.isprintable():
        raise InvalidRequest(f"model: must be a name, not {model!r:.60}")
    if isinstance(version, str):
        if not _LABEL.fullmatch(version):
            raise InvalidRequest(f"version: must be a number, or a label such as 'stable', not {version!r:.60}")
    elif version is not None:
        whole_number("version", version, 1, 2**63 - 1)


def version_fields(version: int | str | None) -> dict[str, Any]:
    """The fields of a request that name a version: a number, a label, or None for the default version."""
    return {"version_label": version} if isinstance(version, str) else {"version": version or 0}


def generate_request(
    model: str, version: int | str | None, rows: Rows, image_format: AnyFormat
) -> generator_pb2.GenerateRequest:
    """The request for one image per row of latents; does not check its arguments."""
    request = generator_pb2.GenerateRequest(model=model, **version_fields(version), format=_FORMATS[image_format])
    if isinstance(rows, SeededRows):
        request.seeded.seed = rows.seed
        request.seeded.count = rows.count
    else:
        request.latents.dtype = generator_pb2.DATA_TYPE_FLOAT32
        request.latents.shape.extend(rows.shape)
        request.latents.data = rows.astype("<f4", copy=False).tobytes()
    return request


def translate_request(
    model: str, version: int | str | None, rows: Sequence[InputRow], resize: bool, image_format: AnyFormat
) -> generator_pb2.TranslateRequest:
    """The request for the translation of each row; does not check its arguments.

    Args:
        model: The name of the model.
        version: A number or a label. None: the default version.
        rows: At least one: files, or uint8 arrays (height, width, channels) of one shape.
        resize: Whether to fit images to the model's size.
        image_format: The format of the response.
    """
    request = generator_pb2.TranslateRequest(
        model=model, **version_fields(version), resize=resize, format=_FORMATS[image_format]
    )
    files = [row for row in rows if isinstance(row, bytes)]
    if files:
        request.encoded.data.extend(files)
    else:
        pixels = np.stack([row for row in rows if not isinstance(row, bytes)])
        request.pixels.dtype = generator_pb2.DATA_TYPE_UINT8
        request.pixels.shape.extend(pixels.shape)
        request.pixels.data = pixels.tobytes()
    return request


def check_response(request: Request, response: Response) -> None:
    """Checks that a response comes from the model and version of its request.

    Raises:
        ServerFault: It does not.
    """
    if response.model != request.model:
        raise invalid_response(f"it is from the model {response.model!r:.80}, not {request.model!r:.80}")
    if response.version < 1 or (request.version and response.version != request.version):
        raise invalid_response(f"it is from version {response.version}, not {request.version or 'a positive one'}")


def images_from(response: Response, rows: int, image_format: PixelFormat) -> NDArray[Any]:
    """The images of a response for `rows` rows, as a writable array.

    Returns:
        "pixels": uint8 (rows, height, width, channels); "float32": float32 (rows, channels, height, width).

    Raises:
        ServerFault: The response holds anything else.
    """
    if response.WhichOneof("output") != "images":
        raise invalid_response("it holds no tensor of images")
    tensor = response.images
    data_type, dtype = _DTYPES[image_format]
    if tensor.dtype != data_type:
        raise invalid_response(f"its images are of data type {tensor.dtype}, not {data_type} ({dtype.name})")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] != rows or not all(1 <= size <= MAX_SIDE for size in shape[1:]):
        raise invalid_response(f"its images have shape {shape!s:.80} for {rows} rows")
    channels = shape[3] if image_format == "pixels" else shape[1]
    if channels > 4:
        raise invalid_response(f"its images have {channels} channels; the limit is 4")
    expected_bytes = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected_bytes:
        raise invalid_response(f"its images of shape {shape} have {len(tensor.data)} bytes instead of {expected_bytes}")
    # A copy, because an array over `bytes` is read-only; in native byte order, which callers expect.
    return np.frombuffer(tensor.data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def files_from(response: Response, rows: int, file_format: FileFormat) -> list[bytes]:
    """The PNG or JPEG files of a response, one per row.

    Raises:
        ServerFault: The response holds anything else.
    """
    name = file_format.upper()
    if response.WhichOneof("output") != "encoded":
        raise invalid_response(f"it holds no {name} files")
    files = list(response.encoded.data)
    if len(files) != rows:
        raise invalid_response(f"it holds {len(files)} {name} files for {rows} rows")
    if not all(file.startswith(_SIGNATURES[file_format]) for file in files):
        raise invalid_response(f"it holds a file that is not a {name} file")
    return files


def _unknown_format(image_format: object, known: Iterable[str]) -> InvalidRequest:
    return InvalidRequest(f"format: must be {' or '.join(map(repr, known))}, not {image_format!r:.60}")


_Read = TypeVar("_Read", covariant=True)  # noqa: PLC0105  (shorter than a name with a suffix)


class Reader(Protocol[_Read]):
    """Converts a response into what the caller wants."""

    @property
    def format(self) -> AnyFormat:
        """The image format to request."""

    def __call__(self, count: int, response: Response) -> _Read:
        """Reads a response for `count` rows."""


class Arrays:
    """Converts responses to arrays, all of one image shape.

    Raises:
        InvalidRequest: The format is neither "pixels" nor "float32".
    """

    def __init__(self, image_format: PixelFormat) -> None:
        if image_format not in _DTYPES:
            raise _unknown_format(image_format, _DTYPES)
        self.format: PixelFormat = image_format
        self._shape: tuple[int, ...] = ()

    def __call__(self, count: int, response: Response) -> Chunk:
        """The images of a response.

        Raises:
            ServerFault: It holds anything else, or its images differ in shape from the last ones.
        """
        images = images_from(response, count, self.format)
        if self._shape and images.shape[1:] != self._shape:
            raise invalid_response(f"its images have shape {images.shape[1:]}, earlier ones had {self._shape}")
        self._shape = images.shape[1:]
        return Chunk(response.model, response.version, images)


class Files:
    """Converts responses to image files.

    Raises:
        InvalidRequest: The format is neither "png" nor "jpeg".
    """

    def __init__(self, file_format: FileFormat) -> None:
        if file_format not in _SIGNATURES:
            raise _unknown_format(file_format, _SIGNATURES)
        self.format: FileFormat = file_format

    def __call__(self, count: int, response: Response) -> EncodedChunk:
        """The files of a response.

        Raises:
            ServerFault: It holds anything else.
        """
        return EncodedChunk(response.model, response.version, files_from(response, count, self.format))
