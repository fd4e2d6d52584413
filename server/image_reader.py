"""Turns admitted images into the rows that a model takes: decodes files, resizes, converts. Knows no protocol.

Files are untrusted, and decoding one may cost far more memory than it has bytes. So it is done in as many threads as
there are cores, and a request has one image in hand at a time: at most one decoded image a thread, beside small rows.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from server.errors import DeadlinePassed, InvalidRequest, QueueFull
from server.image_admission import AdmittedImages, SentPixels

_FORMATS: Final = ("PNG", "JPEG")
_MAX_REASON: Final = 200  # characters of a decoder's own text that a message repeats


class ImageReader:
    """Reads images in a small pool of threads. To be used on one event loop.

    Args:
        threads: how many images are decoded or resized at once.
        max_waiting_rows: how many images may wait for that or have it done, of all requests; more are refused.
    """

    def __init__(self, threads: int, max_waiting_rows: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="image-reader")
        self._max_waiting_rows = max_waiting_rows
        self._waiting_rows = 0

    async def read(self, admitted: AdmittedImages, deadline: float = math.inf) -> NDArray[np.uint8]:
        """Reads every image, shape (rows, height, width, channels) of the model, perhaps read-only.

        Cancelling the caller, or passing its deadline (of the event loop's clock, in seconds), ends it with the image
        that is in hand.

        Raises:
            InvalidRequest: some image cannot be read, or has another size and is not to be resized.
            QueueFull: too many images wait already.
            DeadlinePassed: the deadline came first.
        """
        source = admitted.source
        if isinstance(source, SentPixels) and source.shape[1:] == admitted.input.row_shape:
            return np.frombuffer(source.data, np.uint8).reshape(source.shape)
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

    async def close(self) -> None:
        """Stops the threads once each has done the image in its hand. Safe to call twice."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _read_one_by_one(self, admitted: AdmittedImages, deadline: float) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        rows = np.empty((admitted.rows, *admitted.input.row_shape), np.uint8)
        for row in range(admitted.rows):
            if deadline <= loop.time():
                raise DeadlinePassed("the deadline passed before the images were read: allow more time, or send fewer")
            rows[row] = await loop.run_in_executor(self._threads, read_row, admitted, row)
        return rows


def read_row(admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
    """Reads one image, shape (height, width, channels) of the model; slow, so not for the event loop.

    Raises:
        InvalidRequest: it cannot be read, or has another size and is not to be resized.
    """
    source, wanted = admitted.source, admitted.input
    if isinstance(source, SentPixels):
        image_bytes = math.prod(source.shape[1:])
        pixels = np.frombuffer(source.data, np.uint8, image_bytes, row * image_bytes).reshape(source.shape[1:])
        picture = Image.fromarray(pixels[..., 0] if wanted.channels == 1 else pixels)
    else:
        picture = _decode(source.data[row], f"encoded.data[{row}]", admitted)
    if picture.size != (wanted.width, wanted.height):
        picture = fit_picture(picture, wanted.width, wanted.height)
    picture = picture.convert("L" if wanted.channels == 1 else "RGB")
    return np.asarray(picture, dtype=np.uint8).reshape(wanted.row_shape)


def _decode(data: bytes, field: str, admitted: AdmittedImages) -> Image.Image:
    """Decodes one file to mode L or RGB, of the model's size unless it is to be resized."""
    size = (admitted.input.width, admitted.input.height)

    def check_size(width: int, height: int) -> None:
        if min(width, height) < 1:
            raise UnreadablePictureError("it has no pixels")
        if not admitted.resize and sorted((width, height)) != sorted(size):  # it may yet be turned on its side
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
            f"{field} cannot be read ({_one_line(str(error))}): send a whole PNG or JPEG file of at most"
            f" {admitted.max_image_pixels} pixels"
        ) from error
    return picture


class _OtherSizeError(UnreadablePictureError):
    """A picture has another size than it should."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(_show_size(size))
        self.size = size


def _show_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} (width x height)"


def _one_line(text: str) -> str:
    """A decoder's text, which may quote from the file."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:_MAX_REASON]
