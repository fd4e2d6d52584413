"""The blocking Python client."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import InvalidRequest
from client.sdk import model_control
from client.sdk.addresses import DEFAULT_ADDRESS, Addresses
from client.sdk.calls import Anchor, generated, interpolated, translated
from client.sdk.channel import DEFAULT_TIMEOUT_S
from client.sdk.chunking import Chunk, EncodedChunk
from client.sdk.input_images import InputImages, checked_images
from client.sdk.latents import MAX_ROWS, MAX_STREAM_ROWS, Rows, checked_rows, one_count, whole_number
from client.sdk.messages import Arrays, FileFormat, Files, PixelFormat, Reader
from client.sdk.model_control import VersionInfo
from client.sdk.model_info import MAX_SIDE, ModelDescription, ModelInfo
from client.sdk.security import TlsOptions
from client.sdk.transport import BlockingConnection, Connection
from client.sdk.walks import Method, traversal

if TYPE_CHECKING:
    from PIL.Image import Image

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Chunk = TypeVar("_Chunk")


def renamed_argument(old: str, new: str) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """A decorator that passes the keyword argument `old` on as `new`, with a DeprecationWarning."""

    def decorated(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(call)
        def with_old_name(*args: Any, **keywords: Any) -> Any:
            if old in keywords:
                if new in keywords:
                    raise TypeError(f"{call.__name__}() got both {new!r} and its old name {old!r}; give only {new!r}")
                warnings.warn(f"{call.__name__}: {old!r} is now {new!r}", DeprecationWarning, stacklevel=2)
                keywords[new] = keywords.pop(old)
            return call(*args, **keywords)

        return with_old_name

    return decorated


class GanClient:
    """Calls a ganserve server, from a notebook or a program; safe to share between threads.

    A large count is fetched in several requests, all of the same model version and in order. Requests are retried while
    the server is unavailable, on another server if there are several. Translations, and a large count whose first
    images have arrived, also wait for a busy server, for about 30 s; translations continue with smaller requests when
    one misses its deadline. A call that fails raises a `GanClientError`.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH. Requests are balanced over several
            IP:PORT, as a list or separated by commas, and over all addresses behind a dns:///HOST:PORT.
        timeout_s: The deadline of each request, retries included, in seconds.
        channels: The number of connections per server, and of requests in flight while a large count of images is
            generated; their responses are kept in memory. One is enough for a server with few cores.
        tls: How to verify the server; `TlsOptions()` trusts the public authorities. None: no TLS.
        token: Sent with each request as "authorization: Bearer ...". Refused without TLS, except to this machine.

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
        self._connection: BlockingConnection = Connection(
            address, timeout_s=timeout_s, channels=channels, tls=tls, token=token
        )

    def generate(
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
        """Generates one image per row of latents.

        Args:
            model: The name of a served model.
            latents: (rows, latent_dim); or give a seed and a count instead.
            seed: 0 .. 2**64 - 1; the same seed gives the same images. None: a random one.
            count: How many rows to draw from the seed, at most 1,000,000. None: one.
            n: Another name of `count`, as `ganclient` calls it.
            version: A number, or a label such as "stable". None: the default version, normally the newest.
            format: "pixels" or "float32".

        Returns:
            For "pixels" uint8 (rows, height, width, channels), 0..255; for "float32" float32
            (rows, channels, height, width) in the generator's own range, normally -1..1.

        Raises:
            GanClientError: The call failed; the subclass says why.
        """
        rows = checked_rows(latents, seed, count, n)
        return np.concatenate([chunk.images for chunk in self._generated(model, rows, version, Arrays(format))])

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
    ) -> Generator[Chunk, None, None]:
        """Like `generate`, but yields the images of each request when they arrive, in the order of the rows.

        Memory use is constant; `count` may be up to 1,000,000,000. `first_row` skips the rows before it in the seed's
        stream, which takes about 1 s per 100 million latent values.
        """
        rows = checked_rows(latents, seed, count, n, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._generated(model, rows, version, Arrays(format))

    def generate_encoded(
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
        """Like `generate`, but returns one image file per row, "png" or "jpeg", made by the server."""
        rows = checked_rows(latents, seed, count, n)
        return [file for chunk in self._generated(model, rows, version, Files(format)) for file in chunk.files]

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
    ) -> Generator[EncodedChunk, None, None]:
        """Like `generate_chunks`, but yields image files, "png" or "jpeg", made by the server."""
        rows = checked_rows(latents, seed, count, n, first_row=first_row, max_rows=MAX_STREAM_ROWS)
        return self._generated(model, rows, version, Files(format))

    def generate_pictures(
        self,
        model: str,
        latents: ArrayLike | None = None,
        *,
        seed: int | None = None,
        count: int | None = None,
        n: int | None = None,
        version: int | str | None = None,
    ) -> list[Image]:
        """Like `generate`, but returns one PIL image per row."""
        return pictures_of(self.generate(model, latents, seed=seed, count=count, n=n, version=version))

    def grid(
        self,
        model: str,
        *,
        count: int | None = None,
        n: int | None = None,
        seed: int | None = None,
        columns: int | None = None,
        version: int | str | None = None,
    ) -> Image:
        """Returns `count` images (or `n`; 64 by default) as a grid in one picture, by default a square."""
        from ganserve.grids import image_grid

        check_columns(columns)
        return image_grid(self.generate(model, seed=seed, count=one_count(count, n, 64), version=version), columns)

    def interpolate(
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
        """Generates images on the path from one latent to another.

        Args:
            model: The name of a served model.
            start: A latent (latent_dim,), or a seed, which stands for its first latent.
            end: The other end, in either form.
            steps: The number of images, including both ends; at least 2.
            method: "spherical" preserves the typical length of Gaussian latents; "linear" is a straight line.
            version: A number, or a label such as "stable". None: the default version, normally the newest.
            loop: Whether to return to the start, without repeating it, for a seamless loop.

        Returns:
            uint8 (steps, height, width, channels), or (2 * steps - 2, ...) with `loop`.

        Raises:
            GanClientError: The call failed; the subclass says why.
        """
        catalog, ahead = self._connection.catalog, self._connection.ahead
        path = interpolated(catalog, model, (start, end), steps, method, version, ahead, loop=loop)
        return np.concatenate([chunk.images for chunk in self._connection.run(path)])

    def traverse(
        self,
        model: str,
        latents: ArrayLike,
        *,
        dimensions: Sequence[int],
        values: Sequence[float],
        version: int | str | None = None,
    ) -> NDArray[np.uint8]:
        """Generates images with one dimension of the latents set to each of several values, the others unchanged.

        Args:
            model: The name of a served model.
            latents: (rows, latent_dim).
            dimensions: The dimensions to set, each in 0 .. latent_dim - 1.
            values: The values to set them to.
            version: A number, or a label such as "stable". None: the default version, normally the newest.

        Returns:
            uint8 (len(dimensions) * len(values), rows, height, width, channels): one line per dimension and value, all
            values of the first dimension first, with one image per latent.

        Raises:
            GanClientError: The call failed; the subclass says why.
        """
        images = self.generate(model, latents=traversed(latents, dimensions, values), version=version)
        return images.reshape(len(dimensions) * len(values), -1, *images.shape[1:])

    def translate(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> NDArray[Any]:
        """Translates each image into another domain.

        Args:
            model: The name of a served model whose task is "translate".
            images: uint8 (rows, height, width, channels), or an iterable of PNG or JPEG files (bytes) or PIL images,
                which is consumed as the requests are sent.
            version: A number, or a label such as "stable". None: the default version, normally the newest.
            resize: Whether to resize and centre-crop images to the model's size. Without it, other sizes are refused.
            format: "pixels" or "float32".

        Returns:
            For "pixels" uint8 (rows, height, width, channels), 0..255; for "float32" float32
            (rows, channels, height, width) in the model's own range, normally -1..1.

        Raises:
            GanClientError: The call failed; the subclass says why.
        """
        chunks = self.translate_chunks(model, images, version=version, resize=resize, format=format)
        return np.concatenate(non_empty([chunk.images for chunk in chunks]))

    @renamed_argument("image_format", "format")
    def translate_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: PixelFormat = "pixels",  # noqa: A002  (the wire contract's word)
    ) -> Generator[Chunk, None, None]:
        """Like `translate`, but yields the images of each request when they arrive; `images` may be endless."""
        return self._translated(model, images, version, Arrays(format), resize=resize)

    def translate_encoded(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> list[bytes]:
        """Like `translate`, but returns one image file per row, "png" or "jpeg", made by the server."""
        chunks = self.translate_encoded_chunks(model, images, version=version, resize=resize, format=format)
        return non_empty([file for chunk in chunks for file in chunk.files])

    @renamed_argument("file_format", "format")
    def translate_encoded_chunks(
        self,
        model: str,
        images: InputImages,
        *,
        version: int | str | None = None,
        resize: bool = False,
        format: FileFormat = "png",  # noqa: A002  (the wire contract's word)
    ) -> Generator[EncodedChunk, None, None]:
        """Like `translate_chunks`, but yields image files, "png" or "jpeg", made by the server."""
        return self._translated(model, images, version, Files(format), resize=resize)

    def models(self) -> list[ModelInfo]:
        """Returns the models that are ready to serve.

        Raises:
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(self._connection.catalog.models())

    def info(self, model: str, version: int | str | None = None) -> ModelInfo:
        """Returns one model's entry in the list of models.

        Args:
            model: The name of a served model.
            version: A number, or a label such as "stable". None: the default version, normally the newest.

        Raises:
            UnknownModel: The model is not served.
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(self._connection.catalog.info(model, version))

    def describe(self, model: str, version: int | str | None = None) -> ModelDescription:
        """Returns everything known about a served model: its card, the sizes of its files, whether it is ready.

        Args:
            model: The name of a served model.
            version: A number, or a label such as "stable". None: the default version, normally the newest.

        Raises:
            UnknownModel: The model is not served.
            UnsupportedByServer: The server is too old for this call.
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(self._connection.catalog.describe(model, version))

    def card(self, model: str, version: int | str | None = None) -> dict[str, Any]:
        """Returns the card that was published with a served model, a JSON object: data set, metrics, files and more.

        Arguments and errors are those of `describe`. Fields may be missing, and newer exporters add some.
        """
        return self.describe(model, version).card

    def healthy(self, model: str | None = None) -> bool:
        """Whether the server is ready, by grpc.health.v1, and serves `model` if one is named. Does not retry.

        Raises:
            ServerUnreachable: Nothing answers at the address.
            UnsupportedByServer: The server has no health service.
            GanClientError: The server does not answer.
        """
        return self._connection.call(self._connection.catalog.healthy(model))

    def versions(self, model: str | None = None) -> list[VersionInfo]:
        """Returns the versions in the server's model repository, of one model or of all, and their states.

        Raises:
            UnknownModel: The repository has no such model.
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(model_control.versions(model))

    def load(self, model: str, version: int | None = None, *, newest: bool = False) -> list[VersionInfo]:
        """Makes the server load a model from its repository; returns all versions of the model.

        Args:
            model: The name of a model in the repository.
            version: Makes this version the default, until another one is chosen or the server restarts. None: serves
                the versions that the version policy of the model names.
            newest: Makes the newest version the default again.

        Raises:
            UnknownModel: The repository has no such model or version.
            VersionNotLoaded: A version does not work; the message says why and what is served.
            AccessDenied: The server does not let clients load models.
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(model_control.load(self._connection.catalog, model, version, newest=newest))

    def unload(self, model: str, version: int | None = None) -> None:
        """Makes the server stop serving a model, or one version of it; returns when its requests are answered.

        Raises:
            UnknownModel: The model or version is not served.
            AccessDenied: The server does not let clients unload models.
            GanClientError: The server does not answer.
        """
        self._connection.call(model_control.unload(self._connection.catalog, model, version))

    def rollback(self, model: str) -> list[VersionInfo]:
        """Makes the newest working version older than the default one the default; returns all versions of the model.

        Raises:
            UnknownModel: The model is not served.
            VersionNotLoaded: No older version works.
            AccessDenied: The server does not let clients load models.
            GanClientError: The server does not answer, or its response is invalid.
        """
        return self._connection.call(model_control.roll_back(self._connection.catalog, model))

    def close(self) -> None:
        """Closes the connection; later calls raise."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]

    def _generated(
        self, model: str, rows: Rows, version: int | str | None, reader: Reader[_Chunk]
    ) -> Generator[_Chunk, None, None]:
        connection = self._connection
        ahead = connection.ahead
        return connection.run(generated(connection.catalog, model, rows, version, reader, ahead))

    def _translated(
        self, model: str, images: InputImages, version: int | str | None, reader: Reader[_Chunk], *, resize: bool
    ) -> Generator[_Chunk, None, None]:
        connection, rows = self._connection, checked_images(images)
        timeout_s = connection.timeout_s
        return connection.run(
            translated(connection.catalog, model, rows, version, reader, resize=resize, timeout_s=timeout_s)
        )


def pictures_of(images: NDArray[np.uint8]) -> list[Image]:
    """One PIL image per row of uint8 (rows, height, width, channels)."""
    from ganserve.grids import to_pil

    return [to_pil(image) for image in images]


def traversed(latents: ArrayLike, dimensions: Sequence[int], values: Sequence[float]) -> NDArray[np.float32]:
    """The latents of `GanClient.traverse`, (len(dimensions) * len(values) * rows, latent_dim).

    Raises:
        InvalidRequest: An argument has the wrong shape or is out of range.
    """
    return traversal(latents, [whole_number("dimensions", at, 0, MAX_SIDE) for at in dimensions], values)


def check_columns(columns: object) -> None:
    """Checks the columns of a grid.

    Raises:
        InvalidRequest: They are not a whole number of at least 1.
    """
    if columns is not None:
        whole_number("columns", columns, 1, MAX_ROWS)


def non_empty(results: list[_Result]) -> list[_Result]:
    """Returns `results` unless they are empty.

    Raises:
        InvalidRequest: There were no images to translate.
    """
    if not results:
        raise InvalidRequest("images: must not be empty; give at least one")
    return results
