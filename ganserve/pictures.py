"""What a picture file means: upright pixels, gray or RGB, fitted to a size.

The trainer and the server read files alike, so there is one reader. Every file is untrusted. Palettes and transparency
are laid on white, 16-bit gray is scaled, EXIF rotation is applied, and of an animation the first frame counts.
Depends on Pillow and NumPy alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ganserve.picture_headers import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    UnreadablePictureError,
    exif_orientation,
    read_outline,
)

__all__ = ["JPEG_SIGNATURE", "PNG_SIGNATURE", "UnreadablePictureError", "decode_picture", "fit_picture"]

_STRIP_PIXELS: Final = 1 << 18  # of what is converted at once by way of a larger kind of pixels
_TURNS: Final = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(
    data: bytes,
    *,
    formats: Sequence[str],
    max_pixels: int,
    check_size: Callable[[int, int], None] = lambda width, height: None,
) -> Image.Image:
    """Decodes one file to mode L or RGB.

    At its peak this takes up to 12 bytes a pixel (a progressive CMYK JPEG keeps 8 of coefficients beside 4 of colours;
    other pictures take 8 or fewer), and a copy of the file if it holds metadata. Only PNG and JPEG files are safe to
    take from strangers: the metadata of the other formats are not bounded here.

    Args:
        data: the file.
        formats: Pillow's names of the formats that are taken; some others start programs of the system.
        max_pixels: a decompression bomb is refused by its header, before it costs memory.
        check_size: called with the header's width and height before anything is decoded; may raise
            UnreadablePictureError. A picture may still be turned on its side afterwards.

    Raises:
        UnreadablePictureError: it is no picture, is truncated, is too large, or has far more metadata or scans than
            pictures have.
        MemoryError: there is too little memory for it, which is not the file's fault.
    """
    outline = read_outline(data)
    try:
        with Image.open(io.BytesIO(outline.data), formats=list(formats)) as image:
            if image.width * image.height > max_pixels:
                raise UnreadablePictureError(f"{image.width}x{image.height} is too large")
            check_size(image.width, image.height)
            picture = _to_gray_or_rgb(image)
            exif = outline.exif or image.info.get("exif", b"")
            del image  # its pixels need not be kept while others are turned
        turn = _TURNS.get(exif_orientation(exif)) if isinstance(exif, bytes) else None
        return picture if turn is None else picture.transpose(turn)
    except (UnreadablePictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its text names a Python object
        raise UnreadablePictureError(f"not a picture of the formats {', '.join(formats)}") from error
    except Exception as error:  # decoders raise anything at all on hostile files
        raise UnreadablePictureError(str(error) or type(error).__name__) from error


def fit_picture(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resizes the side that has less to spare, and crops the centre."""
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def _to_gray_or_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        return _by_strips(image, "L", _from_16_bits)
    if image.mode == "F":
        return _by_strips(image, "L", _from_floating_point)
    if image.mode in {"1", "L"} and "transparency" not in image.info:
        return image if image.mode == "L" else image.convert("L")
    if image.has_transparency_data:
        return _by_strips(image, "L" if image.mode == "LA" else "RGB", _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _by_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts a few rows at a time, so that no more than the picture and its result are kept whole."""
    result = Image.new(mode, image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(convert(image.crop(box)).convert(mode), box)
    return result


def _from_16_bits(strip: Image.Image) -> Image.Image:
    """A scale guessed from the picture would brighten dark ones, so it is always that of 16 bits."""
    levels = np.asarray(strip).clip(0, 65535).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _from_floating_point(strip: Image.Image) -> Image.Image:
    levels = np.asarray(strip, dtype=np.float32) * np.float32(255)
    if not 0 <= levels.min() <= levels.max() <= 255:
        raise UnreadablePictureError("floating-point pixels outside 0..1")
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _on_white(strip: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA"))
