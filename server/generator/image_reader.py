"""Turns admitted images into the rows that a model takes: decodes files, resizes, converts.

Files are untrusted, and decoding one can take far more memory than it has bytes: up to 12 bytes per pixel (see
`decode_picture`), so 400 MB for the largest image that is accepted by default. Therefore only a few threads decode, and
each request has one image decoded at a time. Memory holds at most one decoded image per thread, plus the rows, which a
byte budget bounds.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from server.errors import DeadlinePassed, InvalidRequest, QueueFull
from server.generator.images import AdmittedImages

MAX_THREADS: Final = 4  # bounds the memory of decoded images
_FORMATS: Final = ("PNG", "JPEG")
_CLOSE_PATIENCE_S = 5.0  # a decoder cannot be interrupted, and takes about a second per image
_MAX_REASON: Final = 200  # characters of a decoder's error in a message


class ImageReader:
    """Reads images in a small pool of threads, for one event loop.

    Args:
        threads: number of images to decode or resize at once.
        max_waiting_rows: the most images of all requests that wait or are being read; more are refused.
    """

    def __init__(self, threads: int, max_waiting_rows: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="image-reader")
        self._max_waiting_rows = max_waiting_rows
        self._waiting_rows = 0
        self._decoding: set[Future[NDArray[np.uint8]]] = set()

    @property
    def waiting_rows(self) -> int:
        """Number of images that wait to be read or are being read."""
        return self._waiting_rows

    async def read(self, admitted: AdmittedImages, deadline: float = math.inf) -> NDArray[np.uint8]:
        """Reads every image, shape (rows, height, width, channels) of the model; the array may be read-only.

        When the caller is cancelled or its deadline (on the event loop's clock, in seconds) passes, reading stops after
        the current image.

        Raises:
            InvalidRequest: an image cannot be read, or has another size and the request does not allow resizing.
            QueueFull: too many images wait.
            DeadlinePassed: the deadline passed first.
        """
        source = admitted.source
        if isinstance(source, np.ndarray) and source.shape[1:] == admitted.input.row_shape:
            return source
        if self._waiting_rows + admitted.rows > self._max_waiting_rows:
            raise QueueFull(
                f"too many images wait to be read ({self._waiting_rows} of {self._max_waiting_rows},"
                f" {admitted.rows} more do not fit): try again after a pause"
            )
        self._waiting_rows += admitted.rows
        try:
            return await self._read_one_by_one(admitted, deadline)
        finally:
            self._waiting_rows -= admitted.rows

    async def close(self) -> bool:
        """Stops each thread after its current image; False if one is still busy after some seconds.

        Python waits for such a thread before it exits, so the caller must end the process. Safe to call twice.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        if decoding := {future for future in self._decoding if not future.done()}:
            decoding = (await asyncio.to_thread(wait, decoding, _CLOSE_PATIENCE_S)).not_done
        return not decoding

    async def _read_one_by_one(self, admitted: AdmittedImages, deadline: float) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        rows = np.empty((admitted.rows, *admitted.input.row_shape), np.uint8)
        for row in range(admitted.rows):
            if deadline <= loop.time():
                raise DeadlinePassed("the deadline passed before the images were read: allow more time, or send fewer")
            rows[row] = await self._read_row(admitted, row)
        return rows

    async def _read_row(self, admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
        self._decoding = {
            future for future in self._decoding if not future.done()
        }  # includes images of clients that disconnected
        future = self._threads.submit(read_row, admitted, row)
        self._decoding.add(future)
        return await asyncio.wrap_future(future)


def read_row(admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
    """Reads one image, shape (height, width, channels) of the model; slow, so call it off the event loop.

    Raises:
        InvalidRequest: it cannot be read, or has another size and the request does not allow resizing.
    """
    source, wanted = admitted.source, admitted.input
    if isinstance(source, np.ndarray):
        picture = Image.fromarray(source[row, ..., 0] if wanted.channels == 1 else source[row])
    else:
        picture = _decode(source[row], f"encoded.data[{row}]", admitted)
    if picture.size != (wanted.width, wanted.height):
        picture = fit_picture(picture, wanted.width, wanted.height)
    picture = picture.convert("L" if wanted.channels == 1 else "RGB")
    return np.asarray(picture, dtype=np.uint8).reshape(wanted.row_shape)


def _decode(data: bytes, field: str, admitted: AdmittedImages) -> Image.Image:
    """Decodes one file to mode L or RGB; checks its size unless the request allows resizing."""
    size = (admitted.input.width, admitted.input.height)

    def check_size(width: int, height: int) -> None:
        if min(width, height) < 1:
            raise UnreadablePictureError("it has no pixels")
        if not admitted.resize and sorted((width, height)) != sorted(size):  # EXIF may still rotate it
            raise _OtherSizeError((width, height))

    try:
        picture = decode_picture(data, formats=_FORMATS, max_pixels=admitted.max_image_pixels, check_size=check_size)
        if not admitted.resize and picture.size != size:
            raise _OtherSizeError(picture.size)
    except _OtherSizeError as error:
        raise InvalidRequest(
            f"{field} is {_show_size(error.size)}, and {admitted.model!r} takes {_show_size(size)}:"
            " send images of that size, or set resize"
        ) from error
    except UnreadablePictureError as error:
        raise InvalidRequest(
            f"{field} cannot be read ({_one_line(str(error))}): send a complete PNG or JPEG file of at most"
            f" {admitted.max_image_pixels} pixels"
        ) from error
    return picture


class _OtherSizeError(UnreadablePictureError):
    """A picture does not have the size that the model takes."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(_show_size(size))
        self.size = size


def _show_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} (width x height)"


def _one_line(text: str) -> str:
    """Returns a decoder's error, which may quote from the file, as one ASCII line."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:_MAX_REASON]
