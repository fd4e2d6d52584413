"""Images from a folder or a zip file, decoded to one tensor; every file is untrusted.

Any mix of sizes and modes is taken; `ganserve/pictures.py` says what a file means. What cannot be read is skipped by
name, up to a limit.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganserve.pictures import UnreadablePictureError, decode_picture, fit_picture
from trainer.errors import UserError
from trainer.progress import Progress

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_FILE_BYTES = 64 << 20
MAX_IMAGE_PIXELS = 64 << 20  # a decompression bomb is refused by its header, before it costs memory


@dataclass(frozen=True)
class ImageFile:
    """One file that may be an image."""

    name: str
    read: Callable[[], bytes]

    @property
    def path(self) -> PurePosixPath:
        """The path below the folder, or inside the archive."""
        return PurePosixPath(self.name.replace(os.sep, "/"))


@dataclass(frozen=True)
class ImageSource:
    """Image files in a stable order."""

    flag: str  # the --dataset value, for messages
    files: list[ImageFile]


@contextmanager
def open_source(kind: str, path: Path) -> Iterator[ImageSource]:
    """Opens a folder (searched to any depth) or a zip file.

    Raises:
        UserError: it is not there, is not what `kind` says, or holds no image.
    """
    flag = f"--dataset {kind}:{path}"
    if kind == "folder":
        if not path.is_dir():
            raise UserError(f"{flag}: no such folder")
        found = sorted(entry for entry in path.rglob("*") if entry.is_file())
        yield _source(flag, [ImageFile(str(entry.relative_to(path)), partial(_read_file, entry)) for entry in found])
        return
    if not path.is_file():
        raise UserError(f"{flag}: no such file")
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # hostile archives raise several kinds
        raise UserError(f"{flag}: not a readable zip file ({error})") from error
    with archive:
        entries = sorted(
            (entry for entry in archive.infolist() if not entry.is_dir()), key=lambda entry: entry.filename
        )
        yield _source(flag, [ImageFile(entry.filename, partial(_read_member, archive, entry)) for entry in entries])


def decode_all(
    source: ImageSource, image_size: int, max_corrupt_images: int, progress: Progress
) -> tuple[Tensor, list[str]]:
    """Decodes every image; returns (uint8 (N, C, size, size), one line for each file that was skipped).

    C is 1 if every image is gray, else 3.

    Raises:
        UserError: more than `max_corrupt_images` are unreadable, or nothing is left.
    """
    decoded, skipped = decode_each(source, image_size, max_corrupt_images, progress)
    images = [image for image in decoded if image is not None]
    if not images:
        raise UserError(f"{source.flag}: no readable image in it")
    return stack_images(images, channels=max(image.shape[2] for image in images)), skipped


def decode_each(
    source: ImageSource, image_size: int, max_corrupt_images: int, progress: Progress
) -> tuple[list[NDArray[np.uint8] | None], list[str]]:
    """Decodes every image; returns (an array (size, size, 1 or 3) a file, None if unreadable; a line for each None).

    Raises:
        UserError: more than `max_corrupt_images` are unreadable.
    """
    decoded: list[NDArray[np.uint8] | None] = []
    skipped: list[str] = []
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():  # of odd metadata, which is no reason to skip; sizes are checked
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
                        " mend the data set, or allow more with --max-corrupt"
                    )
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C waits for no more than the files in hand
    return decoded, skipped


def stack_images(images: Sequence[NDArray[np.uint8]], channels: int) -> Tensor:
    """One or more arrays (H, W, 1 or `channels`) -> uint8 (N, channels, H, W); gray ones are repeated."""
    alike = [image if image.shape[2] == channels else np.repeat(image, channels, axis=2) for image in images]
    return torch.from_numpy(np.stack(alike)).permute(0, 3, 1, 2).contiguous()


def decode_image(data: bytes, image_size: int) -> NDArray[np.uint8]:
    """Decodes one image file to (size, size, 1 or 3): short side resized, centre cropped.

    Raises:
        UnreadablePictureError: it is no image, is truncated, or is too large.
    """
    picture = decode_picture(data, formats=_FORMATS, max_pixels=MAX_IMAGE_PIXELS)
    fitted = fit_picture(picture, image_size, image_size)
    array = np.asarray(fitted, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def _decode(file: ImageFile, image_size: int) -> NDArray[np.uint8] | str:
    try:
        return decode_image(file.read(), image_size)
    except UnreadablePictureError as error:
        return str(error)


def _source(flag: str, files: list[ImageFile]) -> ImageSource:
    wanted = [file for file in files if _is_image_path(file.path)]
    if not wanted:
        raise UserError(f"{flag}: no image in it (looked for {', '.join(sorted(SUFFIXES))})")
    return ImageSource(flag, wanted)


def _is_image_path(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


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
            data = member.read(MAX_FILE_BYTES + 1)  # a header's size may lie, so the read itself is bounded
    except Exception as error:  # zipfile and zlib raise several kinds on hostile archives
        raise UnreadablePictureError(str(error) or type(error).__name__) from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadablePictureError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data
