"""The synchronous Python client: one class over connection, chunks and wire. Knows no command line and no files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.calls import Anchor, generated, interpolated, translated
from client.sdk.channel import DEFAULT_TIMEOUT_S
from client.sdk.chunking import Chunk, EncodedChunk
from client.sdk.input_images import InputImages, checked_images
from client.sdk.latents import MAX_ROWS, MAX_STREAM_ROWS, checked_rows, whole_number
from client.sdk.messages import Arrays, FileFormat, Files, PixelFormat, Reader, check_format
from client.sdk.model_info import MAX_SIDE, ModelDescription, ModelInfo
from client.sdk.security import TlsOptions
from client.sdk.steps import Steps
from client.sdk.transport import Connection
from client.sdk.walks import Method, traversal

if TYPE_CHECKING:
    from PIL.Image import Image

_Result = TypeVar("_Result")
_Chunk = TypeVar("_Chunk")


class GanClient:
    """Calls a ganserve server, from a notebook or a program; safe to share between threads.

    A large count is fetched in several requests, all of the same model version and in order. Requests that find the
    server unavailable are sent again a few times, to another server if there are several. Translations, and a large
    count that has begun to come, also wait for a busy server, about 30 s at most; translations go on with smaller
    requests when one misses its deadline. A call that fails raises a `GanClientError`.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH. Several IP:PORT, as a list or with commas
            between, and all addresses behind a dns:///HOST:PORT, take turns, and each other's place when one fails.
        timeout_s: The deadline of each request, retries included, in seconds.
        channels: How many connections to open to each server. A large count of generated images has so many requests
            on their way at a time, and memory holds their answers; one is enough for a server with few cores.
        tls: How to know the server, `TlsOptions()` for the public authorities. None: no TLS.
        token: Sent with each request as "authorization: Bearer ...". Without TLS it is refused, but for this machine.

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
        self._connection = Connection(address, timeout_s=timeout_s, channels=channels, tls=tls, token=token)

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
            count: How many rows to draw from the seed, at most 1,000,000; None: one.
            version: None: the newest that is served.
            format: "pixels" or "float32".

        Returns:
            For "pixels" uint8 (rows, height, width, channels), 0..255; for "float32" float32
            (rows, channels, height, width) in the generator's own range, normally -1..1.

        Raises:
            GanClientError: there are no images; the subclass says why.
        """
        check_format(format, PixelFormat)
        rows = checked_rows(latents, seed, count)
        steps = generated(self._connection.catalog, model, rows, version, Arrays(format), self._ahead)
        return np.concatenate([chunk.images for chunk in self._connection.run(steps)])

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
    ) -> Generator[Chunk, None, None]:
        """Like `generate`, but yields the images of each request when they come, in the order of the rows.

        Memory holds a few requests, whatever the count, which may be up to 1,000,000,000. With `first_row` it begins
        at that row of the seed's stream: the same images as without it, less the first so many. Rows before it are
        drawn and dropped, about 1 s for 100 million numbers.
        """
        check_format(image_format, PixelFormat)
        rows = checked_rows(latents, seed, count, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        steps = generated(self._connection.catalog, model, rows, version, Arrays(image_format), self._ahead)
        return self._connection.run(steps)

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
        steps = generated(self._connection.catalog, model, rows, version, Files(format), self._ahead)
        return [file for chunk in self._connection.run(steps) for file in chunk.files]

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
    ) -> Generator[EncodedChunk, None, None]:
        """Like `generate_chunks`, but yields image files, "png" or "jpeg", made by the server."""
        check_format(file_format, FileFormat)
        rows = checked_rows(latents, seed, count, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        steps = generated(self._connection.catalog, model, rows, version, Files(file_format), self._ahead)
        return self._connection.run(steps)

    def generate_pictures(
        self,
        model: str,
        *,
        latents: ArrayLike | None = None,
        seed: int | None = None,
        count: int | None = None,
        version: int | None = None,
    ) -> list[Image]:
        """Like `generate`, but returns one PIL image a row."""
        return pictures_of(self.generate(model, latents=latents, seed=seed, count=count, version=version))

    def grid(
        self,
        model: str,
        *,
        count: int = 64,
        seed: int | None = None,
        columns: int | None = None,
        version: int | None = None,
    ) -> Image:
        """One picture of `count` images, side by side in `columns`, by default a square."""
        from ganserve.grids import image_grid

        check_columns(columns)
        return image_grid(self.generate(model, seed=seed, count=count, version=version), columns)

    def interpolate(
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
        """Generates images on the way from one latent to another.

        Args:
            model: Name of a served model.
            start: A latent (latent_dim,), or a seed, whose first latent is meant.
            end: Where the way ends, alike.
            steps: How many images, both ends counted; at least 2.
            method: "spherical" keeps to the lengths that Gaussian latents have; "linear" goes straight.
            version: None: the newest that is served.
            loop: Whether the way leads back to the start, which is not repeated: shown again and again, it never jumps.

        Returns:
            uint8 (steps, height, width, channels), or (2 * steps - 2, ...) with `loop`.

        Raises:
            GanClientError: there are no images; the subclass says why.
        """
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
        return np.concatenate([chunk.images for chunk in self._connection.run(asked)])

    def traverse(
        self,
        model: str,
        latents: ArrayLike,
        *,
        dimensions: Sequence[int],
        values: Sequence[float],
        version: int | None = None,
    ) -> NDArray[np.uint8]:
        """Generates images with one dimension of the latents set to each of some values, the others as they are.

        Args:
            model: Name of a served model.
            latents: (rows, latent_dim).
            dimensions: Which, each in 0 .. latent_dim - 1.
            values: What each is set to.
            version: None: the newest that is served.

        Returns:
            uint8 (len(dimensions) * len(values), rows, height, width, channels): a line for each dimension and value,
            all values of the first dimension first; an image in it for each latent.

        Raises:
            GanClientError: there are no images; the subclass says why.
        """
        images = self.generate(model, latents=traversed(latents, dimensions, values), version=version)
        return images.reshape(len(dimensions) * len(values), -1, *images.shape[1:])

    @property
    def _ahead(self) -> int:
        return self._connection.endpoint.channels

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

    def models(self) -> list[ModelInfo]:
        """The models that are ready to serve.

        Raises:
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.models())

    def info(self, model: str, version: int | None = None) -> ModelInfo:
        """What the list of models says of one, whatever its task.

        Args:
            model: Name of a served model.
            version: None: the newest that is served.

        Raises:
            UnknownModel: it is not served.
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.info(model, version))

    def describe(self, model: str, version: int | None = None) -> ModelDescription:
        """What there is to know of a served model: its card, the sizes of its files, whether it is ready.

        Args:
            model: Name of a served model.
            version: None: the newest that is served.

        Raises:
            UnknownModel: it is not served.
            UnsupportedByServer: the server is too old to say.
            GanClientError: the server does not answer, or not as it must.
        """
        return self._connection.call(self._connection.catalog.describe(model, version))

    def card(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The card that was published with a served model, a JSON object: data set, figures, files and more.

        Args and errors are those of `describe`. Fields may be missing, and newer exporters add some.
        """
        return self.describe(model, version).card

    def healthy(self, model: str | None = None) -> bool:
        """Whether the server is ready, by grpc.health.v1, and serves `model` if one is named. It is asked once.

        Raises:
            ServerUnreachable: nothing answers at the address.
            UnsupportedByServer: what answers knows no health.
            GanClientError: there is no answer.
        """
        return self._connection.call(self._connection.catalog.healthy(model))

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def pictures_of(images: NDArray[np.uint8]) -> list[Image]:
    """One PIL image a row of uint8 (rows, height, width, channels)."""
    from ganserve.grids import image_grid

    return [image_grid(images[row : row + 1]) for row in range(len(images))]


def traversed(latents: ArrayLike, dimensions: Sequence[int], values: Sequence[float]) -> NDArray[np.float32]:
    """The latents of `GanClient.traverse`, (len(dimensions) * len(values) * rows, latent_dim).

    Raises:
        InvalidRequest: an argument has another shape or is out of range.
    """
    return traversal(latents, [whole_number("dimensions", at, 0, MAX_SIDE) for at in dimensions], values)


def check_columns(columns: object) -> None:
    """Checks the columns of a grid.

    Raises:
        InvalidRequest: they are no number of at least 1.
    """
    if columns is not None:
        whole_number("columns", columns, 1, MAX_ROWS)


def some(results: list[_Result]) -> list[_Result]:
    """Returns `results` if there are any.

    Raises:
        InvalidRequest: there were no images to translate.
    """
    if not results:
        raise InvalidRequest("images: there are none; give at least one")
    return results
