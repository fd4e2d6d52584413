"""Finds the training pictures that are nearest to a generated one: a check for memorisation.

The distance is the root of the mean squared difference of the pixels. Goodfellow et al. (2014, arXiv:1406.2661, figure
2) show the training example nearest to a sample in the same way. It finds copies, and is blind to those that are
shifted or mirrored. How close is too close depends on the data, so the distance between a training picture and the
nearest other one is the measure.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.files.picture_files import MAX_PIXELS
from ganserve.files import read_regular_file
from ganserve.picture_formats import picture_formats, why_left_out
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture

_MAX_FILE_BYTES: Final = 64 << 20
_MAX_TOTAL_BYTES: Final = 1 << 30  # of pixels, as the model sees them
_COMPARED: Final = 200  # training pictures whose distance to the nearest other one is measured
_PART_BYTES: Final = 32 << 20  # of differences in memory


@dataclass(frozen=True)
class Nearest:
    """The result of `TrainingPictures.nearest`.

    Attributes:
        images: uint8 (found, height, width, channels), nearest first.
        distances: Of each, in grey levels of 255.
        usual: The median distance between a training picture and the nearest other one; NaN for a single picture.
        searched: The number of training pictures.
    """

    images: NDArray[np.uint8]
    distances: tuple[float, ...]
    usual: float
    searched: int


class TrainingPictures:
    """The pictures of a folder or .zip file; safe to share between threads.

    Files are chosen as the trainer chooses them. Those that cannot be read are left out silently: a trainer has named
    them already.

    Args:
        path: The folder, searched to any depth, or the .zip file.

    Raises:
        InvalidRequest: It is neither, or holds no picture.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loading = threading.Lock()
        self._shape: tuple[int, ...] = ()
        self._images: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._usual = float("nan")
        if next(self._files(), None) is None:
            raise InvalidRequest(f"--dataset: {path} holds no picture, by suffix or by content")

    def nearest(self, image: NDArray[np.uint8], count: int) -> Nearest:
        """The training pictures nearest to an image, scaled and cropped to its size as the trainer does.

        Args:
            image: uint8 (height, width, channels).
            count: The most pictures to find.

        Raises:
            InvalidRequest: The pictures cannot be read, are too many, or the image has an alpha channel.
        """
        with self._loading:
            if self._shape != image.shape:
                self._images = self._load(image.shape)
                self._usual = _usual_distance(self._images)
                self._shape = image.shape
            images, usual = self._images, self._usual
        distances = _distances(images, image)
        order = np.argsort(distances, kind="stable")[:count]
        return Nearest(images[order], tuple(float(distances[row]) for row in order), usual, len(images))

    def _load(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        height, width, channels = shape
        if channels not in (1, 3):
            raise InvalidRequest(f"nearest pictures: images of {channels} channels cannot be compared")
        found: list[NDArray[np.uint8]] = []
        for data in self._files():
            try:
                picture = decode_picture(data, formats=picture_formats(), max_pixels=MAX_PIXELS)
            except UnreadablePictureError:
                continue
            fitted = fit_picture(picture, width, height)
            pixels = np.asarray(fitted.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
            found.append(pixels.reshape(shape))
            if len(found) * pixels.nbytes > _MAX_TOTAL_BYTES:
                most = _MAX_TOTAL_BYTES // pixels.nbytes
                raise InvalidRequest(f"--dataset: {self._path} holds more than {most} pictures, the limit at this size")
        if not found:
            raise InvalidRequest(f"--dataset: none of the pictures in {self._path} can be read; name another folder")
        return np.stack(found)

    def _files(self) -> Iterator[bytes]:
        """The content of the picture files, in the order of their names."""
        try:
            if self._path.is_dir():
                for path in sorted(path for path in self._path.rglob("*") if path.is_file()):
                    if _is_picture(path, self._path):
                        yield read_regular_file(path, _MAX_FILE_BYTES)
                return
            with zipfile.ZipFile(self._path) as archive:
                for entry in sorted(entry.filename for entry in archive.infolist() if not entry.is_dir()):
                    if why_left_out(PurePosixPath(entry), partial(archive.open, entry)) is None:
                        with archive.open(entry) as file:
                            yield file.read(_MAX_FILE_BYTES)
        except (OSError, zipfile.BadZipFile, io.UnsupportedOperation) as error:
            raise InvalidRequest(
                f"--dataset: {self._path} cannot be read ({error}); name a folder or .zip file of pictures"
            ) from error


def _is_picture(path: Path, folder: Path) -> bool:
    return why_left_out(path.relative_to(folder), lambda: path.open("rb")) is None


def _distances(images: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The distance of each of `images` to `image`, (rows,), in grey levels."""
    rows = max(1, _PART_BYTES // (4 * image.size))
    wanted = image.astype(np.float32)
    parts = [
        np.sqrt(((images[start : start + rows].astype(np.float32) - wanted) ** 2).mean(axis=(1, 2, 3)))
        for start in range(0, len(images), rows)
    ]
    return np.concatenate(parts).astype(np.float64)


def _usual_distance(images: NDArray[np.uint8]) -> float:
    if len(images) < 2:
        return float("nan")
    chosen = np.linspace(0, len(images) - 1, min(_COMPARED, len(images))).round().astype(int)
    nearest = []
    for row in chosen:
        distances = _distances(images, images[row])
        distances[row] = np.inf
        nearest.append(distances.min())
    return float(np.median(nearest))
