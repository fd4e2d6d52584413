"""The asyncio client: the calls of `GanClient` as coroutines and async iterators."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.sdk import model_control
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.calls import Anchor, generated, interpolated, translated
from client.sdk.channel import DEFAULT_TIMEOUT_S
from client.sdk.chunking import Chunk, EncodedChunk
from client.sdk.client import check_columns, non_empty, pictures_of, renamed_argument, traversed
from client.sdk.input_images import InputImages, checked_images
from client.sdk.latents import MAX_STREAM_ROWS, Rows, checked_rows, one_count
from client.sdk.messages import Arrays, FileFormat, Files, PixelFormat, Reader
from client.sdk.model_control import VersionInfo
from client.sdk.model_info import ModelDescription, ModelInfo
from client.sdk.security import TlsOptions
from client.sdk.transport import AsyncConnection
from client.sdk.walks import Method

if TYPE_CHECKING:
    from PIL.Image import Image

_Chunk = TypeVar("_Chunk")


class AsyncGanClient:
    """Calls a ganserve server from an event loop; arguments, results and errors are those of `GanClient`.

    Each client belongs to one event loop. Cancelling a call cancels its requests. So does closing an async iterator:
    use `contextlib.aclosing` to leave a loop early. Drawing latents blocks the event loop; with `first_row`, that
    includes all rows before it.

    Args:
        address: See `GanClient`.
        timeout_s: See `GanClient`.
        channels: See `GanClient`.
        tls: See `GanClient`.
        token: See `GanClient`.

    Raises:
        InvalidRequest: An argument is out of range, or a file of `tls` cannot be used.
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
        self._connection = AsyncConnection(address, timeout_s=timeout_s, channels=channels, tls=tls, token=token)

    async def generate(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Generates one image per row of latents; see `GanClient.generate`."""
        rows = checked_rows(latents, seed, count, n)
        return np.concatenate([chunk.images async for chunk in self._generated(model, rows, version, Arrays(format))])

    @renamed_argument("image_format", "format")
    def generate_chunks(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
        first_row: int = 0,
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the images of each request when they arrive; see `GanClient.generate_chunks`."""
        rows = checked_rows(latents, seed, count, n, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._generated(model, rows, version, Arrays(format))

    async def generate_encoded(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """Returns one image file per row; see `GanClient.generate_encoded`."""
        rows = checked_rows(latents, seed, count, n)
        return [file async for chunk in self._generated(model, rows, version, Files(format)) for file in chunk.files]

    @renamed_argument("file_format", "format")
    def generate_encoded_chunks(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
        first_row: int = 0,
    ) -> AsyncGenerator[EncodedChunk, None]:
        """Yields the files of each request when they arrive; see `GanClient.generate_encoded_chunks`."""
        rows = checked_rows(latents, seed, count, n, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._generated(model, rows, version, Files(format))

    async def generate_pictures(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
    ) -> list[Image]:
        """Returns one PIL image per row; see `GanClient.generate_pictures`."""
        return pictures_of(await self.generate(model, latents, seed=seed, count=count, n=n, version=version))

    async def grid(
        self,
        model: str,
        *,
        count: int | None = None,
        n: int | None = None,
        seed: int | None = None,
        columns: int | None = None,
        version: int | str | None = None,
    ) -> Image:
        """Returns one picture of many images; see `GanClient.grid`."""
        from ganserve.grids import image_grid

        check_columns(columns)
        return image_grid(
            await self.generate(model, seed=seed, count=one_count(count, n, 64), version=version), columns
        )

    async def interpolate(
        self,
        model: str,
        start: Anchor,
        end: Anchor,
        *,
        steps: int = 8,
        method: Method = "spherical",
        version: int | str | None = None,
        loop: bool = False,
    ) -> NDArray[np.uint8]:
        """Generates images on the path from one latent to another; see `GanClient.interpolate`."""
        catalog, ahead = self._connection.catalog, self._connection.ahead
        path = interpolated(catalog, model, (start, end), steps, method, version, ahead, loop=loop)
        return np.concatenate([chunk.images async for chunk in self._connection.run(path)])

    async def traverse(
        self,
        model: str,
        latents: ArrayLike,
        *,
        dimensions: Sequence[int],
        values: Sequence[float],
        version: int | str | None = None,
    ) -> NDArray[np.uint8]:
        """Generates images with single dimensions set to several values; see `GanClient.traverse`."""
        images = await self.generate(model, latents=traversed(latents, dimensions, values), version=version)
        return images.reshape(len(dimensions) * len(values), -1, *images.shape[1:])

    async def translate(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Translates each image into another domain; see `GanClient.translate`."""
        chunks = self.translate_chunks(model, images, version=version, resize=resize, format=format)
        return np.concatenate(non_empty([chunk.images async for chunk in chunks]))

    @renamed_argument("image_format", "format")
    def translate_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the images of each request when they arrive; see `GanClient.translate_chunks`."""
        return self._translated(model, images, version, Arrays(format), resize=resize)

    async def translate_encoded(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """Returns one image file per row; see `GanClient.translate_encoded`."""
        chunks = self.translate_encoded_chunks(model, images, version=version, resize=resize, format=format)
        return non_empty([file async for chunk in chunks for file in chunk.files])

    @renamed_argument("file_format", "format")
    def translate_encoded_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> AsyncGenerator[EncodedChunk, None]:
        """Yields the files of each request when they arrive; see `GanClient.translate_encoded_chunks`."""
        return self._translated(model, images, version, Files(format), resize=resize)

    async def models(self) -> list[ModelInfo]:
        """Returns the models that are ready to serve; see `GanClient.models`."""
        return await self._connection.call(self._connection.catalog.models())

    async def info(self, model: str, version: int | str | None = None) -> ModelInfo:
        """Returns the entry of one model in the list of models; see `GanClient.info`."""
        return await self._connection.call(self._connection.catalog.info(model, version))

    async def describe(self, model: str, version: int | str | None = None) -> ModelDescription:
        """Returns everything known about a served model; see `GanClient.describe`."""
        return await self._connection.call(self._connection.catalog.describe(model, version))

    async def card(self, model: str, version: int | str | None = None) -> dict[str, Any]:
        """Returns the card that was published with a served model; see `GanClient.card`."""
        return (await self.describe(model, version)).card

    async def healthy(self, model: str | None = None) -> bool:
        """Whether the server is ready; see `GanClient.healthy`."""
        return await self._connection.call(self._connection.catalog.healthy(model))

    async def versions(self, model: str | None = None) -> list[VersionInfo]:
        """Returns the versions in the server's model repository; see `GanClient.versions`."""
        return await self._connection.call(model_control.versions(model))

    async def load(self, model: str, version: int | None = None, *, newest: bool = False) -> list[VersionInfo]:
        """Makes the server load a model from its repository; see `GanClient.load`."""
        return await self._connection.call(model_control.load(self._connection.catalog, model, version, newest=newest))

    async def unload(self, model: str, version: int | None = None) -> None:
        """Makes the server stop serving a model, or one version of it; see `GanClient.unload`."""
        await self._connection.call(model_control.unload(self._connection.catalog, model, version))

    async def rollback(self, model: str) -> list[VersionInfo]:
        """Makes the server go back to the previous version of a model; see `GanClient.rollback`."""
        return await self._connection.call(model_control.roll_back(self._connection.catalog, model))

    async def close(self) -> None:
        """Closes the connection; later calls raise."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]

    def _generated(
        self, model: str, rows: Rows, version: int | str | None, reader: Reader[_Chunk]
    ) -> AsyncGenerator[_Chunk, None]:
        connection = self._connection
        ahead = connection.ahead
        return connection.run(generated(connection.catalog, model, rows, version, reader, ahead))

    def _translated(
        self, model: str, images: InputImages, version: int | str | None, reader: Reader[_Chunk], *, resize: bool
    ) -> AsyncGenerator[_Chunk, None]:
        connection, rows = self._connection, checked_images(images)
        timeout_s = connection.timeout_s
        return connection.run(
            translated(connection.catalog, model, rows, version, reader, resize=resize, timeout_s=timeout_s)
        )
