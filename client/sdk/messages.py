"""Turns plain values into protobuf messages, and answers into checked plain values. No channel, no retries.

Every answer is untrusted: one that does not hold what it says is a ServerFault, never a crash later on. What a server
says of its models is checked in `model_info.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, ServerFault, wrong_answer
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
_SIGNATURES: Final[dict[FileFormat, bytes]] = {"png": PNG_SIGNATURE, "jpeg": JPEG_SIGNATURE}


def check_format(image_format: object, allowed: Any) -> None:
    """Checks a format that the caller named against `allowed`, which is PixelFormat or FileFormat.

    Raises:
        InvalidRequest: it is none of these.
    """
    names = get_args(allowed)
    if image_format not in names:
        raise InvalidRequest(f"format: must be {' or '.join(map(repr, names))}, not {image_format!r:.60}")


def check_model(model: object, version: object) -> None:
    """Checks the name and the version of the model that the caller wants.

    Raises:
        InvalidRequest: they cannot be.
    """
    if not isinstance(model, str) or not model or not model.isprintable():
        raise InvalidRequest(f"model: must be a name, not {model!r:.60}")
    if version is not None:
        whole_number("version", version, 1, 2**63 - 1)


def generate_request(
    model: str, version: int | None, rows: Rows, image_format: AnyFormat
) -> generator_pb2.GenerateRequest:
    """The request for one image a row of latents; the arguments are checked ones."""
    request = generator_pb2.GenerateRequest(model=model, version=version or 0, format=_FORMATS[image_format])
    if isinstance(rows, SeededRows):
        request.seeded.seed = rows.seed
        request.seeded.count = rows.count
    else:
        request.latents.dtype = generator_pb2.DATA_TYPE_FLOAT32
        request.latents.shape.extend(rows.shape)
        request.latents.data = rows.astype("<f4", copy=False).tobytes()
    return request


def translate_request(
    model: str, version: int | None, rows: Sequence[InputRow], resize: bool, image_format: AnyFormat
) -> generator_pb2.TranslateRequest:
    """The request for one image a row of images; the arguments are checked ones.

    Args:
        model: its name.
        version: None: the newest.
        rows: at least one: files, or uint8 arrays (height, width, channels) of one shape.
        resize: whether images of another size than the model's are fitted to it.
        image_format: of the answer.
    """
    request = generator_pb2.TranslateRequest(
        model=model, version=version or 0, resize=resize, format=_FORMATS[image_format]
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
    """Checks that the answer comes from the model and version that were asked for.

    Raises:
        ServerFault: it does not.
    """
    if response.model != request.model:
        raise wrong_answer(f"it is from the model {response.model!r:.80}, not {request.model!r:.80}")
    if response.version < 1 or (request.version and response.version != request.version):
        raise wrong_answer(f"it is from version {response.version}, not {request.version or 'a positive one'}")


def images_from(response: Response, rows: int, image_format: PixelFormat) -> NDArray[Any]:
    """The images of an answer for `rows` rows, as an array that is its caller's own.

    Returns:
        "pixels": uint8 (rows, height, width, channels); "float32": float32 (rows, channels, height, width).

    Raises:
        ServerFault: the answer holds anything else.
    """
    if response.WhichOneof("output") != "images":
        raise wrong_answer("it holds no tensor of images")
    tensor = response.images
    data_type, dtype = _DTYPES[image_format]
    if tensor.dtype != data_type:
        raise wrong_answer(f"its images are of data type {tensor.dtype}, not {data_type} ({dtype.name})")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[0] != rows or not all(1 <= size <= MAX_SIDE for size in shape[1:]):
        raise wrong_answer(f"its images have shape {shape!s:.80} for {rows} rows")
    channels = shape[3] if image_format == "pixels" else shape[1]
    if channels > 4:
        raise wrong_answer(f"its images have {channels} channels, and 4 is the most")
    expected_bytes = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected_bytes:
        raise wrong_answer(f"its images of shape {shape} have {len(tensor.data)} bytes instead of {expected_bytes}")
    # A copy: arrays on top of `bytes` are read-only. The native dtype is what callers expect to see.
    return np.frombuffer(tensor.data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))


def files_from(response: Response, rows: int, file_format: FileFormat) -> list[bytes]:
    """The PNG or JPEG files of an answer, one a row.

    Raises:
        ServerFault: the answer holds anything else.
    """
    name = file_format.upper()
    if response.WhichOneof("output") != "encoded":
        raise wrong_answer(f"it holds no {name} files")
    files = list(response.encoded.data)
    if len(files) != rows:
        raise wrong_answer(f"it holds {len(files)} {name} files for {rows} rows")
    if not all(file.startswith(_SIGNATURES[file_format]) for file in files):
        raise wrong_answer(f"it holds a file that is not a {name} file")
    return files


_Read = TypeVar("_Read", covariant=True)  # noqa: PLC0105  (a name for what it is)


class Reader(Protocol[_Read]):
    """Turns (rows, answer) into what the caller wants."""

    @property
    def format(self) -> AnyFormat:
        """What to ask for."""

    def __call__(self, count: int, response: Response) -> _Read:
        """What an answer for `count` rows holds."""


class Arrays:
    """Turns (rows, answer) into arrays, which are of one shape."""

    def __init__(self, image_format: PixelFormat) -> None:
        self.format: PixelFormat = image_format
        self._shape: tuple[int, ...] = ()

    def __call__(self, count: int, response: Response) -> Chunk:
        """The images of an answer.

        Raises:
            ServerFault: it holds anything else, or images of another shape than the last.
        """
        images = images_from(response, count, self.format)
        if self._shape and images.shape[1:] != self._shape:
            raise ServerFault(f"the server's answers disagree: images of shape {self._shape}, then {images.shape[1:]}")
        self._shape = images.shape[1:]
        return Chunk(response.model, response.version, images)


class Files:
    """Turns (rows, answer) into PNG or JPEG files."""

    def __init__(self, file_format: FileFormat) -> None:
        self.format: FileFormat = file_format

    def __call__(self, count: int, response: Response) -> EncodedChunk:
        """The files of an answer.

        Raises:
            ServerFault: it holds anything else.
        """
        return EncodedChunk(response.model, response.version, files_from(response, count, self.format))
