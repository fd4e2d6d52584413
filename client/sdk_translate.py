"""The calls of GanClient that turn images into other images."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.answers import Arrays, Files, Reader
from client.chunks import Chunk, EncodedChunk
from client.connection import Connection
from client.errors import InvalidRequest
from client.input_images import InputImages, checked_images
from client.requests import translated
from client.steps import Steps
from client.wire import FileFormat, PixelFormat, check_format

_Result = TypeVar("_Result")
_Chunk = TypeVar("_Chunk")


class TranslateCalls:
    """Calls for models whose task is "translate"."""

    _connection: Connection

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
        return np.concatenate(some([chunk.images for chunk in chunks]))

    def translate_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        image_format: PixelFormat = "pixels",
    ) -> Generator[Chunk, None, None]:
        """Like `translate`, but yields the images of each request when they come; `images` may be endless."""
        check_format(image_format, PixelFormat)
        return self._connection.run(self._translated(model, images, version, Arrays(image_format), resize=resize))

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
        return some([file for chunk in chunks for file in chunk.files])

    def translate_encoded_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        file_format: FileFormat = "png",
    ) -> Generator[EncodedChunk, None, None]:
        """Like `translate_encoded`, but yields the files of each request when they come; `images` may be endless."""
        check_format(file_format, FileFormat)
        return self._connection.run(self._translated(model, images, version, Files(file_format), resize=resize))

    def _translated(
        self, model: str, images: InputImages, version: int | None, reader: Reader[_Chunk], *, resize: bool
    ) -> Steps[_Chunk, None]:
        return translated(
            self._connection.catalog,
            model,
            checked_images(images),
            version,
            reader,
            resize=resize,
            timeout_s=self._connection.endpoint.timeout_s,
        )


def some(results: list[_Result]) -> list[_Result]:
    """Returns `results` if there are any.

    Raises:
        InvalidRequest: there were no images to translate.
    """
    if not results:
        raise InvalidRequest("images: there are none; give at least one")
    return results
