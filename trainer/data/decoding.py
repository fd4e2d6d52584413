"""Decodes pictures into one array; every file is untrusted.

Sizes and modes may be mixed; ganserve/pictures.py decodes them. Unreadable files are skipped and named, up to a limit.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ganserve.machine import usable_cores
from ganserve.picture_formats import counts, picture_formats
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from trainer.data.image_files import ImageFile, ImageSource
from trainer.data.pixel_store import Decoded, PixelStore
from trainer.errors import UserError
from trainer.progress import Progress

MAX_IMAGE_PIXELS = 64 << 20  # checked in the header, so that a decompression bomb is never decoded
_MOST_THREADS = 8
_AHEAD = 4  # files decoded ahead, per thread
_DOUBTED = 255 // 8  # a set that never leaves the lowest or the highest eighth of the range is probably not meant so

_Image = NDArray[np.uint8]


def decode_all(
    source: ImageSource, size: tuple[int, int], max_corrupt_images: int, progress: Progress
) -> tuple[Tensor, Decoded]:
    """Decodes the readable pictures to uint8 (N, C, height, width): scaled to cover `size`, centre cropped.

    C is 1 if every picture is gray, whatever its mode, else 3. Tells the user about memory, the range of the pixels,
    and what is left out.

    Raises:
        UserError: none is readable, more than `max_corrupt_images` are unreadable, or there is no room for the pixels.
    """
    if source.left_out:
        progress.say(f"left out: {counts(source.left_out)}")
    store = PixelStore(source, size, progress)
    with store.opened() as found:
        images, decoded = found or _decode_into(store, source, size, max_corrupt_images, progress)
    _check_skipped(source, len(decoded.skipped), max_corrupt_images)
    for line in _about(decoded):
        progress.say(line)
    return images, decoded


def decode_image(data: bytes, size: tuple[int, int]) -> _Image:
    """Decodes one image file to (height, width, 1 or 3): scaled to cover `size`, centre cropped; 1 if it is gray.

    Raises:
        UnreadablePictureError: it is not an image, is truncated, or is too large.
    """
    picture = decode_picture(data, formats=picture_formats(), max_pixels=MAX_IMAGE_PIXELS)
    height, width = size
    array = np.asarray(fit_picture(picture, width, height), dtype=np.uint8)
    if array.ndim == 2:
        return array[:, :, None]
    red, green, blue = (array[:, :, channel] for channel in range(3))
    return array[:, :, :1] if np.array_equal(red, green) and np.array_equal(green, blue) else array


def _decode_into(
    store: PixelStore, source: ImageSource, size: tuple[int, int], max_corrupt_images: int, progress: Progress
) -> tuple[Tensor, Decoded]:
    unreadable: list[int] = []
    skipped: list[str] = []
    count, coloured, first_coloured, darkest, brightest = 0, 0, "", 255, 0
    with warnings.catch_warnings(), closing(_results(source.files, size)) as results:
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata is no reason to skip a file; sizes are checked
        for number, file in enumerate(progress.track(source.files, "decoding")):
            result = next(results)
            if isinstance(result, str):
                unreadable.append(number)
                skipped.append(f"{file.name}: {result}")
                progress.say(f"skipped {skipped[-1]}")
                _check_skipped(source, len(skipped), max_corrupt_images)
                continue
            store.append(result)
            count += 1
            darkest, brightest = min(darkest, int(result.min())), max(brightest, int(result.max()))
            if result.shape[2] > 1:
                coloured += 1
                first_coloured = first_coloured or file.name
    if not count:
        raise UserError(f"{source.flag}: holds no readable image")
    decoded = Decoded(
        count=count,
        channels=3 if coloured else 1,
        unreadable=tuple(unreadable),
        skipped=tuple(skipped),
        coloured=coloured,
        first_coloured=first_coloured,
        darkest=darkest,
        brightest=brightest,
    )
    return store.close(decoded), decoded


def _check_skipped(source: ImageSource, skipped: int, max_corrupt_images: int) -> None:
    if skipped > max_corrupt_images:
        raise UserError(
            f"{source.flag}: more than {max_corrupt_images} unreadable images;"
            " fix the data set, or allow more with --max-corrupt"
        )


def _results(files: list[ImageFile], size: tuple[int, int]) -> Generator[_Image | str, None, None]:
    """Yields the image of each file in turn, or the reason why it is unreadable; a few are decoded ahead."""
    threads = min(_MOST_THREADS, usable_cores())
    pool = ThreadPoolExecutor(max_workers=threads)
    waiting: deque[Future[_Image | str]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(_decode, file, size))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # on an error or Ctrl-C, wait only for the files being decoded


def _decode(file: ImageFile, size: tuple[int, int]) -> _Image | str:
    try:
        return decode_image(file.read(), size)
    except UnreadablePictureError as error:
        return str(error)


def _about(decoded: Decoded) -> Iterator[str]:
    """What the pixels are, and doubts about them, for the user."""
    colours = "1 channel (gray)" if decoded.channels == 1 else "3 channels (RGB)"
    if 0 < decoded.coloured < decoded.count:
        share = f"{decoded.coloured:,} of {decoded.count:,} pictures are in colour"
        colours += f": {share}, such as {decoded.first_coloured}"
    yield f"pixels from {decoded.darkest} to {decoded.brightest}, of 0 to 255; {colours}"
    if decoded.brightest <= _DOUBTED:
        yield (
            f"warning: no pixel is brighter than {decoded.brightest} of 255, so the images are nearly black; 12-bit"
            " data in 16-bit files looks like this. Scale the files to their full range (see docs/data.md)"
        )
    elif decoded.darkest >= 255 - _DOUBTED:
        yield (
            f"warning: no pixel is darker than {decoded.darkest} of 255, so the images are nearly white; pictures"
            " whose transparency hides everything look like this (see docs/data.md)"
        )
