"""The synchronous Python client: one class over connection, chunks and wire. Knows no command line and no files."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.channel import DEFAULT_ADDRESS
from client.chunks import Chunk, EncodedChunk
from client.connection import DEFAULT_TIMEOUT_S, Connection
from client.errors import InvalidRequest
from client.input_images import InputImages, checked_images
from client.latents import checked_rows
from client.model_info import ModelInfo
from client.requests import arrays_of, files_of, generated, translated
from client.wire import FileFormat, PixelFormat, check_format

_Result = TypeVar("_Result")


class GanClient:
    """Calls one ganserve server, from a notebook or a program; safe to share between threads.

    A large count is fetched in several requests, one after the other, all of the same model version. Requests that
    find the server unavailable are sent again a few times. Translations also wait for a busy server, about 30 s at
    most, and go on with smaller requests when one misses its deadline. A call that fails raises a `GanClientError`.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH.
        timeout_s: The deadline of each request, retries included, in seconds.

    Raises:
        InvalidRequest: an argument is out of range.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = Connection(address, timeout_s=timeout_s)

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
        check_format(image_format, PixelFormat)
        rows = checked_rows(latents, seed, count)
        return arrays_of(generated(self._connection, model, rows, version, image_format), image_format)

    def generate_encoded(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """Like `generate`, but returns one image file a row, "png" or "jpeg", made by the server."""
        check_format(format, FileFormat)
        rows = checked_rows(latents, seed, count)
        chunks = files_of(generated(self._connection, model, rows, version, format), format)
        return [file for chunk in chunks for file in chunk.files]

    def translate(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Translates one image a row into another domain.

        Args:
            model: Name of a served model whose task is "translate".
            images: uint8 (rows, height, width, channels), or an iterable of PNG or JPEG files (bytes) or PIL images,
                which is read as the requests are sent.
            version: None: the newest that is served.
            resize: Whether images of another size than the model's are fitted to it: short side resized, centre
                cropped. Without it they are refused.
            format: "pixels" or "float32".

        Returns:
            For "pixels" uint8 (rows, height, width, channels), 0..255; for "float32" float32
            (rows, channels, height, width) in the model's own range, normally -1..1.

        Raises:
            GanClientError: there are no images; the subclass says why.
        """
        chunks = self.translate_chunks(model, images, version=version, resize=resize, image_format=format)
        return np.concatenate(_some([chunk.images for chunk in chunks]))

    def translate_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        image_format: PixelFormat = "pixels",
    ) -> Iterator[Chunk]:
        """Like `translate`, but yields the images of each request when they come; `images` may be endless."""
        check_format(image_format, PixelFormat)
        rows = checked_images(images)
        answers = translated(self._connection, model, rows, version, resize=resize, image_format=image_format)
        return arrays_of(answers, image_format)

    def translate_encoded(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """Like `translate`, but returns one image file a row, "png" or "jpeg", made by the server."""
        chunks = self.translate_encoded_chunks(model, images, version=version, resize=resize, file_format=format)
        return _some([file for chunk in chunks for file in chunk.files])

    def translate_encoded_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        file_format: FileFormat = "png",
    ) -> Iterator[EncodedChunk]:
        """Like `translate_encoded`, but yields the files of each request when they come; `images` may be endless."""
        check_format(file_format, FileFormat)
        rows = checked_images(images)
        answers = translated(self._connection, model, rows, version, resize=resize, image_format=file_format)
        return files_of(answers, file_format)

    def models(self) -> list[ModelInfo]:
        """The models that are ready to serve.

        Raises:
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.models()

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _some(results: list[_Result]) -> list[_Result]:
    if not results:
        raise InvalidRequest("images: there are none; give at least one")
    return results
