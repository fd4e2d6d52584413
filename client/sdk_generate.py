"""The calls of GanClient that turn latents into images."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.answers import Arrays, Files
from client.chunks import Chunk, EncodedChunk
from client.connection import Connection
from client.interpolation import Anchor, interpolated
from client.latents import MAX_ROWS, MAX_STREAM_ROWS, checked_rows, whole_number
from client.model_info import MAX_SIDE
from client.requests import generated
from client.walks import Method, traversal
from client.wire import FileFormat, PixelFormat, check_format

if TYPE_CHECKING:
    from PIL.Image import Image


class GenerateCalls:
    """Calls for models whose task is "generate"."""

    _connection: Connection

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
        from client.image_output import image_grid  # only who wants pictures needs Pillow

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


def pictures_of(images: NDArray[np.uint8]) -> list[Image]:
    """One PIL image a row of uint8 (rows, height, width, channels)."""
    from client.image_output import image_grid  # only who wants pictures needs Pillow

    return [image_grid(images[row : row + 1]) for row in range(len(images))]


def traversed(latents: ArrayLike, dimensions: Sequence[int], values: Sequence[float]) -> NDArray[np.float32]:
    """The latents of `GenerateCalls.traverse`, (len(dimensions) * len(values) * rows, latent_dim).

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
