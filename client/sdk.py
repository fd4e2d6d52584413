"""The synchronous Python client: deadlines, retries, splitting of large counts. Knows no command line and no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.channel import DEFAULT_ADDRESS, open_channel
from client.errors import GanClientError, InvalidRequest, ServerFault, from_rpc_error
from client.latents import Rows, SeededRows, checked_rows, split
from client.wire import (
    ModelInfo,
    PixelFormat,
    check_response,
    generate_request,
    images_from,
    models_from,
    png_from,
)
from ganserve.v1 import generator_pb2
from ganserve.v1.generator_pb2_grpc import GeneratorStub

DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S: Final = 86_400.0
MAX_CHUNK_ROWS: Final = 256
MAX_CHUNK_BYTES: Final = 64 << 20  # of images in one answer: servers bound these too

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True)
class Chunk:
    """The images of one request, as `GanClient.generate_chunks` yields them."""

    model: str
    version: int
    images: NDArray[Any]


class GanClient:
    """Calls one ganserve server, from a notebook or a program; safe to share between threads.

    A large count is fetched in several requests, one after the other, all of the same model version. Requests that
    find the server unavailable are sent again a few times. A call that fails raises a `GanClientError`.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH.
        timeout_s: The deadline of each request, retries included, in seconds.

    Raises:
        InvalidRequest: an argument is out of range.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise InvalidRequest(f"timeout_s: must be more than 0 and at most {MAX_TIMEOUT_S:g}, not {timeout_s!r:.60}")
        self._address = address
        self._timeout_s = timeout_s
        self._channel = open_channel(address)
        self._stub = GeneratorStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._listed: list[ModelInfo] = []  # what ListModels said last
        self._closed = False

    def generate(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Generates one image a row.

        Args:
            model: Name of a served model.
            latents: (rows, latent_dim); or give a seed and a count instead.
            seed: 0 .. 2**64 - 1; the same seed gives the same images. None: a random one.
            count: How many rows to draw from the seed; None: one.
            version: None: the newest that is served.
            format: "pixels" or "float32".

        Returns:
            For "pixels" uint8 (rows, height, width, channels), 0..255; for "float32" float32
            (rows, channels, height, width) in the generator's own range, normally -1..1.

        Raises:
            GanClientError: there are no images; the subclass says why.
        """
        chunks = self.generate_chunks(
            model, latents=latents, seed=seed, count=count, version=version, image_format=format
        )
        return np.concatenate([chunk.images for chunk in chunks])

    def generate_chunks(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        image_format: PixelFormat = "pixels",
    ) -> Iterator[Chunk]:
        """Like `generate`, but yields the images of each request when they come, in the order of the rows."""
        if image_format not in ("pixels", "float32"):
            raise InvalidRequest(f"format: must be 'pixels' or 'float32', not {image_format!r:.60}")
        rows = checked_rows(latents, seed, count)
        return self._decode_chunks(model, rows, version, image_format)

    def generate_png(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
    ) -> list[bytes]:
        """Like `generate`, but returns one PNG file a row, made by the server."""
        rows = checked_rows(latents, seed, count)
        answers = self._answers(model, rows, version, "png")
        return [file for chunk_rows, response in answers for file in png_from(response, chunk_rows)]

    def models(self) -> list[ModelInfo]:
        """The models that are ready to serve.

        Raises:
            GanClientError: the server does not answer, or not as it must.
        """
        response = self._call(self._stub.ListModels, generator_pb2.ListModelsRequest())
        self._listed = models_from(response)
        return list(self._listed)

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _decode_chunks(self, model: str, rows: Rows, version: int | None, image_format: PixelFormat) -> Iterator[Chunk]:
        shape: tuple[int, ...] = ()
        for chunk_rows, response in self._answers(model, rows, version, image_format):
            images = images_from(response, chunk_rows, image_format)
            if shape and images.shape[1:] != shape:
                raise ServerFault(f"the server's answers disagree: images of shape {shape}, then {images.shape[1:]}")
            shape = images.shape[1:]
            yield Chunk(response.model, response.version, images)

    def _answers(
        self, model: str, rows: Rows, version: int | None, image_format: str
    ) -> Iterator[tuple[int, generator_pb2.GenerateResponse]]:
        for chunk in self._split(model, rows, version, image_format):
            request = generate_request(model, version, chunk, image_format)
            try:
                response = self._call(self._stub.Generate, request)
            except GanClientError:
                self._listed = []  # the server may be another one by now, with other limits
                raise
            check_response(request, response)
            version = response.version  # a newer one may appear meanwhile; images of two would not belong together
            yield len(chunk), response

    def _split(self, model: str, rows: Rows, version: int | None, image_format: str) -> list[Rows]:
        served = _newest(self._listed, model, version) or _newest(self.models(), model, version)
        if served is None:
            return [rows]  # to be asked for all the same: the server's answer says what it serves instead
        max_chunk_rows = _max_chunk_rows(served, image_format)
        if len(rows) > max_chunk_rows and isinstance(rows, SeededRows) and served.latent_distribution != "normal":
            raise InvalidRequest(
                f"count: at most {max_chunk_rows} for {model!r}: this client cannot draw"
                f" {served.latent_distribution!r} latents, which more rows would take; update it, or give latents"
            )
        return split(rows, max_chunk_rows, served.latent_dim)

    def _call(self, method: Callable[..., _Response], request: _Request) -> _Response:
        if self._closed:
            raise InvalidRequest("this client is closed; make a new GanClient")
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address, self._timeout_s) from error


def _newest(models: list[ModelInfo], name: str, version: int | None) -> ModelInfo | None:
    fitting = (model for model in models if model.name == name and version in (None, model.version))
    return max(fitting, key=lambda model: model.version, default=None)


def _max_chunk_rows(model: ModelInfo, image_format: str) -> int:
    value_bytes = 4 if image_format == "float32" else 1
    image_bytes = model.channels * model.height * model.width * value_bytes
    return min(MAX_CHUNK_ROWS, model.max_request_rows or MAX_CHUNK_ROWS, max(1, MAX_CHUNK_BYTES // image_bytes))
