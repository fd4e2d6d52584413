"""Images from a folder or a zip file, decoded to one tensor; every file is untrusted.

Any mix of sizes and modes is taken: palettes and transparency are laid on white, 16-bit gray is scaled, EXIF rotation
is applied, and of an animation the first frame counts. What cannot be read is skipped by name, up to a limit.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from trainer.errors import UserError
from trainer.progress import Progress

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # no others: some start programs of the system
MAX_FILE_BYTES = 64 << 20
MAX_IMAGE_PIXELS = 64 << 20  # a decompression bomb is refused by its header, before it costs memory


class _UnreadableImageError(Exception):
    """One image cannot be used; the message says why."""


@dataclass(frozen=True)
class ImageFile:
    """One file that may be an image."""

    name: str
    read: Callable[[], bytes]


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
    decoded: list[NDArray[np.uint8]] = []
    skipped: list[str] = []
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # odd metadata is no reason to skip; sizes are checked here
            results = pool.map(lambda file: _decode(file, image_size), source.files)
            for file in progress.track(source.files, "decoding"):
                result = next(results)
                if not isinstance(result, str):
                    decoded.append(result)
                    continue
                skipped.append(f"{file.name}: {result}")
                progress.say(f"skipped {skipped[-1]}")
                if len(skipped) > max_corrupt_images:
                    raise UserError(
                        f"{source.flag}: more than {max_corrupt_images} unreadable images;"
                        " mend the data set, or allow more with --max-corrupt"
                    )
    finally:
        pool.shutdown(cancel_futures=True)  # an error or Ctrl-C waits for no more than the files in hand
    if not decoded:
        raise UserError(f"{source.flag}: no readable image in it")
    if any(image.shape[2] == 3 for image in decoded):
        decoded = [image if image.shape[2] == 3 else np.repeat(image, 3, axis=2) for image in decoded]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous(), skipped


def decode_image(data: bytes, image_size: int) -> NDArray[np.uint8]:
    """Decodes one image file to (size, size, 1 or 3): short side resized, centre cropped.

    Raises:
        _UnreadableImageError: it is no image, is truncated, or is too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise _UnreadableImageError(f"{image.width}x{image.height} is too large")
            plain = _to_gray_or_rgb(ImageOps.exif_transpose(image))
        fitted = ImageOps.fit(plain, (image_size, image_size), Image.Resampling.LANCZOS)
    except _UnreadableImageError:
        raise
    except Exception as error:  # decoders raise anything at all on hostile files
        raise _UnreadableImageError(str(error) or type(error).__name__) from error
    array = np.asarray(fitted, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array


def _decode(file: ImageFile, image_size: int) -> NDArray[np.uint8] | str:
    try:
        return decode_image(file.read(), image_size)
    except _UnreadableImageError as error:
        return str(error)


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel; a scale guessed from the image would brighten dark ones
        sixteen_bits = np.asarray(image).clip(0, 65535).astype(np.float32)
        return Image.fromarray(np.rint(sixteen_bits / 257).astype(np.uint8))
    if image.mode == "F":
        levels = np.asarray(image, dtype=np.float32) * np.float32(255)
        if not 0 <= levels.min() <= levels.max() <= 255:
            raise _UnreadableImageError("floating-point pixels outside 0..1")
        return Image.fromarray(np.rint(levels).astype(np.uint8))
    if image.mode in {"1", "L"} and "transparency" not in image.info:
        return image.convert("L")
    if image.has_transparency_data:
        gray = image.mode == "LA"
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        page.alpha_composite(rgba)
        return page.convert("L" if gray else "RGB")
    return image.convert("RGB")


def _source(flag: str, files: list[ImageFile]) -> ImageSource:
    wanted = [file for file in files if _is_image_name(file.name)]
    if not wanted:
        raise UserError(f"{flag}: no image in it (looked for {', '.join(sorted(SUFFIXES))})")
    return ImageSource(flag, wanted)


def _is_image_name(name: str) -> bool:
    path = PurePosixPath(name.replace(os.sep, "/"))
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise _UnreadableImageError(error.strerror or str(error)) from error


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(entry) as member:
            data = member.read(MAX_FILE_BYTES + 1)  # a header's size may lie, so the read itself is bounded
    except Exception as error:  # zipfile and zlib raise several kinds on hostile archives
        raise _UnreadableImageError(str(error) or type(error).__name__) from error
    if len(data) > MAX_FILE_BYTES:
        raise _UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data
