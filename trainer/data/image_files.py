"""Decodes the images of a folder or zip file; every file is untrusted.

Sizes and modes may be mixed; ganserve/pictures.py decodes them. Unreadable files are skipped and named, up
to a limit.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganserve.machine import usable_cores
from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from trainer.errors import UserError
from trainer.progress import Progress

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_FILE_BYTES = 64 << 20
MAX_IMAGE_PIXELS = 64 << 20  # checked in the header, so that a decompression bomb is never decoded


@dataclass(frozen=True)
class ImageFile:
    """One file that may be an image."""

    name: str
    path: PurePosixPath  # below the folder, or inside the archive
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ImageSource:
    """Image files in a stable order."""

    flag: str  # --dataset and its value, for messages
    files: list[ImageFile]
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that are not read: why -> how many


@contextmanager
def open_source(kind: str, path: Path) -> Iterator[ImageSource]:
    """Opens a folder (searched to any depth) or a zip file.

    Raises:
        UserError: it does not exist, is not of this kind, or holds no image.
    """
    flag = f"--dataset {kind}:{path}"
    if kind == "folder":
        if not path.is_dir():
            raise UserError(f"{flag}: no such folder")
        found = sorted(entry for entry in path.rglob("*") if entry.is_file())
        yield _source(flag, [(str(entry.relative_to(path)), partial(_read_file, entry)) for entry in found])
        return
    if not path.is_file():
        raise UserError(f"{flag}: no such file")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # hostile archives raise many exception types
        raise UserError(f"{flag}: not a readable zip file ({error})") from error
    with archive:
        entries = sorted(
            (entry for entry in archive.infolist() if not entry.is_dir()), key=lambda entry: entry.filename
        )
        yield _source(flag, [(entry.filename, partial(_read_member, archive, entry)) for entry in entries])


def decode_each(
    source: ImageSource, image_size: int, max_corrupt_images: int, progress: Progress
) -> tuple[list[NDArray[np.uint8] | None], list[str]]:
    """Decodes every image.

    Returns:
        For each file an array (size, size, 1 or 3), or None if it is unreadable; and a line for each None.

    Raises:
        UserError: more than `max_corrupt_images` are unreadable.
    """
    decoded: list[NDArray[np.uint8] | None] = []
    skipped: list[str] = []
    progress.say(f"decoding {len(source.files):,} pictures to {image_size}x{image_size}")
    pool = ThreadPoolExecutor(max_workers=min(8, usable_cores()))
    try:
        with warnings.catch_warnings():  # odd metadata is no reason to skip a file; sizes are checked
            warnings.filterwarnings("ignore", module="PIL")
            results = pool.map(lambda file: _decode(file, image_size), source.files)
            for file in progress.track(source.files, "decoding"):
                result = next(results)
                if not isinstance(result, str):
                    decoded.append(result)
                    continue
                decoded.append(None)
                skipped.append(f"{file.name}: {result}")
                progress.say(f"skipped {skipped[-1]}")
                if len(skipped) > max_corrupt_images:
                    raise UserError(
                        f"{source.flag}: more than {max_corrupt_images} unreadable images;"
                        " fix the data set, or allow more with --max-corrupt"
                    )
    finally:
        pool.shutdown(cancel_futures=True)  # on an error or Ctrl-C, wait only for the files being decoded
    return decoded, skipped


def stack_images(images: Sequence[NDArray[np.uint8]], channels: int) -> Tensor:
    """One or more arrays (H, W, 1 or `channels`) -> uint8 (N, channels, H, W); gray images repeat their channel."""
    stacked = np.empty((len(images), channels, *images[0].shape[:2]), dtype=np.uint8)
    for row, image in zip(stacked, images, strict=True):
        row[:] = image.transpose(2, 0, 1)
    return torch.from_numpy(stacked)


def decode_image(data: bytes, image_size: int) -> NDArray[np.uint8]:
    """Decodes one image file to (size, size, 1 or 3): short side resized, centre cropped.

    Raises:
        UnreadablePictureError: it is not an image, is truncated, or is too large.
    """
    picture = decode_picture(data, formats=IMAGE_FORMATS, max_pixels=MAX_IMAGE_PIXELS)
    fitted = fit_picture(picture, image_size, image_size)
    array = np.asarray(fitted, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def _decode(file: ImageFile, image_size: int) -> NDArray[np.uint8] | str:
    try:
        return decode_image(file.read(), image_size)
    except UnreadablePictureError as error:
        return str(error)


def _source(flag: str, found: Iterable[tuple[str, Callable[[], bytes]]]) -> ImageSource:
    """Keeps the files that have an image's suffix and are not hidden."""
    files: list[ImageFile] = []
    left_out: Counter[str] = Counter()
    for name, read in found:
        path = PurePosixPath(name.replace(os.sep, "/"))
        if (reason := _why_left_out(path)) is None:
            files.append(ImageFile(name, path, read))
        else:
            left_out[reason] += 1
    if not files:
        others = f"; it holds {_counts(left_out)}" if left_out else ""
        raise UserError(f"{flag}: no images found (looked for {', '.join(sorted(SUFFIXES))}){others}")
    return ImageSource(flag, files, dict(left_out.most_common()))


def _why_left_out(path: PurePosixPath) -> str | None:
    """Why a file is not read; None if it is."""
    if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return path.suffix.lower() if path.suffix else "without a suffix"
    return None


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnreadablePictureError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadablePictureError(error.strerror or str(error)) from error


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(entry) as member:
            data = member.read(MAX_FILE_BYTES + 1)  # the header's size is untrusted, so the read is bounded
    except Exception as error:  # hostile archives raise many exception types
        raise UnreadablePictureError(str(error) or type(error).__name__) from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadablePictureError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data
