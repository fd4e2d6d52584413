"""The Python client for event loops: the calls of GanClient as coroutines and async iterators."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.calls import Anchor, generated, interpolated, translated
from client.sdk.channel import DEFAULT_TIMEOUT_S, endpoint_of
from client.sdk.chunking import Chunk, EncodedChunk
from client.sdk.client import check_columns, pictures_of, some, traversed
from client.sdk.input_images import InputImages, checked_images
from client.sdk.latents import MAX_STREAM_ROWS, checked_rows
from client.sdk.messages import Arrays, FileFormat, Files, PixelFormat, check_format
from client.sdk.model_info import ModelDescription, ModelInfo
from client.sdk.security import TlsOptions
from client.sdk.transport import AsyncConnection
from client.sdk.walks import Method

if TYPE_CHECKING:
    from PIL.Image import Image


class AsyncGanClient:
    """Calls a ganserve server from an event loop; arguments, results and errors are those of `GanClient`.

    Each client belongs to one event loop. A call that is cancelled cancels its requests. Async iterators do so
    when they are closed: leave a loop over one early with `contextlib.aclosing`. Latents are drawn on the event loop,
    which stands still meanwhile: with a `first_row`, for as long as all rows before it take.

    Args:
        address: see `GanClient`.
        timeout_s: see `GanClient`.
        channels: see `GanClient`.
        tls: see `GanClient`.
        token: see `GanClient`.

    Raises:
        InvalidRequest: an argument is out of range, or a file of `tls` cannot be used.
    """

    def __init__(
        self,
        address: Addresses = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        channels: int = 1,
        tls: TlsOptions | None = None,
        token: str | None = None,
    ) -> None:
        self._connection = AsyncConnection(
            endpoint_of(address, timeout_s=timeout_s, channels=channels, tls=tls, token=token)
        )

    async def generate(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Generates one image a row; see `GanClient.generate`."""
        check_format(format, PixelFormat)
        rows = checked_rows(latents, seed, count)
        steps = generated(self._connection.catalog, model, rows, version, Arrays(format), self._ahead)
        return np.concatenate([chunk.images async for chunk in self._connection.run(steps)])

    def generate_chunks(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        image_format: PixelFormat = "pixels",
        first_row: int = 0,
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the images of each request when they come; see `GanClient.generate_chunks`."""
        check_format(image_format, PixelFormat)
        rows = checked_rows(latents, seed, count, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._connection.run(
            generated(self._connection.catalog, model, rows, version, Arrays(image_format), self._ahead)
        )

    async def generate_encoded(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """One image file a row; see `GanClient.generate_encoded`."""
        check_format(format, FileFormat)
        rows = checked_rows(latents, seed, count)
        steps = generated(self._connection.catalog, model, rows, version, Files(format), self._ahead)
        return [file async for chunk in self._connection.run(steps) for file in chunk.files]

    def generate_encoded_chunks(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
        file_format: FileFormat = "png",
        first_row: int = 0,
    ) -> AsyncGenerator[EncodedChunk, None]:
        """Yields the files of each request when they come; see `GanClient.generate_encoded_chunks`."""
        check_format(file_format, FileFormat)
        rows = checked_rows(latents, seed, count, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._connection.run(
            generated(self._connection.catalog, model, rows, version, Files(file_format), self._ahead)
        )

    async def generate_pictures(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
    ) -> list[Image]:
        """One PIL image a row; see `GanClient.generate_pictures`."""
        return pictures_of(await self.generate(model, latents=latents, seed=seed, count=count, version=version))

    async def grid(
        self,
        model: str,
        *,
        count: int = 64,
        seed: int | None = None,
        columns: int | None = None,
        version: int | None = None,
    ) -> Image:
        """One picture of many images; see `GanClient.grid`."""
        from ganserve.grids import image_grid

        check_columns(columns)
        return image_grid(await self.generate(model, seed=seed, count=count, version=version), columns)

    async def interpolate(
        self,
        model: str,
        start: Anchor,
        end: Anchor,
        *,
        steps: int = 8,
        method: Method = "spherical",
        version: int | None = None,
        loop: bool = False,
    ) -> NDArray[np.uint8]:
        """Images on the way from one latent to another; see `GanClient.interpolate`."""
        asked = interpolated(
            self._connection.catalog,
            model,
            start,
            end,
            steps=steps,
            method=method,
            loop=loop,
            version=version,
            ahead=self._ahead,
        )
        return np.concatenate([chunk.images async for chunk in self._connection.run(asked)])

    async def traverse(
        self,
        model: str,
        latents: ArrayLike,
        *,
        dimensions: Sequence[int],
        values: Sequence[float],
        version: int | None = None,
    ) -> NDArray[np.uint8]:
        """Images with single dimensions set to some values; see `GanClient.traverse`."""
        images = await self.generate(model, latents=traversed(latents, dimensions, values), version=version)
        return images.reshape(len(dimensions) * len(values), -1, *images.shape[1:])

    async def translate(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Translates one image a row into another domain; see `GanClient.translate`."""
        chunks = self.translate_chunks(model, images, version=version, resize=resize, image_format=format)
        return np.concatenate(some([chunk.images async for chunk in chunks]))

    def translate_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        image_format: PixelFormat = "pixels",
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the images of each request when they come; see `GanClient.translate_chunks`."""
        check_format(image_format, PixelFormat)
        rows, timeout_s = checked_images(images), self._connection.endpoint.timeout_s
        reader = Arrays(image_format)
        return self._connection.run(
            translated(self._connection.catalog, model, rows, version, reader, resize=resize, timeout_s=timeout_s)
        )

    async def translate_encoded(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """One image file a row; see `GanClient.translate_encoded`."""
        chunks = self.translate_encoded_chunks(model, images, version=version, resize=resize, file_format=format)
        return some([file async for chunk in chunks for file in chunk.files])

    def translate_encoded_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | None = None,
        resize: bool = False,
        file_format: FileFormat = "png",
    ) -> AsyncGenerator[EncodedChunk, None]:
        """Yields the files of each request when they come; see `GanClient.translate_encoded_chunks`."""
        check_format(file_format, FileFormat)
        rows, timeout_s = checked_images(images), self._connection.endpoint.timeout_s
        reader = Files(file_format)
        return self._connection.run(
            translated(self._connection.catalog, model, rows, version, reader, resize=resize, timeout_s=timeout_s)
        )

    async def models(self) -> list[ModelInfo]:
        """The models that are ready to serve; see `GanClient.models`."""
        return await self._connection.call(self._connection.catalog.models())

    async def info(self, model: str, version: int | None = None) -> ModelInfo:
        """What the list of models says of one; see `GanClient.info`."""
        return await self._connection.call(self._connection.catalog.info(model, version))

    async def describe(self, model: str, version: int | None = None) -> ModelDescription:
        """What there is to know of a served model; see `GanClient.describe`."""
        return await self._connection.call(self._connection.catalog.describe(model, version))

    async def card(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The card that was published with a served model; see `GanClient.card`."""
        return (await self.describe(model, version)).card

    async def healthy(self, model: str | None = None) -> bool:
        """Whether the server is ready; see `GanClient.healthy`."""
        return await self._connection.call(self._connection.catalog.healthy(model))

    async def close(self) -> None:
        """Closes the connection; calls after this raise."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _ahead(self) -> int:
        return self._connection.endpoint.channels
